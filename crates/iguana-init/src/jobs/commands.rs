//! The workflow commands that the programs of a job write: lines such as `::group::TITLE`.

use crate::report::Report;
use printable::Secrets;
use runtime::Shown;
use std::sync::{Mutex, PoisonError};
use workflow::Command;

/// Carries out the commands of one job.
pub(super) struct Commands {
    job: String,
    report: Report,
    secrets: Secrets,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Commands are output until this one: `::stop-commands::TOKEN`.
    resumed_by: Option<String>,
    /// The commands that were warned about.
    warned: Vec<String>,
}

impl Commands {
    /// `secrets` are those to which the job adds.
    pub(super) fn new(job: &str, report: &Report, secrets: Secrets) -> Self {
        Self { job: job.into(), report: report.clone(), secrets, state: Mutex::default() }
    }

    /// Carries out the command in a line, and returns what is shown in its place.
    pub(super) fn carry_out(&self, line: &str) -> Shown {
        let Some(command) = Command::parse(line) else { return Shown::AsItIs };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &state.resumed_by {
            if !command.name.eq_ignore_ascii_case(token) {
                return Shown::AsItIs;
            }
            state.resumed_by = None;
            return Shown::Nothing;
        }
        match command.name.as_str() {
            "group" => Shown::Instead(format!("> {}", command.message)),
            "error" | "warning" | "notice" => Shown::Instead(annotation(&command)),
            "debug" if self.report.shows_details() => Shown::Instead(annotation(&command)),
            "endgroup" | "debug" | "echo" => Shown::Nothing,
            "add-mask" => {
                self.hide(&command, &mut state.warned);
                Shown::Nothing
            }
            "stop-commands" => {
                state.resumed_by = Some(command.message);
                Shown::Nothing
            }
            _ => {
                self.warn_once(&command, &mut state.warned);
                Shown::AsItIs
            }
        }
    }

    fn hide(&self, command: &Command, warned: &mut Vec<String>) {
        if !self.secrets.add(&command.message) && !warned.contains(&command.name) {
            warned.push(command.name.clone());
            let why = "it is too long, or there are too many";
            self.report.warn(format_args!("job {}: a value of `::add-mask` is not hidden: {why}", self.job));
        }
    }

    fn warn_once(&self, command: &Command, warned: &mut Vec<String>) {
        let Some(instead) = command.instead() else { return };
        if !warned.contains(&command.name) {
            warned.push(command.name.clone());
            let (job, name) = (&self.job, &command.name);
            self.report
                .warn(format_args!("job {job}: the workflow command `::{name}` has no effect: {instead}"));
        }
    }
}

/// The text of a message about a place: `warning: TEXT (a.sh, line 7)`.
fn annotation(command: &Command) -> String {
    let property =
        |name: &str| command.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let title = property("title").map(|title| format!("{title}: ")).unwrap_or_default();
    let place = match (property("file"), property("line")) {
        (Some(file), Some(line)) => format!(" ({file}, line {line})"),
        (Some(file), None) => format!(" ({file})"),
        _ => String::new(),
    };
    format!("{}: {title}{}{place}", command.name, command.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_github_are_carried_out_or_warned_about() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let report = Report::to_log(log.path());
        let commands = Commands::new("install", &report, report.secrets());
        let instead = |text: &str| Shown::Instead(text.into());
        for (line, expected) in [
            ("::group::Disks", instead("> Disks")),
            ("::endgroup::", Shown::Nothing),
            ("::warning file=a.sh,line=7::low", instead("warning: low (a.sh, line 7)")),
            ("::error title=Disk::full", instead("error: Disk: full")),
            ("::debug::x", Shown::Nothing),
            ("::set-output name=a::b", Shown::AsItIs),
            ("::set-output name=c::d", Shown::AsItIs),
            ("::something-else::", Shown::AsItIs),
            ("::add-mask::s3cret", Shown::Nothing),
            ("::stop-commands::pause", Shown::Nothing),
            ("::add-mask::not me", Shown::AsItIs),
            ("::Pause::", Shown::Nothing),
            ("::endgroup::", Shown::Nothing),
        ] {
            assert_eq!(commands.carry_out(line), expected, "{line}");
        }
        let long = format!("::add-mask::{}", "x".repeat(10_000));
        (0..10).for_each(|_| assert_eq!(commands.carry_out(&long), Shown::Nothing));
        report.say("s3cret, not me");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut log, &mut text).unwrap();
        assert_eq!(text.matches("`::set-output` has no effect").count(), 1, "{text}");
        assert_eq!(text.matches("is not hidden: it is too long").count(), 1, "{text}");
        assert!(text.contains("GITHUB_OUTPUT") && text.ends_with("iguana: ***, not me\n"), "{text}");
    }
}
