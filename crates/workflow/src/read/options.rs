//! `container.options`, with the options of `docker create` and `podman create`.

use super::Reader;
use super::name_rules::{NameFault, NameOf};
use crate::duration;
use crate::expression::Template;
use crate::model::{Container, Ipc, Systemd};
use crate::nearest::nearest;
use crate::volume::{Volume, VolumeSource, target_path};
use std::iter::Peekable;
use std::ops::Range;
use std::path::Path;
use yaml_tree::document::Node;
use yaml_tree::finding::Severity;

/// How an option is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By itself, or with `=true` or `=false`.
    Flag,
    /// With a value.
    Value,
}

use Form::{Flag, Value};

/// The options that have an effect, by their long and short names.
const EFFECTIVE: &[(&str, &str, Form)] = &[
    ("entrypoint", "", Value),
    ("env", "e", Value),
    ("ipc", "", Value),
    ("memory", "m", Value),
    ("pid", "", Value),
    ("pids-limit", "", Value),
    ("privileged", "", Flag),
    ("read-only", "", Flag),
    ("systemd", "", Value),
    ("tmpfs", "", Value),
    ("tty", "t", Flag),
    ("user", "u", Value),
    ("volume", "v", Value),
    ("workdir", "w", Value),
];

/// Options that every container has anyway.
const GRANTED: &[(&str, &str, Form)] = &[
    ("init", "", Flag),
    ("interactive", "i", Flag),
    ("net", "", Value),
    ("network", "", Value),
    ("rm", "", Flag),
];

/// Options that privileged containers have anyway, and no others.
const GRANTED_TO_PRIVILEGED: &[(&str, &str, Form)] =
    &[("cap-add", "", Value), ("device", "", Value), ("security-opt", "", Value)];

/// The mounts and rules that `--security-opt` can take away, and that privileged containers do not have.
const UNCONFINED: &[&str] =
    &["seccomp=unconfined", "apparmor=unconfined", "label=disable", "no-new-privileges=false"];

/// Why an option is wrong, and a hint.
type Mistake = (String, String);

/// An option of a container, as it is written.
struct Given {
    name: &'static str,
    word: String,
}

impl Reader<'_> {
    /// Applies the options to the container. `has_terminal` is whether a container of its kind can have one.
    pub(super) fn options(&mut self, node: &Node, container: &mut Container, has_terminal: bool) {
        let Some(words) = self.plain_words(node).filter(|_| node.is_text()) else { return };
        let mut words = words.into_iter().flat_map(single_flags).peekable();
        let mut given = Vec::new();
        while let Some(word) = words.next() {
            if self.findings.are_enough() {
                return;
            }
            match Self::option(&word, &mut words, container) {
                Ok(name) => given.push(Given { name, word }),
                Err(mistake) => self.mistake(node, &word, mistake),
            }
        }
        for Given { name, word } in given {
            match in_vain(name, container, has_terminal) {
                Some(mistake) => self.mistake(node, &word, mistake),
                None if is_among(name, GRANTED) || is_among(name, GRANTED_TO_PRIVILEGED) => {
                    self.note_granted(node, &word, name);
                }
                None => {}
            }
        }
    }

    fn mistake(&mut self, node: &Node, word: &str, (message, hint): Mistake) {
        let span = self.word(node, word);
        self.findings.error("options", &span, message, hint);
    }

    /// The span of a word; the first one if there are several equal words.
    fn word(&self, node: &Node, word: &str) -> Range<usize> {
        let text = node.text().unwrap_or_default();
        match text.find(word) {
            Some(offset) => self.place(node, text, offset, word.len()),
            None => node.span.clone(),
        }
    }

    fn option(
        word: &str,
        rest: &mut Peekable<impl Iterator<Item = String>>,
        container: &mut Container,
    ) -> Result<&'static str, Mistake> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let Some((known, form)) = find(name) else {
            // The next word is probably the value of an unknown option, not another mistake.
            let _ = rest.next_if(|next| value.is_none() && !next.starts_with('-'));
            return Err(unknown(name));
        };
        let value = match (form, value) {
            (_, Some(value)) => value,
            (Flag, None) => "true".into(),
            (Value, None) => rest.next_if(|next| !next.starts_with('-')).ok_or_else(|| {
                (format!("`{name}` needs a value"), format!("write `{name} VALUE` or `--{known}=VALUE`"))
            })?,
        };
        if is_among(known, GRANTED) || is_among(known, GRANTED_TO_PRIVILEGED) {
            granted(known, &value)?;
        } else {
            apply(known, &value, container).map_err(|why| (format!("`{word}`: {why}"), remedy(known)))?;
        }
        Ok(known)
    }

    fn note_granted(&mut self, node: &Node, word: &str, name: &str) {
        let message = format!("`--{name}` has no effect: it always applies");
        let span = self.word(node, word);
        self.findings.add(Severity::Note, "options", &span, message, Some("it can be removed".into()));
    }
}

fn is_among(name: &str, options: &[(&str, &str, Form)]) -> bool {
    options.iter().any(|(known, ..)| *known == name)
}

/// Why an option would change nothing in this container, whose other options are applied.
fn in_vain(name: &str, container: &Container, has_terminal: bool) -> Option<Mistake> {
    let remove = || "remove it".to_owned();
    match name {
        _ if is_among(name, GRANTED_TO_PRIVILEGED) && !container.privileged => {
            let message = format!("`--{name}` cannot be combined with `privileged: false`");
            Some((message, "remove one of them".into()))
        }
        "systemd" if container.systemd == Systemd::Always && container.pid_host => {
            let message = "`--systemd=always` cannot be combined with the machine's processes (`pid: host`)";
            Some((message.into(), "remove one of them".into()))
        }
        "tty" if container.tty && !has_terminal => {
            Some(("`--tty` is not supported: a service has no terminal".into(), remove()))
        }
        "interactive" if !container.tty || !has_terminal => {
            let message = "`--interactive` is not supported without a terminal: the input is empty";
            Some((message.into(), remove()))
        }
        _ => None,
    }
}

/// Checks the value of an option that every container, or every privileged one, has anyway.
fn granted(name: &str, value: &str) -> Result<(), Mistake> {
    let refused =
        |why: &str| Err((format!("`--{name}={value}` is not supported: {why}"), "remove it".into()));
    match name {
        "net" | "network" if value != "host" => refused("every container uses the machine's network"),
        "init" | "interactive" | "rm" if value != "true" => refused("this option always applies"),
        "device" if !is_device_itself(value) => {
            refused("a privileged container has the machine's devices under their names, to read and write")
        }
        "security-opt" if !UNCONFINED.contains(&value) && !value.starts_with("unmask=") => {
            refused("a privileged container is not confined")
        }
        _ => Ok(()),
    }
}

/// Whether `--device` names a device of the machine, without another name or fewer rights for it.
fn is_device_itself(value: &str) -> bool {
    let mut parts = value.split(':');
    let path = parts.next().unwrap_or_default();
    path.starts_with("/dev/") && parts.all(|part| part == path || part == "rwm" || part == "rw")
}

/// Splits combined flags: `-it` is `-i -t`.
fn single_flags(word: String) -> Vec<String> {
    let is_flag = |letter: char| all().any(|(_, short, form)| *form == Flag && short.chars().eq([letter]));
    match word.strip_prefix('-') {
        Some(letters) if letters.len() > 1 && letters.chars().all(is_flag) => {
            letters.chars().map(|letter| format!("-{letter}")).collect()
        }
        _ => vec![word],
    }
}

fn all() -> impl Iterator<Item = &'static (&'static str, &'static str, Form)> {
    EFFECTIVE.iter().chain(GRANTED).chain(GRANTED_TO_PRIVILEGED)
}

fn find(name: &str) -> Option<(&'static str, Form)> {
    let mut all = all();
    let is_it = |(long, short): (&str, &str)| match name.strip_prefix("--") {
        Some(name) => name == long,
        None => name.strip_prefix('-').is_some_and(|name| !name.is_empty() && name == short),
    };
    all.find(|(long, short, _)| is_it((long, short))).map(|(long, _, form)| (*long, *form))
}

fn unknown(name: &str) -> Mistake {
    if !name.starts_with('-') {
        let hint = "move the image to `image`, and its arguments to `command`";
        return (format!("`{name}` is not an option"), hint.into());
    }
    if name.starts_with("--health") {
        return (format!("unknown option `{name}`"), "use the service's `ready: {command: …}`".into());
    }
    let names: Vec<&str> = all().map(|(long, ..)| *long).collect();
    let hint = match nearest(name.trim_start_matches('-'), names.iter().copied()) {
        Some(near) => format!("did you mean `--{near}`?"),
        None => format!("use one of `--{}`", names.join("`, `--")),
    };
    (format!("unknown option `{name}`"), hint)
}

fn remedy(name: &str) -> String {
    let value = match name {
        "entrypoint" => "[\"WORD\",\"WORD\"]",
        "env" => "NAME=VALUE",
        "ipc" => "private",
        "memory" => "64M",
        "pid" => "host",
        "pids-limit" => "100",
        "systemd" => "always",
        "tmpfs" => "/PATH:size=64M",
        "user" => "NAME",
        "volume" => "SOURCE:/PATH",
        "workdir" => "/PATH",
        _ => return format!("write `--{name}` or `--{name}=false`"),
    };
    format!("write `--{name}={value}`")
}

fn apply(name: &str, value: &str, container: &mut Container) -> Result<(), String> {
    let flag = || value.parse::<bool>().map_err(|_| format!("`{value}` is neither `true` nor `false`"));
    match name {
        "entrypoint" => container.entrypoint = Some(entrypoint(value)?),
        "env" => {
            let (key, value) =
                value.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("it must be `NAME=VALUE`")?;
            if let Some(NameFault { severity: Severity::Error, message, .. }) = NameOf::Variable.fault(key) {
                return Err(message);
            }
            container.env.insert(key.to_owned(), Template::literal(value));
        }
        "ipc" => container.ipc = ipc(value)?,
        "memory" => {
            let size = duration::bytes(value).ok_or(format!("`{value}` is not a size"))?;
            container.memory = Some(size);
        }
        "pids-limit" => {
            let count = value.parse().ok().filter(|count| *count > 0);
            container.pids = Some(count.ok_or(format!("`{value}` is not a number of processes"))?);
        }
        "pid" if value == "host" => container.pid_host = true,
        "pid" => return Err("only `host` is supported".into()),
        "privileged" => container.privileged = flag()?,
        "read-only" => container.read_only = flag()?,
        "systemd" => container.systemd = systemd(value)?,
        "tmpfs" => container.volumes.push(tmpfs(value)?),
        "tty" => container.tty = flag()?,
        "user" if value.is_empty() => return Err("it names no user".into()),
        "user" => container.user = Some(value.to_owned()),
        "volume" => container.volumes.push(Volume::parse(value)?),
        "workdir" if Path::new(value).is_absolute() => container.directory = Some(value.to_owned()),
        _ => return Err(format!("`{value}` is not an absolute path")),
    }
    Ok(())
}

/// One word, or a list of words in JSON; nothing drops the image's entrypoint (podman-run(1)).
fn entrypoint(value: &str) -> Result<Vec<Template>, String> {
    let words = match value {
        "" => Vec::new(),
        _ if value.starts_with('[') => serde_json::from_str::<Vec<String>>(value)
            .map_err(|error| format!("`{value}` is not a JSON list of words: {error}"))?,
        _ => vec![value.to_owned()],
    };
    Ok(words.into_iter().map(Template::literal).collect())
}

/// The values of podman-run(1). As there, a shareable namespace is shared only with containers that ask for it.
fn ipc(value: &str) -> Result<Ipc, String> {
    match value {
        "" => Ok(Ipc::SameRights),
        "shareable" => Ok(Ipc::Shareable),
        "private" => Ok(Ipc::Private),
        "host" => Ok(Ipc::Machine),
        _ => Err("only `host`, `private` and `shareable` are supported; the containers of a job with \
                  `shareable` share one namespace"
            .into()),
    }
}

/// The values of podman-run(1).
fn systemd(value: &str) -> Result<Systemd, String> {
    match value {
        "true" => Ok(Systemd::IfNamed),
        "always" => Ok(Systemd::Always),
        "false" => Ok(Systemd::Never),
        _ => Err(format!("`{value}` is neither `true`, `false` nor `always`")),
    }
}

/// Parses `PATH[:OPTION,…]`. Only the option `size=` has an effect.
fn tmpfs(value: &str) -> Result<Volume, String> {
    let (path, options) = value.split_once(':').unwrap_or((value, ""));
    if let Some(other) = options.split(',').find(|option| !option.is_empty() && !option.starts_with("size="))
    {
        return Err(format!("unknown option `{other}`: only `size=` is supported"));
    }
    let size = options.split(',').find_map(|option| option.strip_prefix("size="));
    let size = size.map(|size| duration::bytes(size).ok_or(format!("`{size}` is not a size"))).transpose()?;
    Ok(Volume { source: VolumeSource::Tmpfs(size), target: target_path(path)?, read_only: false })
}
