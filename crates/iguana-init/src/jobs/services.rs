//! Services: containers that run in the background of a job.

use super::Setup;
use super::containers;
use super::containers::{Name, Part, Prepared};
use super::images::Pulled;
use super::init_system::{self, State};
use super::scope::Scope;
use super::service_output::ServiceOutput;
use crate::bounded;
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use hint::hinted;
use oci_pull::HealthCheck;
use runtime::{Container, KernelAction, Program, ProgramExit, Running, STOP_GRACE, StopToken};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use workflow::{Ready, Restart, Sign};

/// How often to check whether a service is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a health check of an image may fail before its service is ready: at least as long as any `ready:`, whose default
/// this is, and at most as long as a person waits for a boot that says what it waits for.
const SHORTEST_CHECK: Duration = Duration::from_secs(60);
const LONGEST_CHECK: Duration = Duration::from_secs(600);
/// How long the watcher thread may take to notice the end of a container.
const WATCHER_LIMIT: Duration = Duration::from_secs(5);
/// How long the loopback interface may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The delay before a service is restarted. It doubles up to the longest delay, and starts anew after the service has
/// run for longer than that.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Raised when a service that the job needs has ended, or has asked for a kernel action: the job's program is stopped
/// then.
#[derive(Default)]
pub(super) struct ServiceFailureSignal {
    stop_token: StopToken,
    /// Why the first service ended, and a hint.
    reason: Mutex<Option<(String, &'static str)>>,
    /// The kernel action that a container of the job asked for, and which container.
    asked: Mutex<Option<(KernelAction, String)>>,
}

impl ServiceFailureSignal {
    fn ring(&self, reason: String, remedy: &'static str) {
        self.reason().get_or_insert((reason, remedy));
        self.stop_token.call();
    }

    /// # Errors
    /// When it was raised.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match &*self.reason() {
            None => Ok(()),
            Some((reason, remedy)) => Err(hinted(reason.clone(), *remedy)),
        }
    }

    /// Waits for the end of a program of the job, which is a success if a service asked for a kernel action meanwhile.
    ///
    /// # Errors
    /// When the program was stopped because a service has ended.
    pub(super) fn wait(&self, mut program: Running, limit: Option<Duration>) -> anyhow::Result<ProgramExit> {
        let ended = program.wait_unless(&self.stop_token, limit)?;
        match ended {
            ProgramExit::Stopped { .. } => {
                self.check()?;
                Ok(if self.asked().is_some() { ProgramExit::With(0) } else { ended })
            }
            ProgramExit::AskedFor { action, may_hand_over: true } => {
                self.ask(action, "the container".into());
                Ok(ended)
            }
            ended => Ok(ended),
        }
    }

    /// Notes that a container has asked for a kernel action. The first one counts: its job ends with it.
    fn ask(&self, action: KernelAction, who: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((action, who));
    }

    /// The kernel action that a container of the job asked for, and which container.
    pub(super) fn asked(&self) -> Option<(KernelAction, String)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reason(&self) -> MutexGuard<'_, Option<(String, &'static str)>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service that can be started.
pub(super) struct PreparedService {
    name: String,
    container: Prepared,
    program: Program,
    restart: Restart,
    output: ServiceOutput,
}

/// A running service and the thread that watches it.
pub(super) struct Service {
    watched: Arc<Watched>,
    watcher: JoinHandle<()>,
}

/// What the watcher and the job share.
struct Watched {
    service: PreparedService,
    alarm: Arc<ServiceFailureSignal>,
    report: Report,
    state: Mutex<ServiceState>,
    changed: Condvar,
}

struct ServiceState {
    phase: Phase,
    /// `None` while it is being restarted.
    container: Option<Container>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Runs,
    /// It has ended by itself, and is not restarted.
    Over(ProgramExit),
    /// The job has ended.
    Stops,
}

impl Service {
    pub(super) fn prepare(
        job: &str,
        name: &str,
        service: &workflow::Service,
        scope: &Scope,
        pulled: &Pulled,
        setup: &Setup,
    ) -> anyhow::Result<PreparedService> {
        let own = &service.container;
        let unique = Name { job, part: Part::Service(name) };
        let container = containers::prepare(unique, own, &own.volumes, scope, pulled, setup);
        let container = container.with_context(|| format!("cannot start the service `{name}`"))?;
        let output = ServiceOutput::create(name, &format!("{unique}.log"), setup.debug)?;
        Ok(PreparedService {
            name: name.into(),
            container,
            program: containers::own_program(own, scope, output.stdio()?),
            restart: service.restart,
            output,
        })
    }

    /// Stops the service.
    pub(super) fn stop(self) {
        let service = &self.watched.service;
        let has_failed = matches!(self.watched.state().phase, Phase::Over(_));
        self.watched.stop();
        // The watcher ends at once, unless the kernel cannot end the container.
        let _ = bounded::join(self.watcher, WATCHER_LIMIT);
        let report = &self.watched.report;
        service.output.report_if_shown(report);
        report.say(format_args!("{service}: stopped"));
        service.output.clean_up(has_failed);
    }
}

impl fmt::Display for PreparedService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "service {}", self.name)
    }
}

impl PreparedService {
    /// Starts the service, and waits until it is ready.
    pub(super) fn start(
        self,
        service: &workflow::Service,
        alarm: &Arc<ServiceFailureSignal>,
        report: &Report,
    ) -> anyhow::Result<Service> {
        let (container, program) =
            self.run().with_context(|| format!("cannot start the service `{}`", self.name))?;
        report.say(format_args!("{self}: started"));
        let watched = Arc::new(Watched {
            service: self,
            alarm: Arc::clone(alarm),
            report: report.clone(),
            state: Mutex::new(ServiceState { phase: Phase::Runs, container: Some(container) }),
            changed: Condvar::new(),
        });
        let watcher = Arc::clone(&watched);
        let watcher = thread::spawn(move || watcher.watch(program));
        let started = Service { watched, watcher };
        let container = &started.watched.service.container;
        let of_image = || container.health_check().map(ready_when_healthy);
        let up = || container.has_init_system().then_some(Readiness::INIT_SYSTEM);
        match service.ready.clone().or_else(of_image).map(Readiness::of).or_else(up) {
            Some(ready) => started.when_ready(service, &ready),
            None => Ok(started),
        }
    }

    fn run(&self) -> anyhow::Result<(Container, Running)> {
        let container = self.container.start()?;
        let program = container.run(&self.program)?;
        Ok((container, program))
    }

    fn starts_again_after(&self, ended: ProgramExit) -> bool {
        match self.restart {
            Restart::Never => false,
            Restart::OnFailure => !ended.is_success(),
            Restart::Always => true,
        }
    }
}

impl Service {
    fn when_ready(self, service: &workflow::Service, ready: &Readiness) -> anyhow::Result<Self> {
        let start = Instant::now();
        if let Err(error) = self.watched.wait_until_ready(service, ready) {
            self.watched.stop();
            let _ = bounded::join(self.watcher, WATCHER_LIMIT);
            return Err(error);
        }
        let seconds = start.elapsed().as_secs_f32();
        self.watched.report.say(format_args!("{}: ready after {seconds:.1} s", self.watched.service));
        Ok(self)
    }
}

impl Watched {
    /// Handles each end of the program until it is not restarted any more.
    fn watch(&self, program: Running) {
        let mut delay = FIRST_DELAY;
        let mut running = Ok(program);
        loop {
            let start = Instant::now();
            let ended = running.and_then(|mut program| program.wait(None));
            if self.state().phase == Phase::Stops {
                return;
            }
            if let Ok(ended @ ProgramExit::AskedFor { action, may_hand_over: true }) = ended {
                return self.asked_for(action, ended);
            }
            let how = match ended {
                Ok(ended) if !self.service.starts_again_after(ended) => return self.stays_ended(ended),
                Ok(ended) => ended.to_string(),
                Err(error) => format!("{error:#}"),
            };
            if start.elapsed() > LONGEST_DELAY {
                delay = FIRST_DELAY;
            }
            let seconds = delay.as_secs();
            self.report.warn(format_args!("{}: ended: {how}; restarting in {seconds} s", self.service));
            if self.stops_within(delay) {
                return;
            }
            delay = LONGEST_DELAY.min(2 * delay);
            running = self.start_again();
        }
    }

    fn asked_for(&self, action: KernelAction, ended: ProgramExit) {
        self.state().phase = Phase::Over(ended);
        self.alarm.ask(action, format!("the service `{}`", self.service.name));
        self.alarm.stop_token.call();
        self.changed.notify_all();
    }

    fn stays_ended(&self, ended: ProgramExit) {
        if self.service.restart == Restart::OnFailure {
            return self.report.say(format_args!("{}: ended", self.service));
        }
        self.report.warn(format_args!("{}: ended: {ended}", self.service));
        self.service.output.report_last_lines(&self.report);
        self.state().phase = Phase::Over(ended);
        self.changed.notify_all();
        let reason = format!("the service `{}` ended while the job ran: {ended}", self.service.name);
        let remedy = "check its messages above; `restart: on-failure` would restart it";
        self.alarm.ring(reason, ended.remedy().unwrap_or(remedy));
    }

    /// Ends the container and waits; `true` if the job has ended meanwhile.
    fn stops_within(&self, delay: Duration) -> bool {
        let mut state = self.state();
        state.container = None;
        let waited = self.changed.wait_timeout_while(state, delay, |state| state.phase != Phase::Stops);
        waited.unwrap_or_else(PoisonError::into_inner).0.phase == Phase::Stops
    }

    fn start_again(&self) -> anyhow::Result<Running> {
        // The lock is held throughout: the end of the job waits for the start, and then stops the service.
        let mut state = self.state();
        anyhow::ensure!(state.phase != Phase::Stops, "its job has ended");
        let (container, program) = self.service.run()?;
        state.container = Some(container);
        self.report.say(format_args!("{}: restarted", self.service));
        Ok(program)
    }

    fn stop(&self) {
        let mut state = self.state();
        state.phase = Phase::Stops;
        self.changed.notify_all();
        if let Some(mut container) = state.container.take() {
            let what = format!("{}: waiting for it to stop", self.service);
            let _waiting = Waiting::start(&self.report, what, STOP_GRACE);
            container.stop();
        }
    }

    fn wait_until_ready(&self, service: &workflow::Service, ready: &Readiness) -> anyhow::Result<()> {
        let (name, sign) = (&self.service.name, ready.describe());
        let what = format!("{}: waiting for {sign}", self.service);
        let _waiting = Waiting::start(&self.report, what, ready.limit);
        let start = Instant::now();
        loop {
            let left = ready.limit.saturating_sub(start.elapsed());
            let is_ready = match &ready.sign {
                Some(sign) => self.shows(sign, service, left)?,
                None => self.init_system_is_up(left)?,
            };
            if is_ready {
                return Ok(());
            }
            let state = self.state();
            if let Phase::Over(ended) = state.phase {
                let message = format!("the service `{name}` ended before it was ready: {ended}");
                return Err(hinted(message, "check its messages above"));
            }
            if start.elapsed() >= ready.limit {
                self.service.output.report_last_lines(&self.report);
                let seconds = ready.limit.as_secs_f32();
                let (why, remedy) = match (&ready.sign, &state.container) {
                    (None, Some(container)) => (init_system::why_not_up(container), init_system::MEND),
                    _ => (format!("no {sign}"), "check its messages above, or raise `ready: {timeout: …}`"),
                };
                let message = format!("the service `{name}` was not ready within {seconds} s: {why}");
                return Err(hinted(message, remedy));
            }
            // The end of the service wakes this up at once.
            let _ = self.changed.wait_timeout(state, ASK_INTERVAL);
        }
    }

    /// Waits for it while it comes up.
    fn init_system_is_up(&self, left: Duration) -> anyhow::Result<bool> {
        let state = self.state();
        let Some(container) = &state.container else { return Ok(false) };
        let found = init_system::state(container, left.max(ASK_INTERVAL))?;
        let warning = found.warning();
        warning.iter().for_each(|warning| self.report.warn(format_args!("{}: {warning}", self.service)));
        match found {
            State::Up | State::UpWithout(_) => Ok(true),
            State::ComesUp(_) => Ok(false),
            State::Stuck(_) => {
                let (name, why) = (&self.service.name, init_system::why_not_up(container));
                Err(hinted(format!("the service `{name}` does not get ready: {why}"), init_system::MEND))
            }
        }
    }

    fn shows(&self, sign: &Sign, service: &workflow::Service, left: Duration) -> anyhow::Result<bool> {
        let state = self.state();
        let Some(container) = &state.container else { return Ok(false) };
        match sign {
            Sign::Path(path) => Ok(container.has_path(path)),
            Sign::Port(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                Ok(TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok())
            }
            Sign::Command(words) => {
                let output = self.service.output.stdio()?;
                let program = containers::other_program(&service.container, words.clone(), output);
                let mut command = container.run(&program).with_context(|| {
                    format!("cannot run the `ready` command of the service `{}`", self.service.name)
                })?;
                Ok(command.wait(Some(left.max(ASK_INTERVAL)))?.is_success())
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, ServiceState> {
        // A panic leaves no partial change, so the state stays valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a service counts as started.
struct Readiness {
    /// What shows that it is ready; its init system, if there is none.
    sign: Option<Sign>,
    limit: Duration,
}

impl Readiness {
    const INIT_SYSTEM: Self = Self { sign: None, limit: init_system::UP_LIMIT };

    fn of(ready: Ready) -> Self {
        Self { sign: Some(ready.sign), limit: ready.limit }
    }

    fn describe(&self) -> String {
        self.sign.as_ref().map_or_else(|| "its init system".into(), describe)
    }
}

/// A service without `ready:` is ready when its image's health check succeeds.
fn ready_when_healthy(check: &HealthCheck) -> Ready {
    let limit = check.until_unhealthy.clamp(SHORTEST_CHECK, LONGEST_CHECK);
    Ready { sign: Sign::Command(check.command.clone()), limit }
}

fn describe(sign: &Sign) -> String {
    match sign {
        Sign::Command(words) => format!("success of `{}`", words.join(" ")),
        Sign::Port(port) => format!("connection to port {port}"),
        Sign::Path(path) => format!("path `{}`", path.display()),
    }
}
