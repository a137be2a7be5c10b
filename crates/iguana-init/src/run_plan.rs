//! One way to run a plan, in a boot and on a system that is up: `/iguana`, the store, and the jobs in them.

use crate::handover;
use crate::jobs::{self, Images, Setup, Streams};
use crate::machine::facts;
use crate::machine::memory::{self, StoreMemory};
use crate::report::{At as _, Failure, Report, Stage};
use config::cmdline::Settings;
use exchange::{Mounted, Results, Shared};
use oci_pull::Finder;
use oci_trust::pins::Pins;
use runtime::Runtime;
use workflow::Plan;

/// What a boot and a run on a system that is up do differently.
pub(crate) struct RunOptions<'a> {
    /// What expressions see as `cmdline`, as the kernel has it.
    pub(crate) cmdline: &'a str,
    /// Whether the store may be stretched by swap: nobody else looks after the machine.
    pub(crate) may_swap: bool,
    /// What containers see as `NEWROOT`.
    pub(crate) new_root: String,
    /// Whether containers may have all rights.
    pub(crate) privileged: bool,
    /// Whether images stay after their last job, and what services wrote is shown.
    pub(crate) debug: bool,
    pub(crate) streams: Streams,
}

/// `/iguana` and the store are mounted, and no image or container is there yet.
pub(crate) struct Prepared<'a> {
    options: RunOptions<'a>,
    report: &'a Report,
    machine_id: String,
    shared: Shared,
    space: StoreMemory,
}

/// What the jobs left.
pub(crate) struct JobsOutcome {
    /// Those that were not allowed, the first one first.
    pub(crate) failures: Vec<Failure>,
    pub(crate) results: Results,
}

/// The most that `/iguana` may hold.
pub(crate) fn shared_limits(plan: &Plan) -> exchange::Limits {
    exchange::Limits::new(plan.shared_size, memory::read().map_or(0, |memory| memory.total))
}

impl<'a> Prepared<'a> {
    /// Makes what every container finds in `/iguana`, and mounts the store.
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
        let shared = mounted.begin(&machine_id, &report.progress_sink()).at(Stage::Job)?;
        let space = StoreMemory::mount(options.may_swap, report).at(Stage::Image)?;
        Ok(Self { options, report, machine_id, shared, space })
    }

    /// What the containers see as the machine's identity.
    pub(crate) fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Runs all jobs, and calls `job_ended` when the containers of one are gone. The images come from `finder`.
    ///
    /// # Errors
    /// When no job can be run: the store cannot be opened.
    pub(crate) fn run(
        self,
        plan: &Plan,
        finder: Finder,
        pins: Pins,
        job_ended: impl Fn() + Send + Sync + 'static,
    ) -> Result<JobsOutcome, Failure> {
        let Self { options, report, shared, space, .. } = self;
        let setup = Setup {
            images: Images::open(finder, pins, space, report).at(Stage::Image)?.into(),
            store: memory::STORE.into(),
            machine: facts::read(),
            cmdline: facts::cmdline(options.cmdline),
            new_root: options.new_root,
            privileged: options.privileged,
            writable_by_others: jobs::writable_by_others(plan, memory::STORE.as_ref(), options.privileged),
            debug: options.debug,
            runtime: Runtime::open(),
            streams: options.streams,
            job_ended: Box::new(job_ended),
        };
        let failures = jobs::run(plan, &setup, report);
        shared.finish();
        Ok(JobsOutcome { failures, results: shared.results() })
    }
}
