//! Init systems in containers: starts that of a job with steps, and tells whether one is up.

use super::containers;
use super::scope::Scope;
use super::services::ServiceFailureSignal;
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use events::{Event, Text};
use exchange::ServiceLog;
use hint::hinted;
use runtime::{Container, Program, ProgramCommand, Running, STOP_GRACE, Stdio};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an init system may take to come up. By default a unit that does not start holds systemd up for 90 s, and counts
/// as failed then (systemd-system.conf(5), `DefaultTimeoutStartSec=`); one more may wait for it.
pub(super) const UP_LIMIT: Duration = Duration::from_secs(180);
/// How often to ask while systemd does not answer yet.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// How long systemd may take to name its units.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Lines of the output of one that is not up that are shown.
const LINES_SHOWN: usize = 10;
/// Units that a message names.
const UNITS_NAMED: usize = 5;
/// Bytes of an answer that are kept.
const ANSWER_SIZE: usize = 16 << 10;

/// systemd's word for one that powers off, halts or reboots.
const STOPPING: &str = "stopping";

const SYSTEMCTL: &[&str] = &["/usr/bin/systemctl", "/bin/systemctl"];

/// How far an init system has come (systemctl(1), `is-system-running`).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All of it runs; or it is not systemd, and cannot be asked.
    Up,
    /// It is up, without these units.
    UpWithout(Vec<String>),
    /// systemd's word for it, if it has answered.
    ComesUp(Option<String>),
    /// It does not come up: systemd's word for it.
    Stuck(String),
}

/// Waits until an init system is up.
///
/// # Errors
/// When it ends, or is not up within `limit`: with the units that it waits for.
fn wait_until_up(container: &Container, init: &mut Running, limit: Duration) -> anyhow::Result<State> {
    let start = Instant::now();
    loop {
        let found = state(container, limit.saturating_sub(start.elapsed()).max(ASK_INTERVAL))?;
        if let State::Up | State::UpWithout(_) = found {
            return Ok(found);
        }
        if let Some(ended) = init.wait_briefly(ASK_INTERVAL) {
            return Err(hinted(format!("its init system ended: {ended}"), MEND));
        }
        let in_time = match found {
            State::Stuck(_) => "does not come up".into(),
            _ if start.elapsed() >= limit => format!("was not up within {} s", limit.as_secs_f32()),
            _ => continue,
        };
        return Err(hinted(format!("its init system {in_time}: {}", why_not_up(container)), MEND));
    }
}

/// The state of an init system, for whose end this waits at most for `limit` while it comes up.
///
/// # Errors
/// When it cannot be asked.
pub(super) fn state(container: &Container, limit: Duration) -> anyhow::Result<State> {
    if !SYSTEMCTL.iter().any(|path| container.has_path(Path::new(path))) {
        return Ok(State::Up);
    }
    let state = State::of(&ask(container, &["is-system-running", "--wait"], limit)?);
    match state {
        State::UpWithout(_) => Ok(State::UpWithout(units(container, &["list-units", "--failed"], 0))),
        state => Ok(state),
    }
}

impl State {
    fn of(answer: &str) -> Self {
        match answer.lines().last().unwrap_or_default().trim() {
            "running" => Self::Up,
            "degraded" => Self::UpWithout(Vec::new()),
            word @ ("maintenance" | STOPPING) => Self::Stuck(word.into()),
            word @ ("initializing" | "starting") => Self::ComesUp(Some(word.into())),
            // It has no socket yet, or not all of its units are loaded.
            _ => Self::ComesUp(None),
        }
    }

    /// A warning about one that is up.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::UpWithout(units) => Some(format!("systemd is up, but these units failed: {}", list(units))),
            _ => None,
        }
    }
}

/// Why an init system is not up: the units that it waits for.
pub(super) fn why_not_up(container: &Container) -> String {
    let word = match ask(container, &["is-system-running"], ANSWER_LIMIT).map(|answer| State::of(&answer)) {
        Ok(State::ComesUp(Some(word)) | State::Stuck(word)) => word,
        _ => return "systemd does not answer".into(),
    };
    match &units(container, &["list-jobs"], 1)[..] {
        [] => format!("systemd is `{word}`"),
        units => format!("systemd is `{word}`, and waits for {}", list(units)),
    }
}

/// The hint for one that is not up.
pub(super) const MEND: &str = "mend or mask the unit in the image, or start the image without systemd's mode: `options: --systemd=false`";

/// The names of units in a table of systemctl.
fn units(container: &Container, command: &[&str], column: usize) -> Vec<String> {
    let words = [command, &["--no-legend", "--plain", "--full"]].concat();
    let table = ask(container, &words, ANSWER_LIMIT).unwrap_or_default();
    let mut rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    // Of jobs, those that run come first; the others wait for them.
    rows.sort_by_key(|row| column > 0 && row.last() != Some(&"running"));
    let name =
        |row: &Vec<&str>| row.get(column).filter(|name| name.contains('.')).map(|name| (*name).to_owned());
    rows.iter().filter_map(name).collect()
}

fn list(units: &[String]) -> String {
    let mut named: Vec<_> = units.iter().take(UNITS_NAMED).map(|unit| format!("`{unit}`")).collect();
    if units.len() > UNITS_NAMED {
        named.push(format!("{} more", units.len() - UNITS_NAMED));
    }
    named.join(", ")
}

fn last_lines(log: &ServiceLog) -> Vec<String> {
    let text = log.end();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].iter().map(|line| (*line).into()).collect()
}

/// What systemctl(1) prints, at most within `limit`.
fn ask(container: &Container, words: &[&str], limit: Duration) -> anyhow::Result<String> {
    let answer = answer()?;
    let words = ["systemctl"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let program = Program {
        command: ProgramCommand::Exactly(words),
        env: [("SYSTEMD_COLORS", "0"), ("LC_ALL", "C")].map(|(key, value)| (key.into(), value.into())).into(),
        directory: Some("/".into()),
        user: Some("0".into()),
        stdio: Stdio::Log(Arc::new(answer.try_clone()?.into())),
    };
    let asked = container.run(&program).and_then(|mut program| program.wait(Some(limit)));
    asked.context("cannot ask systemd for its state")?;
    let mut text = vec![0; ANSWER_SIZE];
    let count = answer.read_at(&mut text, 0)?;
    Ok(String::from_utf8_lossy(&text[..count]).trim_end_matches('\0').to_owned())
}

/// A file in memory that cannot grow: the image chooses what its systemctl writes, and the memory is this process's.
fn answer() -> anyhow::Result<File> {
    let answer = File::from(memfd_create("answer", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    answer.set_len(ANSWER_SIZE as u64)?;
    fcntl_add_seals(&answer, SealFlags::GROW)?;
    Ok(answer)
}

/// The init system of a job with steps.
pub(super) struct OfSteps {
    label: String,
    log: ServiceLog,
    running: Running,
}

impl OfSteps {
    /// Starts it, and waits until it is up.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not up within `limit`.
    pub(super) fn start(
        id: &str,
        own: &workflow::Container,
        container: &Container,
        scope: &Scope,
        limit: Duration,
        report: &Report,
    ) -> anyhow::Result<Self> {
        // No service has such a name.
        let log = ServiceLog::create(&format!("{id}.own.init.log"));
        let log = log.context("cannot create the log of its init system")?;
        let program = containers::own_program(own, scope, Stdio::Log(log.writer()?.into()));
        let label = format!("job {id}");
        let mut running = container.run(&program).context("cannot start its init system")?;
        let _waiting = Waiting::start(report, format!("{label}: waiting for its init system"), limit);
        let start = Instant::now();
        let up = wait_until_up(container, &mut running, limit).inspect_err(|_| {
            let service = Some(Text::of(format_args!("{label}: init system")));
            let output =
                |text| Event::Output { service: service.clone(), failed: true, text: Text::of(text) };
            last_lines(&log).iter().for_each(|line| report.tell(output(line)));
        })?;
        let seconds = start.elapsed().as_secs_f32();
        report.say(format_args!("{label}: its init system is up after {seconds:.1} s"));
        up.warning().iter().for_each(|warning| report.warn(format_args!("{label}: {warning}")));
        Ok(Self { label, log, running })
    }

    /// Stops it and its container. A step may have asked it to power off or to reboot: then it has not long to live.
    ///
    /// # Errors
    /// When the kernel cannot end it.
    pub(super) fn stop(
        self,
        container: &mut Container,
        alarm: &ServiceFailureSignal,
        report: &Report,
    ) -> anyhow::Result<()> {
        let what = format!("{}: waiting for its init system to stop", self.label);
        let _waiting = Waiting::start(report, what, STOP_GRACE);
        let state = ask(container, &["is-system-running"], ANSWER_LIMIT);
        if state.is_ok_and(|answer| State::of(&answer) == State::Stuck(STOPPING.into())) {
            alarm.wait(self.running, Some(STOP_GRACE))?;
        }
        container.stop();
        self.log.remove();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_end_is_not_kept() {
        use std::io::Write as _;
        let mut answer = answer().unwrap();
        assert!(answer.write_all(&[b'x'; 2 * ANSWER_SIZE]).is_err());
        assert_eq!(answer.metadata().unwrap().len(), ANSWER_SIZE as u64);
    }

    #[test]
    fn the_words_of_systemctl_are_understood() {
        assert_eq!(State::of("running\n"), State::Up);
        assert_eq!(State::of("degraded\n"), State::UpWithout(Vec::new()));
        assert_eq!(State::of("maintenance\n"), State::Stuck("maintenance".into()));
        assert_eq!(State::of("starting\n"), State::ComesUp(Some("starting".into())));
        for not_yet in ["", "offline\n", "Failed to connect to bus: No such file or directory\n"] {
            assert_eq!(State::of(not_yet), State::ComesUp(None), "{not_yet}");
        }
    }

    #[test]
    fn a_long_list_of_units_is_shortened() {
        let units = Vec::from_iter((1..=7).map(|number| format!("{number}.service")));
        assert_eq!(list(&units[..1]), "`1.service`");
        assert!(list(&units).ends_with("`5.service`, 2 more"));
    }
}
