//! Runs credential helpers as docker and podman do: `docker-credential-NAME get`, with the server on standard input
//! (docker/docker-credential-helpers, `client`).

use crate::output;
use crate::waiting::Waiting;
use anyhow::{Context as _, Result, ensure};
use hint::{WithHint as _, hinted};
use iguana_vm::on_path;
use oci_pull::{CREDENTIAL_HELPER, CredentialHelpers, Login};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for one question: a helper may ask the user for a passphrase, or a cloud for a token.
const HELPER_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of an answer: twice the longest token that servers accept.
const ANSWER_LIMIT: u64 = 128 << 10;
/// Bytes of a failed helper's message that are shown.
const MESSAGE_LIMIT: usize = 400;
/// What every helper prints if it has no login (docker/docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The credential helpers on the PATH. Each is asked once for each server, and a warning is printed once.
#[derive(Debug, Default)]
pub(super) struct HelperPrograms {
    answers: Mutex<HashMap<Question, Outcome>>,
    warnings: Mutex<HashSet<String>>,
}

/// The names of a helper and of a server.
type Question = (String, String);
/// The login, or why the helper failed and the hint: an error cannot be copied.
type Outcome = Result<Option<Login>, (String, String)>;

impl CredentialHelpers for HelperPrograms {
    fn login(&self, name: &str, server: &str) -> Result<Option<Login>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.entry((name.to_owned(), server.to_owned())).or_insert_with(|| {
            let reason = |error| (format!("{error:#}"), hint::of(&error).unwrap_or_default().to_owned());
            ask(name, server, HELPER_LIMIT).map_err(reason)
        });
        answer.clone().map_err(|(why, hint)| hinted(why, hint))
    }

    fn warn(&self, error: &anyhow::Error) {
        let warning = format!("warning: {error:#}; continuing without a login");
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.insert(warning.clone()) {
            output::note(warning);
        }
    }
}

/// What a helper answered.
struct Answer {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn ask(name: &str, server: &str, limit: Duration) -> Result<Option<Login>> {
    let program = format!("{CREDENTIAL_HELPER}{name}");
    ensure!(!name.contains('/'), "`{program}` is not the name of a credential helper");
    let remedy =
        format!("run `echo {server} | {program} get` to see what it does, or log in with `skopeo login`");
    let path = on_path(&program).ok_or_else(|| {
        let host = server.trim_start_matches("https://").split('/').next().unwrap_or_default();
        let hint =
            format!("install it, or store the login in a file: `skopeo login --authfile auth.json {host}`");
        hinted(format!("the credential helper `{program}` is not on the PATH"), hint)
    })?;
    let _waiting = Waiting::start(format!("waiting for `{program}`"), limit);
    let answer = run(iguana_vm::command(path).arg("get"), server, limit);
    let answer = answer.with_context(|| format!("cannot run `{program}`")).hint(remedy.clone())?;
    read(&answer).with_context(|| format!("`{program}` failed")).hint(remedy)
}

/// The login in the answer. What a failed helper printed is its message, as in docker.
fn read(Answer { status, stdout, stderr }: &Answer) -> Result<Option<Login>> {
    if status.success() {
        return Login::of_helper(stdout);
    }
    let [printed, complained] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let (printed, complained) = (printed.trim(), complained.trim());
    if printed == NOT_FOUND {
        return Ok(None);
    }
    let message = if printed.is_empty() { complained } else { printed };
    let message: String = message.chars().take(MESSAGE_LIMIT).collect();
    Err(anyhow::anyhow!("{status}: {message}"))
}

/// Runs the program to its end. The answer is complete when the program and what it started have closed their output.
fn run(command: &mut Command, server: &str, limit: Duration) -> Result<Answer> {
    let end = Instant::now() + limit;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A name of a server fits into a pipe, so this does not wait; a helper need not read it.
        let _ = input.write_all(server.as_bytes());
    }
    let (stdout, stderr) = (bounded(child.stdout.take()), bounded(child.stderr.take()));
    let answered = wait(&child, end).and_then(|()| Ok((received(&stdout, end)?, received(&stderr, end)?)));
    if answered.is_err() {
        // It may have ended meanwhile.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let late = || format!("no answer within {} s", limit.as_secs());
    let (stdout, stderr) = answered.with_context(late)?;
    ensure!(stdout.len() as u64 <= ANSWER_LIMIT, "its answer exceeds {ANSWER_LIMIT} bytes");
    Ok(Answer { status, stdout, stderr })
}

/// Reads a stream in the background, to one byte beyond the limit. What writes more gets a broken pipe.
fn bounded(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (done, outcome) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What cannot be read is left out.
        let _ = stream.map(|stream| stream.take(ANSWER_LIMIT + 1).read_to_end(&mut bytes));
        // The receiver may have given up.
        let _ = done.send(bytes);
    });
    outcome
}

fn received(outcome: &Receiver<Vec<u8>>, end: Instant) -> Result<Vec<u8>> {
    Ok(outcome.recv_timeout(end.saturating_duration_since(Instant::now()))?)
}

/// Waits until the program has ended.
fn wait(child: &Child, end: Instant) -> Result<()> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(anyhow::anyhow!("it is still running")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Duration = Duration::from_secs(20);

    /// Runs a shell script as a helper.
    fn script(text: &str, limit: Duration) -> Result<Answer> {
        run(Command::new("sh").args(["-c", text, "helper", "get"]), "r.example", limit)
    }

    fn login(text: &str) -> Result<Option<Login>> {
        read(&script(text, SECONDS)?)
    }

    fn failure(text: &str) -> String {
        format!("{:#}", login(text).unwrap_err())
    }

    #[test]
    fn a_helper_reads_the_server_and_prints_the_login() {
        let found = login(
            "test $1 = get; read -r server; echo note >&2; echo \"{\\\"Username\\\":\\\"<token>\\\",\\\"Secret\\\":\\\"$server\\\"}\"",
        );
        assert_eq!(found.unwrap(), Some(Login::Token("r.example".into())));
        assert_eq!(login("echo '{}'").unwrap(), None);
    }

    #[test]
    fn a_helper_without_the_login_is_not_an_error() {
        assert_eq!(login("echo credentials not found in native keychain; exit 1").unwrap(), None);
        assert_eq!(failure("echo locked; echo more >&2; exit 1"), "exit status: 1: locked");
        assert_eq!(failure("echo no key >&2; exit 3"), "exit status: 3: no key");
        assert!(failure("kill -9 $$").starts_with("signal: 9"));
        let told = failure("echo secret");
        assert!(told.contains("did not answer with a JSON object") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn a_helper_has_limits_of_time_and_size() {
        let start = Instant::now();
        for script_text in ["exec sleep 60", "sleep 60 & exit 0"] {
            let error = script(script_text, Duration::from_secs(1)).map(|_| ()).unwrap_err();
            assert!(format!("{error:#}").starts_with("no answer within 1 s"), "{error:#}");
        }
        assert!(start.elapsed() < SECONDS);
        let error = script("exec head -c 200000 /dev/zero", SECONDS).map(|_| ()).unwrap_err();
        assert_eq!(format!("{error:#}"), "its answer exceeds 131072 bytes");
    }

    #[test]
    fn a_failure_is_remembered_with_its_hint() {
        let helpers = HelperPrograms::default();
        let errors = [(); 2].map(|()| helpers.login("no-such", "r.example").unwrap_err());
        for error in &errors {
            assert!(
                error.to_string().contains("`docker-credential-no-such` is not on the PATH"),
                "{error:#}"
            );
            assert!(hint::of(error).unwrap().starts_with("install it"));
        }
        errors.iter().for_each(|error| helpers.warn(error));
        assert_eq!((helpers.answers.lock().unwrap().len(), helpers.warnings.lock().unwrap().len()), (1, 1));
    }

    #[test]
    fn a_missing_helper_is_reported_with_a_hint() {
        for (name, told) in
            [("no-such", "`docker-credential-no-such` is not on the PATH"), ("/../sh", "is not the name")]
        {
            let error = ask(name, "https://index.docker.io/v1/", SECONDS).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
        let error = ask("no-such", "https://index.docker.io/v1/", SECONDS).unwrap_err();
        assert!(hint::of(&error).unwrap().ends_with("auth.json index.docker.io`"), "{error:#}");
    }
}
