//! One boot, in order. The only file that knows the order.

use crate::control;
use crate::handover;
use crate::handover::{DiskBaseline, Handover, HandoverContext, State};
use crate::jobs;
use crate::machine::clock;
use crate::machine::clock::Clock;
use crate::machine::{devices, facts, identity, memory, modules, network, random, release};
use crate::report;
use crate::report::{At as _, Failure, Report, Stage};
use crate::supervise::Verdict;
use config::cmdline::{OnFailure, Settings};
use config::trust::Trust;
use exchange::Results;
use fetch::http::Proxies;
use runtime::Runtime;
use std::path::Path;
use std::process::ExitCode;
use workflow::Plan;

/// Whose initrd it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initrd {
    /// Ours, from PID 1 on: nobody else looks after the machine.
    Standalone,
    /// dracut's: modules, devices, network and clock are its own.
    Dracut,
}

/// The process that does the boot of the standalone initrd: decides, and tells PID 1 on standard output.
pub(crate) fn work() -> ExitCode {
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let report = Report::open();
    let (trust, settings) = read_trust(&cmdline);
    let verdict = run(Initrd::Standalone, trust, &cmdline, &settings, &report);
    match serde_json::to_string(&verdict) {
        Ok(text) => report::hand_on(&text),
        Err(_) => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// What the initrd believes, and what of the command line that lets pass.
pub(crate) fn read_trust(cmdline: &str) -> (Result<Trust, Failure>, Settings) {
    let trust = Trust::from_directory(Path::new(trust_directory::HOME)).at(Stage::Trust);
    let settings = settings(trust.as_ref().ok(), cmdline);
    (trust, settings)
}

/// The boot, from the settings to what is to be done at its end.
pub(crate) fn run(
    initrd: Initrd,
    trust: Result<Trust, Failure>,
    cmdline: &str,
    settings: &Settings,
    report: &Report,
) -> Verdict {
    let mut seen = Seen::default();
    match boot(initrd, trust, settings, cmdline, &mut seen, report) {
        Ok(handover) => Verdict::HandOver(handover),
        Err(failed) => give_up(failed, &seen.circumstances(settings, report)),
    }
}

/// What was there before the first job, for what comes after the last one, or after a failure.
#[derive(Default)]
struct Seen {
    disks: DiskBaseline,
    machine_id: Option<String>,
}

impl Seen {
    fn circumstances<'a>(&'a self, settings: &'a Settings, report: &'a Report) -> HandoverContext<'a> {
        HandoverContext { settings, before: &self.disks, machine_id: self.machine_id.as_deref(), report }
    }
}

/// Why a boot does not go on, and what is to be done about it.
struct Failed {
    failure: Failure,
    policy: OnFailure,
}

fn boot(
    initrd: Initrd,
    trust: Result<Trust, Failure>,
    settings: &Settings,
    cmdline: &str,
    seen: &mut Seen,
    report: &Report,
) -> Result<Handover, Failed> {
    let by_settings = |failure| Failed { failure, policy: settings.on_failure };
    greet(settings, report);
    let trust = trust.map_err(by_settings)?;
    trust
        .unsigned_notice()
        .iter()
        .for_each(|unsigned_notice| report.say(format_args!("trust: TLS is verified; {unsigned_notice}")));
    let run = prepare_and_run(initrd, trust, settings, cmdline, seen, report);
    release_resources(settings, report);
    let run = run.map_err(by_settings)?;
    let failed_job = run.failures.first().map(ToString::to_string);
    let around = seen.circumstances(settings, report);
    let decided = decide(&run.plan, run.failures, &run.results, &around);
    if let Some(state) = run.state {
        let why = failed_job.or_else(|| decided.as_ref().err().map(|failed| failed.failure.to_string()));
        state.end(why.as_deref(), report);
    }
    decided
}

/// What comes next needs the memory, and may be on the very disk that the workflow came from.
fn release_resources(settings: &Settings, report: &Report) {
    let media = handover::release_media();
    let all = if settings.debug { media } else { media.and(handover::release_store()) };
    if let Err(error) = all {
        report.warn(format_args!("what the jobs needed is still there: {error:#}"));
    }
}

/// What the command line asks for and the trust allows; nothing where the trust cannot be read.
fn settings(trust: Option<&Trust>, cmdline: &str) -> Settings {
    trust.map_or(Settings { no_shell: true, ..Settings::default() }, |trust| trust.rules.settings(cmdline))
}

/// What the last job leaves behind.
struct Run {
    plan: Plan,
    /// Those that were not allowed.
    failures: Vec<Failure>,
    state: Option<State>,
    results: Results,
}

/// Everything up to the last job.
fn prepare_and_run(
    initrd: Initrd,
    trust: Trust,
    settings: &Settings,
    cmdline: &str,
    seen: &mut Seen,
    report: &Report,
) -> Result<Run, Failure> {
    let memory = memory::Watch::start();
    let random = random::Random::make();
    let machine = match initrd {
        Initrd::Standalone => Some(Machine::bring_up(settings, report)?),
        Initrd::Dracut => {
            network::wait_for_others(cmdline, report);
            None
        }
    };
    wait_for(random, settings, report)?;

    let proxies = proxies(settings).at(Stage::ControlFile)?;
    let http = trust.client().through(proxies);
    if control::is_on_disk(settings) {
        // Of two disks with one label the first must not be taken for the only one.
        machine.iter().for_each(|machine| machine.devices.settle(report));
    }
    let sources = control::Sources { http: &http, trust: &trust, report };
    let control_file = control::find(settings, &sources).at(Stage::ControlFile)?;
    let plan = control_file.plan(report).at(Stage::Workflow)?;
    let clock = machine.as_ref().map_or_else(|| Clock::read(release::build_date()), |machine| machine.clock);
    let pins = control_file.admit(&plan, clock.now(), &sources).at(Stage::Trust)?;
    plan.name.iter().for_each(|name| report.say(format_args!("workflow: {name}")));
    machine.iter().for_each(|machine| machine.devices.settle(report));

    let machine_id = identity::machine_id(settings, report).at(Stage::Job)?;
    let shared = exchange::mount(shared_limits(&plan))
        .and_then(|mounted| mounted.begin(&machine_id, &report.progress_sink()));
    let shared = shared.at(Stage::Job)?;
    let space = memory::StoreMemory::mount(initrd == Initrd::Standalone, report).at(Stage::Image)?;
    let state = plan.state.as_ref().map(|place| State::begin(place, plan.name.as_deref(), report));
    *seen = Seen { disks: DiskBaseline::now(), machine_id: Some(machine_id) };
    let finder = control_file.finder(trust.finder(http.clone(), oci_reference::Machine::this()));
    let setup = jobs::Setup {
        images: jobs::Images::open(finder, pins, space, report).at(Stage::Image)?.into(),
        store: memory::STORE.into(),
        writable_by_others: jobs::writable_by_others(&plan, memory::STORE.as_ref(), true),
        machine: facts::read(),
        cmdline: facts::cmdline(cmdline),
        new_root: handover::NEW_ROOT.into(),
        privileged: true,
        debug: settings.debug,
        runtime: Runtime::open(),
        streams: jobs::Streams::Console,
        // Where it is not ours to keep, udev keeps the links to disks.
        job_ended: Box::new(move || machine.iter().for_each(|machine| machine.devices.refresh_links())),
    };
    let failures = jobs::run(&plan, &setup, report);
    shared.finish();
    report.say(memory.summary());
    Ok(Run { plan, failures, state, results: shared.results() })
}

/// The most that `/iguana` may hold.
pub(crate) fn shared_limits(plan: &Plan) -> exchange::Limits {
    exchange::Limits::new(plan.shared_size, memory::read().map_or(0, |memory| memory.total))
}

/// Without random numbers there is no TLS; what is on disks can be had all the same.
fn wait_for(random: random::Random, settings: &Settings, report: &Report) -> Result<(), Failure> {
    match random.wait(report) {
        Err(error) if !control::needs_network(settings) => {
            report.warn(format_args!("random numbers: going on without: {error:#}"));
            Ok(())
        }
        waited => waited.at(Stage::Network),
    }
}

/// What the standalone initrd looks after, until the value is dropped.
struct Machine {
    devices: devices::Devices,
    _network: Option<network::Network>,
    clock: Clock,
}

impl Machine {
    fn bring_up(settings: &Settings, report: &Report) -> Result<Self, Failure> {
        let modules = modules::Modules::open(report).at(Stage::Modules)?;
        let devices = devices::watch(modules, report).at(Stage::Devices)?;
        let network = match network::bring_up(settings, report) {
            Err(error) if !control::needs_network(settings) => {
                report.warn(format_args!("network: going on without: {error:#}"));
                None
            }
            brought_up => Some(brought_up.at(Stage::Network)?),
        };
        let clock = clock::set_not_before(release::build_date(), report).at(Stage::Clock)?;
        Ok(Self { devices, _network: network, clock })
    }
}

fn proxies(settings: &Settings) -> anyhow::Result<Proxies> {
    let except = settings.no_proxy.as_deref().unwrap_or_default();
    settings.proxy.as_ref().map_or(Ok(Proxies::default()), |proxy| Proxies::one(proxy, except))
}

/// The result files decide, unless the workflow has its own policy; without any, the first failure is the reason.
fn decide(
    plan: &Plan,
    failures: Vec<Failure>,
    results: &Results,
    around: &HandoverContext<'_>,
) -> Result<Handover, Failed> {
    if let (workflow::OnFailure::Do(policy), false) = (plan.on_failure, failures.is_empty()) {
        return Err(Failed { failure: first_of(failures, around.report), policy });
    }
    let by_settings = |failure| Failed { failure, policy: around.settings.on_failure };
    match handover::decide(results, around).map_err(by_settings)? {
        Some(handover) => {
            for failure in failures {
                around.report.failure(&failure);
                around.report.say("  going on: a container wrote what comes next");
            }
            Ok(handover)
        }
        None if failures.is_empty() => handover::discover(around).map_err(by_settings),
        None => Err(by_settings(first_of(failures, around.report))),
    }
}

/// The first failure, which is the reason; the others are told.
fn first_of(mut failures: Vec<Failure>, report: &Report) -> Failure {
    let first = failures.remove(0);
    failures.iter().for_each(|failure| report.failure(failure));
    first
}

/// Tells the failure. With the policy `local`, the system that is on the disk already is tried.
fn give_up(failed: Failed, around: &HandoverContext<'_>) -> Verdict {
    let report = around.report;
    report.failure(&failed.failure);
    if failed.policy != OnFailure::Local {
        return Verdict::Failed(failed.policy);
    }
    report.say("on failure: the system on the disk (local)");
    match handover::local(around) {
        Ok(handover) => Verdict::HandOver(handover),
        Err(failure) => {
            report.failure(&failure);
            Verdict::Failed(OnFailure::Local)
        }
    }
}

fn greet(settings: &Settings, report: &Report) {
    if settings.debug {
        report.show_details();
    }
    let memory = memory::read().map_or(0, |memory| memory.total >> 20);
    let (version, kernel) = (env!("CARGO_PKG_VERSION"), release::kernel());
    report.say(format_args!("version {version}, kernel {kernel}, {memory} MiB memory"));
    for warning in &settings.warnings {
        report.warn(warning);
    }
}
