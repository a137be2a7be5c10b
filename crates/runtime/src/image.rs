//! The image's config (OCI image-spec, config.md, "Properties"), and how programs are started by it.

use super::plan::ProgramCommand;
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use oci_pull::VerifiedImage;
use std::path::{Component, Path, PathBuf};

/// The signals that an image may name as its stop signal, in the spelling of `kill -l` (signal(7), x86 and Arm).
const SIGNALS: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];
/// The first real-time signal that a C library leaves to programs (glibc; signal(7)).
pub(super) const RTMIN: i32 = 34;
const LAST_SIGNAL: i32 = 64;

/// The properties of an image that running it needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) layers: Vec<PathBuf>,
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) directory: String,
    pub(super) user: String,
    pub(super) stop_signal: Option<i32>,
    /// The directories that it declares as volumes, without links resolved.
    pub(super) volumes: Vec<PathBuf>,
}

impl Image {
    /// The working directory of a program; a relative one is below the image's.
    pub(super) fn directory_for(&self, directory: Option<&str>) -> String {
        match directory {
            Some(directory) => Path::new(&self.directory).join(directory).to_string_lossy().into_owned(),
            None => self.directory.clone(),
        }
    }

    /// The properties of a verified image.
    ///
    /// # Errors
    /// When its stop signal does not exist.
    pub(super) fn of(image: &VerifiedImage) -> anyhow::Result<Self> {
        let config = image.configuration().config().clone().unwrap_or_default();
        let pairs = config.env().iter().flatten().filter_map(|pair| pair.split_once('='));
        let directory = config.working_dir().clone().filter(|path| !path.is_empty());
        let stop_signal = config.stop_signal().as_deref().filter(|name| !name.is_empty());
        Ok(Self {
            name: image.reference().to_string(),
            layers: image.layers().iter().map(|layer| layer.path().to_owned()).collect(),
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            command: config.cmd().clone().unwrap_or_default(),
            env: pairs.map(|(key, value)| (key.into(), value.into())).collect(),
            directory: directory.unwrap_or_else(|| "/".into()),
            user: config.user().clone().unwrap_or_default(),
            stop_signal: stop_signal.map(signal).transpose()?,
            volumes: config.volumes().iter().flatten().map(|path| absolute(path)).collect(),
        })
    }

    /// The arguments of a program. As in podman, another entrypoint drops the image's command.
    pub(super) fn arguments(&self, wanted: &ProgramCommand) -> anyhow::Result<Vec<String>> {
        let (entrypoint, command): (&[String], &[String]) = match wanted {
            ProgramCommand::Exactly(words) => (words, &[]),
            ProgramCommand::FromImage { entrypoint: Some(entrypoint), command } => {
                (entrypoint, command.as_deref().unwrap_or_default())
            }
            ProgramCommand::FromImage { entrypoint: None, command } => {
                (&self.entrypoint, command.as_deref().unwrap_or(&self.command))
            }
        };
        let arguments = [entrypoint, command].concat();
        if !arguments.is_empty() {
            return Ok(arguments);
        }
        Err(match wanted {
            ProgramCommand::FromImage { entrypoint: None, command: None } => hinted(
                format!("the image `{}` has neither an entrypoint nor a command", self.name),
                "set `ENTRYPOINT` or `CMD` in the image, or `command:` in the workflow",
            ),
            _ => hinted(
                format!("there is no command to execute in the image `{}`", self.name),
                "the workflow sets an empty `entrypoint:` or `command:`: name a program there",
            ),
        })
    }
}

/// A path of an image, as it is below its root: without `.`, `..` and doubled slashes.
fn absolute(path: &str) -> PathBuf {
    Path::new(path).components().fold(PathBuf::from("/"), |mut path, component| {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        path
    })
}

/// Parses `SIGTERM`, `TERM`, `term`, `15`, `SIGRTMIN+3`, `SIGRTMAX-1`.
fn signal(text: &str) -> anyhow::Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = || SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let from = |base: &str, sign: char| {
        let offset = name.strip_prefix(base)?;
        if offset.is_empty() { Some(0) } else { offset.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from) }
    };
    let real_time = || {
        let number = from("RTMIN", '+').map(|offset| RTMIN + offset);
        let number = number.or_else(|| from("RTMAX", '-').map(|offset| LAST_SIGNAL - offset));
        number.filter(|number| *number >= RTMIN)
    };
    let number = name.parse().ok().or_else(named).or_else(real_time);
    number
        .filter(|number| (1..=LAST_SIGNAL).contains(number))
        .with_context(|| format!("the image's stop signal `{text}` is unknown"))
        .hint("correct `STOPSIGNAL` in the image")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(Into::into).collect()
    }

    fn arguments(entrypoint: Option<&str>, command: Option<&str>) -> String {
        let image = Image { entrypoint: words("entry -e"), command: words("cmd -c"), ..Image::default() };
        let wanted =
            ProgramCommand::FromImage { entrypoint: entrypoint.map(words), command: command.map(words) };
        image.arguments(&wanted).map_or_else(|error| error.to_string(), |words| words.join(" "))
    }

    #[test]
    fn overrides_are_podmans() {
        assert_eq!(arguments(None, None), "entry -e cmd -c");
        assert_eq!(arguments(None, Some("other")), "entry -e other");
        assert_eq!(arguments(Some("mine"), None), "mine");
        assert_eq!(arguments(Some("mine"), Some("other")), "mine other");
        assert_eq!(arguments(Some(""), Some("other")), "other");
        assert!(arguments(Some(""), None).contains("there is no command to execute"));
    }

    #[test]
    fn exact_words_stand_for_themselves() {
        let image = Image { entrypoint: words("entry"), ..Image::default() };
        assert_eq!(image.arguments(&ProgramCommand::Exactly(words("sh -e"))).unwrap(), ["sh", "-e"]);
        let nothing = Image { name: "x/y".into(), ..Image::default() };
        let error = nothing.arguments(&ProgramCommand::FromImage { entrypoint: None, command: None });
        assert!(error.unwrap_err().to_string().contains("`x/y` has neither"));
    }

    #[test]
    fn paths_of_volumes_are_below_the_root() {
        let paths = ["/data/", "data", "/a/../data", "/.././/data"];
        assert!(paths.iter().all(|path| absolute(path) == Path::new("/data")));
        assert_eq!(absolute("."), Path::new("/"));
    }

    #[test]
    fn signals_by_name_and_number() {
        let names =
            ["SIGTERM", "QUIT", "15", "SIGRTMIN+3", "RTMIN", "sigint", "SIGRTMAX", "RTMAX-14", "SIGTSTP"];
        assert_eq!(names.map(|text| signal(text).unwrap()), [15, 3, 15, 37, 34, 2, 64, 50, 20]);
        for wrong in ["SIGNOTHING", "0", "65", "SIGRTMIN+99", "RTMIN3", "RTMIN+-1", "RTMAX-40", "SIG"] {
            assert!(signal(wrong).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }
}
