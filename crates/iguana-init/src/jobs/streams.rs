//! What the programs of jobs read from and write to.

use runtime::{Stdio, Terminal};

/// Where the person is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// At the machine's console.
    Console,
    /// Where this program was called.
    Caller,
}

impl Streams {
    /// Runs something with the terminal, if it wants one and there is one; the terminal is set afterwards as it
    /// was before.
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

    /// After the end of containers that had the terminal: what one of them had left in the background may have stopped it
    /// once more.
    pub(super) fn resume(self) {
        if self == Self::Console {
            Terminal::resume();
        }
    }
}
