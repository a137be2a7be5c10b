//! Standard input and output of the programs of jobs.

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
    /// The machine's console, if it is a terminal.
    Console(Option<Terminal>),
    /// That of the caller, who looks after it.
    Caller,
}

impl JobTerminal {
    pub(crate) fn open(streams: Streams) -> Self {
        match streams {
            Streams::Console => Self::Console(Terminal::find()),
            Streams::Caller => Self::Caller,
        }
    }

    /// Calls `run` with the terminal, if requested and available. The terminal's settings are restored afterwards.
    pub(super) fn attached<T>(&self, tty: bool, run: impl FnOnce(Stdio) -> T) -> T {
        match self {
            Self::Console(Some(terminal)) if tty => {
                terminal.lend();
                let done = run(Stdio::Terminal(terminal.path().into()));
                terminal.restore();
                done
            }
            Self::Console(_) => run(Stdio::Console),
            Self::Caller => run(Stdio::Inherited),
        }
    }

    /// Restores the terminal after the containers of a job: with all rights, one without the terminal may have opened it, and
    /// one that ended in the background may have stopped it again.
    pub(super) fn restore(&self) {
        if let Self::Console(Some(terminal)) = self {
            terminal.restore();
        }
    }
}
