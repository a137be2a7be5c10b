//! The only printer: the console for the person at the machine, and the log.

mod failure;
mod waiting;

pub(crate) use failure::{At, Failure, Stage};
pub(crate) use waiting::Waiting;

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};

/// Everything that was said, also what the console did not show.
pub(crate) const LOG: &str = "/run/iguana/log";

/// Says things. Copies speak through the same console and log.
#[derive(Clone)]
pub(crate) struct Report {
    outputs: Arc<Mutex<Outputs>>,
}

struct Outputs {
    console: Option<File>,
    log: Option<File>,
    debug: bool,
}

impl Report {
    /// Speaks to the console, and to the log if it can be written.
    pub(crate) fn open() -> Self {
        let console = OpenOptions::new().write(true).open("/dev/console").ok();
        if let Some(folder) = Path::new(LOG).parent() {
            // Without a log the console still tells everything that matters.
            let _ = std::fs::create_dir_all(folder);
        }
        let log = OpenOptions::new().append(true).create(true).open(LOG).ok();
        Self { outputs: Arc::new(Mutex::new(Outputs { console, log, debug: false })) }
    }

    /// Shows on the console what [`Report::detail`] says, too.
    pub(crate) fn show_details(&self) {
        self.outputs().debug = true;
    }

    /// Tells the person at the machine.
    pub(crate) fn say(&self, text: impl Display) {
        self.outputs().write(&text.to_string(), true);
    }

    /// For the log; shown only with `rd.iguana.debug`.
    pub(crate) fn detail(&self, text: impl Display) {
        let mut outputs = self.outputs();
        let show = outputs.debug;
        outputs.write(&text.to_string(), show);
    }

    /// One block that says what failed, why, where, and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut outputs = self.outputs();
        for line in failure.lines() {
            outputs.write(&line, true);
        }
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        // A panic while printing must not silence the others.
        self.outputs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Outputs {
    fn write(&mut self, text: &str, show: bool) {
        let uptime = uptime();
        for line in text.lines() {
            let line = format!("[{uptime:9.3}] iguana: {line}\n");
            let shown = if show { self.console.as_mut() } else { None };
            for output in shown.into_iter().chain(self.log.as_mut()) {
                // Nobody is left to be told when a console cannot be written.
                let _ = output.write_all(line.as_bytes());
            }
        }
    }
}

/// Seconds since the kernel started, as in its own messages.
pub(crate) fn uptime() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// `iguana-init --version`.
pub(crate) fn version() -> ExitCode {
    println!("iguana-init {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// What somebody sees who calls this program by hand.
pub(crate) fn not_for_people() -> ExitCode {
    eprintln!(
        "iguana-init: error: this program runs as process 1 of an initrd\n  \
         hint: make one with `iguana build`, or try a workflow with `iguana try WORKFLOW`"
    );
    ExitCode::from(2)
}
