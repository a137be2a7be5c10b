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

impl Streams {
    /// Calls `run` with the terminal, if requested and available. The terminal's settings are restored afterwards.
    pub(super) fn attached<T>(self, tty: bool, run: impl FnOnce(Stdio) -> T) -> T {
        if self == Self::Caller {
            return run(Stdio::Inherited);
        }
        let terminal = if tty { Terminal::find() } else { None };
        let stdio = terminal.as_ref().map_or(Stdio::Console, |found| Stdio::Terminal(found.path().into()));
        let done = run(stdio);
        if let Some(terminal) = terminal {
            terminal.restore();
        }
        done
    }

    /// Resumes the terminal after containers have used it: a background process of theirs may have stopped it again.
    pub(super) fn resume(self) {
        if self == Self::Console {
            Terminal::resume();
        }
    }
}
