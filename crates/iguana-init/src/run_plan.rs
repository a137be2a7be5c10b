//! Runs a plan, in a boot and on a running system alike: `/iguana`, the store, and the jobs.

use crate::handover;
use crate::jobs::{self, Images, JobTerminal, Setup, Streams};
use crate::machine::facts;
use crate::machine::memory::{self, StoreMemory};
use crate::report::{At as _, Failure, Report, Stage};
use config::cmdline::Settings;
use exchange::{Mounted, Results, Shared, Writers};
use oci_pull::Finder;
use oci_trust::pins::Pins;
use runtime::Runtime;
use std::path::PathBuf;
use workflow::Plan;

/// The differences between a boot and a run on a running system.
pub(crate) struct RunOptions<'a> {
    /// The kernel command line, from which the `cmdline` context is made.
    pub(crate) cmdline: &'a str,
    /// Whether the store may use swap, because Iguana manages the machine.
    pub(crate) may_swap: bool,
    /// The root of the new system: `NEWROOT` in containers.
    pub(crate) new_root: PathBuf,
    /// Whether containers may have all rights.
    pub(crate) privileged: bool,
    /// Whether images are kept after their last job, and the output of services is shown.
    pub(crate) debug: bool,
    pub(crate) streams: Streams,
}

/// `/iguana` and the store are mounted; nothing was pulled or started yet.
pub(crate) struct Prepared<'a> {
    options: RunOptions<'a>,
    report: &'a Report,
    machine_id: String,
    shared: Shared,
    space: StoreMemory,
}

/// The result of all jobs.
pub(crate) struct JobsOutcome {
    /// Failures that were not allowed, in order.
    pub(crate) failures: Vec<Failure>,
    pub(crate) results: Results,
}

/// The size limits of `/iguana`.
pub(crate) fn shared_limits(plan: &Plan) -> exchange::Limits {
    exchange::Limits::new(plan.shared_size, memory::read().map_or(0, |memory| memory.total))
}

impl<'a> Prepared<'a> {
    /// Creates the files that every container finds in `/iguana`, and mounts the store.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new(
        mounted: Mounted,
        settings: &Settings,
        options: RunOptions<'a>,
        report: &'a Report,
    ) -> Result<Self, Failure> {
        let machine_id = handover::machine_id(settings, report).at(Stage::Job)?;
        let writers = match options.streams {
            Streams::Console => Writers::Everybody,
            Streams::Caller => Writers::Root,
        };
        let shared = mounted.begin(&machine_id, &report.progress_sink(), writers).at(Stage::Job)?;
        let space = StoreMemory::mount(options.may_swap, report).at(Stage::Image)?;
        Ok(Self { options, report, machine_id, shared, space })
    }

    /// The machine-id that containers see.
    pub(crate) fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Runs all jobs with images from `finder`. Calls `job_ended` after the containers of each job have ended.
    ///
    /// # Errors
    /// When no job can be run because the store cannot be opened.
    pub(crate) fn run(
        self,
        plan: &Plan,
        finder: Finder,
        pins: Pins,
        job_ended: impl Fn() + Send + Sync + 'static,
    ) -> Result<JobsOutcome, Failure> {
        let Self { options, report, machine_id, shared, space } = self;
        let setup = Setup {
            images: Images::open(finder, pins, space, report).at(Stage::Image)?.into(),
            store: memory::STORE.into(),
            machine: facts::read(),
            cmdline: facts::cmdline(options.cmdline),
            new_root: options.new_root,
            machine_id,
            privileged: options.privileged,
            writable_by_others: jobs::writable_by_others(plan, memory::STORE.as_ref(), options.privileged),
            debug: options.debug,
            runtime: Runtime::open(),
            shared,
            terminal: JobTerminal::open(options.streams),
            job_ended: Box::new(job_ended),
        };
        let failures = jobs::run(plan, &setup, report);
        setup.shared.finish();
        Ok(JobsOutcome { failures, results: setup.shared.results() })
    }
}
