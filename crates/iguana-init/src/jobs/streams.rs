//! Standard input and output of the programs of jobs.

use super::job_output::JobOutput;
use runtime::{Stdio, Terminal};

/// Where the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// At the machine's console.
    Console,
    /// Where this program was called.
    Caller,
}

/// What jobs read from and write to, as it was before the first of them.
pub(crate) enum JobTerminal {
    /// The machine's consoles.
    Console(Terminal),
    /// That of the caller, who looks after it.
    Caller,
}

impl JobTerminal {
    pub(crate) fn open(streams: Streams) -> Self {
        match streams {
            Streams::Console => Self::Console(Terminal::of_machine()),
            Streams::Caller => Self::Caller,
        }
    }

    /// The standard input and output of a job's program, whose lines are added to `output`. At the console it has the
    /// terminal, if requested and available.
    pub(super) fn stdio(&self, tty: bool, output: &JobOutput) -> Stdio {
        let Self::Console(terminal) = self else { return Stdio::Inherited };
        let (of_lines, of_commands) = (output.clone(), output.clone());
        let terminal = terminal
            .heard_by(move |line| of_lines.add(line))
            .filtered_by(move |line| of_commands.carry_out(line), output.secrets());
        if tty && terminal.is_present() { Stdio::Terminal(terminal) } else { Stdio::Console(terminal) }
    }

    /// Restores the terminal after the containers of a job: with all rights, one without the terminal may have opened
    /// it.
    pub(super) fn restore(&self) {
        if let Self::Console(terminal) = self {
            terminal.restore();
        }
    }
}
