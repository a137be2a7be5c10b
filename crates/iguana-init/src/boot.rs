//! The stages of one boot, in order. No other file knows the order.

mod failure_policy;

use crate::control;
use crate::handover;
use crate::handover::{BootRecord, DiskBaseline, Handover, HandoverContext, KernelState};
use crate::jobs::Streams;
use crate::machine::clock;
use crate::machine::clock::Clock;
use crate::machine::devices::Devices;
use crate::machine::network::Network;
use crate::machine::random::Random;
use crate::machine::{devices, memory, modules, mounts, network, release};
use crate::report::{At as _, Failure, Report, Stage};
use crate::run_plan;
use crate::run_plan::{JobsOutcome, Prepared, RunOptions};
use crate::supervise;
use crate::supervise::{Message, Verdict};
use config::cmdline::Settings;
use config::trust::Trust;
use events::{Event, Text};
use failure_policy::Failed;
use fetch::http::Proxies;
use std::path::Path;
use std::process::ExitCode;
use workflow::Plan;

/// The kind of initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initrd {
    /// Iguana's own, from PID 1 on: nothing else manages the machine.
    Standalone,
    /// dracut's: it manages modules, devices, network and clock.
    Dracut,
}

/// The main function of the worker in the standalone initrd. It decides, and sends the verdict to PID 1 on standard
/// output.
pub(crate) fn work() -> ExitCode {
    memory::protect_from_oom_killer();
    let cmdline = config::cmdline::read("/proc/cmdline");
    let report = Report::open();
    supervise::report_periodically(&report);
    let (trust, settings) = read_trust(&cmdline);
    let verdict = Boot::new(Initrd::Standalone, &cmdline, &settings, &report).run(trust);
    Message::Decided(verdict).send();
    ExitCode::SUCCESS
}

/// Reads the trust directory, and the settings that it allows from the command line.
pub(crate) fn read_trust(cmdline: &str) -> (Result<Trust, Failure>, Settings) {
    let trust = Trust::from_directory(Path::new(trust_directory::HOME)).at(Stage::Trust);
    let settings = settings(trust.as_ref().ok(), cmdline);
    (trust, settings)
}

/// The state of one boot: what was requested, and what was found.
pub(crate) struct Boot<'a> {
    initrd: Initrd,
    cmdline: &'a str,
    settings: &'a Settings,
    report: &'a Report,
    before: Before,
}

/// The state before the first job, which the handover and the failure policy compare with.
#[derive(Default)]
struct Before {
    disks: DiskBaseline,
    kernel: Option<KernelState>,
    machine_id: Option<String>,
}

/// The result of all jobs.
struct Finished {
    plan: Plan,
    outcome: JobsOutcome,
    state: Option<BootRecord>,
}

impl<'a> Boot<'a> {
    /// `settings` is what the trust allows of `cmdline`.
    pub(crate) fn new(initrd: Initrd, cmdline: &'a str, settings: &'a Settings, report: &'a Report) -> Self {
        Self { initrd, cmdline, settings, report, before: Before::default() }
    }

    /// Runs the boot and returns the verdict.
    pub(crate) fn run(mut self, trust: Result<Trust, Failure>) -> Verdict {
        self.greet();
        match trust.map_err(|failure| self.failed(failure)).and_then(|trust| self.boot(trust)) {
            Ok(handover) => Verdict::HandOver(handover),
            Err(failed) => self.give_up(failed),
        }
    }

    /// Runs the workflow, then the handover. In between it frees memory and the disk that the workflow came from.
    fn boot(&mut self, trust: Trust) -> Result<Handover, Failed> {
        self.tell_unsigned(&trust);
        let finished = self.run_workflow(&trust);
        self.release_resources();
        finished.map_err(|failure| self.failed(failure)).and_then(|finished| self.hand_over(finished))
    }

    /// Everything up to the last job, in order.
    fn run_workflow(&mut self, trust: &Trust) -> Result<Finished, Failure> {
        let (settings, report) = (self.settings, self.report);
        let memory = memory::Watch::start();
        let random = Random::make();
        let machine = self.bring_up_machine()?;
        if let Err(error) = mounts::firmware_variables() {
            report.warn(format_args!("{error:#}: no boot entries can be made"));
        }
        self.wait_for(random)?;

        let http = trust.client().through(proxies(settings).at(Stage::ControlFile)?);
        let sources = control::Sources { http: &http, trust, report };
        if control::is_on_disk(settings) {
            // Wait for all disks: if two have the same label, the first to appear must not be taken for the only one.
            machine.settle(report);
        }
        let control_file = report.stage(Stage::ControlFile, || control::find(settings, &sources))?;
        let plan = report.stage(Stage::Workflow, || control_file.plan(report))?;
        let now = machine.clock().now();
        let pins = report.stage(Stage::Trust, || control_file.admit(&plan, now, &sources))?;
        if let Some(name) = &plan.name {
            report.say(format_args!("workflow: {name}"));
        }
        machine.settle(report);

        let mounted = exchange::mount(run_plan::shared_limits(&plan)).at(Stage::Job)?;
        let prepared = Prepared::new(mounted, settings, self.run_options(), report)?;
        handover::keep_identity(prepared.machine_id()).at(Stage::Job)?;
        let state = plan.state.as_ref().map(|place| BootRecord::begin(place, plan.name.as_deref(), report));
        self.before = Before {
            disks: DiskBaseline::now(),
            kernel: Some(KernelState::now()),
            machine_id: Some(prepared.machine_id().to_owned()),
        };
        let finder = control_file.finder(trust.finder(http.clone(), oci_reference::Machine::this()));
        let job_ended = move || machine.refresh_links();
        let outcome = report.during(Stage::Job, || prepared.run(&plan, finder, pins, job_ended))?;
        report.tell(memory.summary());
        Ok(Finished { plan, outcome, state })
    }

    /// Decides the handover, and records the end of this boot for the next one.
    fn hand_over(&self, finished: Finished) -> Result<Handover, Failed> {
        let Finished { plan, outcome, state } = finished;
        let failed_job = outcome.failures.first().map(ToString::to_string);
        let decided = self.report.during(Stage::Handover, || self.decide(&plan, outcome));
        if let Some(state) = state {
            let why = failed_job.or_else(|| decided.as_ref().err().map(|failed| failed.failure.to_string()));
            state.end(why.as_deref(), self.report);
        }
        decided
    }

    fn handover_context(&self) -> HandoverContext<'_> {
        HandoverContext {
            settings: self.settings,
            before: &self.before.disks,
            left_before: self.before.kernel.as_ref(),
            machine_id: self.before.machine_id.as_deref(),
            report: self.report,
        }
    }

    fn run_options(&self) -> RunOptions<'a> {
        RunOptions {
            cmdline: self.cmdline,
            may_swap: self.initrd == Initrd::Standalone,
            new_root: handover::NEW_ROOT.into(),
            privileged: true,
            debug: self.settings.debug,
            streams: Streams::Console,
        }
    }

    fn greet(&self) {
        let report = self.report;
        if self.settings.debug {
            report.show_details();
        }
        if self.settings.debug && !self.settings.no_shell {
            supervise::start_debug_shell(report);
        }
        let memory = memory::read().map_or(0, |memory| memory.total);
        let (version, kernel) = (Text::of(env!("CARGO_PKG_VERSION")), Text::of(release::kernel()));
        report.tell(Event::Boot { version, kernel, memory });
        for warning in &self.settings.warnings {
            report.warn(warning);
        }
    }

    fn tell_unsigned(&self, trust: &Trust) {
        if let Some(notice) = trust.unsigned_notice() {
            self.report.say(format_args!("trust: TLS is verified; {notice}"));
        }
    }

    /// Brings up modules, devices, network and clock. In a dracut initrd, dracut does that.
    fn bring_up_machine(&self) -> Result<Machine, Failure> {
        match self.initrd {
            Initrd::Standalone => Machine::bring_up(self.settings, self.report),
            Initrd::Dracut => {
                network::wait_for_others(self.cmdline, self.report);
                Ok(Machine { devices: None, _network: None, clock: None })
            }
        }
    }

    /// Waits for random numbers. TLS needs them; a workflow on a local disk does not.
    fn wait_for(&self, random: Random) -> Result<(), Failure> {
        match random.wait(self.report) {
            Err(error) if !control::needs_network(self.settings) => {
                self.report.warn(format_args!("random numbers: continuing without: {error:#}"));
                Ok(())
            }
            waited => waited.at(Stage::Network),
        }
    }

    /// Frees memory for the handover, and the disk that the workflow came from, which may be the one to boot from.
    fn release_resources(&self) {
        let media = handover::release_media();
        let all = if self.settings.debug { media } else { media.and(handover::release_store()) };
        if let Err(error) = all {
            self.report.warn(format_args!("cannot free what the jobs used: {error:#}"));
        }
    }
}

/// The settings that the trust allows; the most restrictive ones if the trust cannot be read.
fn settings(trust: Option<&Trust>, cmdline: &str) -> Settings {
    trust.map_or(Settings { no_shell: true, ..Settings::default() }, |trust| trust.rules.settings(cmdline))
}

/// What Iguana manages in the standalone initrd until the value is dropped; empty in a dracut initrd.
struct Machine {
    devices: Option<Devices>,
    _network: Option<Network>,
    clock: Option<Clock>,
}

impl Machine {
    fn bring_up(settings: &Settings, report: &Report) -> Result<Self, Failure> {
        let modules = report.stage(Stage::Modules, || modules::Modules::open(report))?;
        let devices = report.stage(Stage::Devices, || devices::watch(modules, report))?;
        let network = match report.stage(Stage::Network, || network::bring_up(settings, report)) {
            Err(failure) if !control::needs_network(settings) => {
                report.warn(format_args!("network: continuing without: {failure}"));
                None
            }
            brought_up => Some(brought_up?),
        };
        let clock = report.stage(Stage::Clock, || clock::set_not_before(release::build_date(), report))?;
        Ok(Self { devices: Some(devices), _network: network, clock: Some(clock) })
    }

    /// The clock as it was before Iguana set it.
    fn clock(&self) -> Clock {
        self.clock.unwrap_or_else(|| Clock::read(release::build_date()))
    }

    /// Waits until the content of the disks is known.
    fn settle(&self, report: &Report) {
        if let Some(devices) = &self.devices {
            devices.settle(report);
        }
    }

    /// Updates the links in `/dev/disk` after disks were changed. In a dracut initrd udev does that.
    fn refresh_links(&self) {
        if let Some(devices) = &self.devices {
            devices.refresh_links();
        }
    }
}

fn proxies(settings: &Settings) -> anyhow::Result<Proxies> {
    let except = settings.no_proxy.as_deref().unwrap_or_default();
    settings.proxy.as_ref().map_or(Ok(Proxies::default()), |proxy| Proxies::one(proxy, except))
}
