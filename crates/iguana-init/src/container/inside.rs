//! Process 1 of a container: builds the root, starts the program, passes signals on, reaps.

use super::plan::{Plan, Stdio};
use super::{rootfs, terminal, user};
use crate::sys::{self, Session};
use anyhow::Context as _;
use iguana_core::hint::{self, WithHint as _, hinted};
use iguana_core::image::VerifiedImage;
use indexmap::IndexMap;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};

/// Where it is written that the program runs, or why it cannot be started.
const ERROR_DESCRIPTOR: i32 = 3;
/// Written when the program runs.
const STARTED: &str = "started";
/// podman's exit status for a container whose program could not be started.
const NOT_STARTED: u8 = 125;
/// The end of a child, and what is passed on to the program.
const WAITED_FOR: &[i32] = &[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
/// podman's, for images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All that process 1 of a container must know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    layers: Vec<PathBuf>,
    scratch: PathBuf,
    binds: Vec<super::plan::Bind>,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
    folder: String,
    user: String,
    stdio: Stdio,
}

impl Order {
    /// Puts together what the image says (OCI image-spec, config.md, "Properties") and what is planned.
    pub(super) fn new(image: &VerifiedImage, plan: &Plan) -> anyhow::Result<Self> {
        let config = image.configuration().config().clone().unwrap_or_default();
        let lists = [config.entrypoint(), config.cmd()];
        let arguments: Vec<String> = lists.into_iter().flatten().flatten().cloned().collect();
        if arguments.is_empty() {
            return Err(hinted(
                format!("the image `{}` has neither an entrypoint nor a command", image.reference()),
                "set `ENTRYPOINT` or `CMD` when the image is built",
            ));
        }
        let image_env = config.env().iter().flatten().filter_map(|pair| pair.split_once('='));
        let mut env: Vec<(String, String)> =
            image_env.map(|(key, value)| (key.into(), value.into())).collect();
        env.extend(plan.env.iter().cloned());
        Ok(Self {
            layers: image.layers().iter().map(|layer| layer.folder().to_owned()).collect(),
            scratch: plan.scratch.clone(),
            binds: plan.binds.clone(),
            arguments,
            env,
            folder: config
                .working_dir()
                .clone()
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| "/".into()),
            user: config.user().clone().unwrap_or_default(),
            stdio: plan.stdio.clone(),
        })
    }
}

/// Why a container's program does not run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    chain: Vec<String>,
    hint: Option<String>,
}

impl Refusal {
    fn of(error: &anyhow::Error) -> Self {
        Self {
            chain: error.chain().map(ToString::to_string).collect(),
            hint: hint::of(error).map(Into::into),
        }
    }

    /// What process 1 wrote: that the program runs, or why not.
    pub(super) fn read(text: &str) -> Result<(), Self> {
        if text == STARTED {
            return Ok(());
        }
        Err(serde_json::from_str(text).unwrap_or_else(|_| Self {
            chain: vec!["the container's process 1 ended before it could start the program".into()],
            hint: Some("memory may be full; the kernel's messages say so".into()),
        }))
    }

    pub(super) fn into_error(self) -> anyhow::Error {
        let mut causes = self.chain.into_iter().rev();
        let innermost = anyhow::Error::msg(causes.next().unwrap_or_default());
        let error = causes.fold(innermost, |error, context| error.context(context));
        match self.hint {
            Some(hint) => Err::<(), _>(error).hint(hint).unwrap_err(),
            None => error,
        }
    }
}

/// The life of process 1. Its exit status is the program's.
pub(crate) fn init() -> ExitCode {
    // Closes by itself when the program runs or this process ends.
    let errors = match sys::take_over_descriptor(ERROR_DESCRIPTOR) {
        Ok(descriptor) => File::from(descriptor),
        Err(_) => return ExitCode::from(NOT_STARTED),
    };
    match start() {
        Ok((program, terminal)) => {
            // Nobody listens any more when the machine's side is gone.
            let _ = (&errors).write_all(STARTED.as_bytes());
            drop(errors);
            let status = supervise(program);
            terminal.iter().for_each(terminal::drain);
            ExitCode::from(status)
        }
        Err(error) => {
            let text = serde_json::to_string(&Refusal::of(&error)).unwrap_or_default();
            // Nobody listens any more when the machine's side is gone.
            let _ = (&errors).write_all(text.as_bytes());
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Starts the program; gives back the terminal, too, if it has one.
fn start() -> anyhow::Result<(Pid, Option<File>)> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let order: Order = serde_json::from_slice(&text).context("the order is damaged")?;
    rootfs::enter(&order.layers, &order.scratch, &order.binds)?;
    sys::block_signals(WAITED_FOR)?;
    let terminal = lead_terminal(&order.stdio)?;
    let mut program = program(&order, terminal.as_ref())?;
    let program = program.spawn().map_err(|error| explain(error, &order.arguments[0]))?;
    let process = Pid::from_raw(program.id() as i32).context("the program has no process id")?;
    Ok((process, terminal))
}

/// The terminal, its session led by this process: so it outlives the program, and what the program
/// wrote last can still be sent.
fn lead_terminal(stdio: &Stdio) -> anyhow::Result<Option<File>> {
    let Stdio::Terminal(path) = stdio else { return Ok(None) };
    let open = || terminal::open(path).and_then(|terminal| sys::lead_session(&terminal).map(|()| terminal));
    Ok(Some(open().with_context(|| format!("cannot take the terminal `{}`", path.display()))?))
}

/// The program as the image and the plan want it.
fn program(order: &Order, terminal: Option<&File>) -> anyhow::Result<Command> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let user = user::look_up(&order.user, &read("/etc/passwd"), &read("/etc/group"))?;
    let mut env: IndexMap<&str, &str> = IndexMap::from([("PATH", DEFAULT_PATH), ("HOME", &user.home)]);
    env.extend(order.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let path = find(&order.arguments[0], env["PATH"])?;
    fs::create_dir_all(&order.folder)
        .with_context(|| format!("cannot make the image's working folder `{}`", order.folder))?;
    let mut command = Command::new(&path);
    command.current_dir(&order.folder);
    let session = match terminal {
        Some(terminal) => {
            let copy = || terminal.try_clone();
            command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
            Session::Foreground
        }
        None => {
            command.stdin(process::Stdio::null());
            Session::Own
        }
    };
    sys::set_up_process(&mut command, user.identity, session);
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    sys::execute_exactly(&mut command, &path, &order.arguments, &env)
        .context("the arguments or the environment hold a zero byte")?;
    Ok(command)
}

/// Looks a program up as a shell does.
fn find(name: &str, search_path: &str) -> anyhow::Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let candidates = search_path.split(':').map(|folder| Path::new(folder).join(name));
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(is_program).ok_or_else(|| {
        hinted(
            format!("there is no program `{name}` in the image"),
            format!("its `PATH` is `{search_path}`; check the image's entrypoint and command"),
        )
    })
}

fn explain(error: io::Error, program: &str) -> anyhow::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "the file, or the interpreter that it names, is not in the image; check the image's entrypoint and command"
        }
        Some(libc::ENOEXEC) => "it is for another processor architecture, or a script without a `#!` line",
        Some(libc::EACCES) => "it is not executable: `chmod +x` it when the image is built",
        _ => "check the image's entrypoint and command",
    };
    let failed = Err::<(), _>(error).with_context(|| format!("cannot execute `{program}`"));
    failed.hint(remedy).unwrap_err()
}

/// Passes signals on and reaps, until the program has ended. The kernel ends whatever is left then.
fn supervise(program: Pid) -> u8 {
    loop {
        match sys::wait_for_signal(WAITED_FOR) {
            Ok(libc::SIGCHLD) => {
                if let Some(status) = reap(program) {
                    return status;
                }
            }
            Ok(signal) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // The program may just have ended; the next signal is then its SIGCHLD.
                    let _ = kill_process(program, signal);
                }
            }
            Err(_) => return NOT_STARTED,
        }
    }
}

/// Reaps all that have ended; the program's exit status if it is among them.
fn reap(program: Pid) -> Option<u8> {
    let mut result = None;
    while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG) {
        if process == program {
            let signal = || status.terminating_signal().map(|signal| 128 + signal);
            result = status.exit_status().or_else(signal).map(|status| status as u8);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_crosses_the_pipe_with_chain_and_hint() {
        let error = Err::<(), _>(anyhow::anyhow!("inner")).context("outer").hint("do this").unwrap_err();
        let text = serde_json::to_string(&Refusal::of(&error)).unwrap();
        let error = Refusal::read(&text).unwrap_err().into_error();
        assert_eq!(format!("{error:#}"), "outer: inner");
        assert_eq!(hint::of(&error), Some("do this"));
        assert!(Refusal::read(STARTED).is_ok());
        assert!(Refusal::read("").unwrap_err().into_error().to_string().contains("process 1 ended"));
    }

    #[test]
    fn programs_are_found_along_the_path() {
        assert_eq!(find("sh", "/nonexistent:/bin").unwrap(), PathBuf::from("/bin/sh"));
        assert_eq!(find("./x", "").unwrap(), PathBuf::from("./x"));
        assert!(find("no-such-program", "/bin").unwrap_err().to_string().contains("`no-such-program`"));
    }
}
