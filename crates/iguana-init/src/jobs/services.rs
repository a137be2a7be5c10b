//! Containers that run detached beside a job.

use super::images::Pulled;
use super::scope::Scope;
use super::{Setup, containers};
use crate::container::{Container, Ended, Running, STOP_GRACE, Stdio};
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use iguana_core::hint::hinted;
use iguana_core::workflow::{self, Ready, Sign};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where the services' output is kept.
const LOGS: &str = "/run/iguana/services";
/// How much of a failed service's output is shown, in lines.
const LINES_SHOWN: usize = 10;
/// How often a service is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long the loopback may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// A service that was started.
pub(super) struct Service {
    name: String,
    container: Container,
    program: Running,
    log: PathBuf,
}

impl Service {
    pub(super) fn start(
        job: &str,
        name: &str,
        service: &workflow::Service,
        scope: &Scope,
        pulled: &Pulled,
        setup: &Setup,
        report: &Report,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(LOGS)?;
        let log = Path::new(LOGS).join(format!("{job}.{name}.log"));
        let mut started = Self::run(job, name, service, scope, pulled, setup, log)
            .with_context(|| format!("cannot start the service `{name}`"))?;
        report.say(format_args!("service {name}: started"));
        if let Some(ready) = &service.ready {
            let start = Instant::now();
            started.wait_until_ready(service, ready, report)?;
            report.say(format_args!("service {name}: ready after {:.1} s", start.elapsed().as_secs_f32()));
        }
        Ok(started)
    }

    fn run(
        job: &str,
        name: &str,
        service: &workflow::Service,
        scope: &Scope,
        pulled: &Pulled,
        setup: &Setup,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let own = &service.container;
        let container = containers::start(&format!("{job}.{name}"), own, &own.volumes, scope, pulled, setup)?;
        let program = container.run(&containers::own_program(own, scope, Stdio::Log(log.clone())))?;
        Ok(Self { name: name.into(), container, program, log })
    }

    fn wait_until_ready(
        &mut self,
        service: &workflow::Service,
        ready: &Ready,
        report: &Report,
    ) -> anyhow::Result<()> {
        let sign = describe(&ready.sign);
        let what = format!("service {}: waiting for {sign}", self.name);
        let _waiting = Waiting::start(report, what, ready.limit);
        let start = Instant::now();
        loop {
            if self.shows(&ready.sign, service, ready.limit.saturating_sub(start.elapsed()))? {
                return Ok(());
            }
            if let Some(ended) = self.program.try_wait() {
                self.show_log(report);
                let message = format!("the service `{}` ended before it was ready: {ended}", self.name);
                return Err(hinted(message, "its own messages are above"));
            }
            if start.elapsed() >= ready.limit {
                self.show_log(report);
                let seconds = ready.limit.as_secs_f32();
                let message = format!("the service `{}` did not show {sign} in {seconds} s", self.name);
                return Err(hinted(
                    message,
                    "its own messages are above; `ready: {timeout: …}` gives it longer",
                ));
            }
            thread::sleep(ASK_EVERY);
        }
    }

    fn shows(&self, sign: &Sign, service: &workflow::Service, left: Duration) -> anyhow::Result<bool> {
        match sign {
            Sign::Path(path) => Ok(self.container.has_path(path)),
            Sign::Port(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                Ok(TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok())
            }
            Sign::Command(words) => {
                let log = Stdio::Log(self.log.clone());
                let program = containers::other_program(&service.container, words.clone(), log);
                let mut command = self
                    .container
                    .run(&program)
                    .with_context(|| format!("cannot ask the service `{}` whether it is ready", self.name))?;
                Ok(command.wait(Some(left.max(ASK_EVERY)))?.is_success())
            }
        }
    }

    /// Stops it; tells when it had ended by itself before its job.
    pub(super) fn stop(mut self, report: &Report) {
        match self.program.try_wait() {
            Some(ended) if !ended.is_success() => self.tell_early_end(ended, report),
            Some(_) => {}
            None => {
                let what = format!("service {}: waiting for its end", self.name);
                let _waiting = Waiting::start(report, what, STOP_GRACE);
                self.container.stop();
            }
        }
        report.say(format_args!("service {}: stopped", self.name));
    }

    fn tell_early_end(&self, ended: Ended, report: &Report) {
        report.warn(format_args!("service {}: it had ended before its job: {ended}", self.name));
        self.show_log(report);
    }

    fn show_log(&self, report: &Report) {
        let output = fs::read(&self.log).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            report.warn(format_args!("service {}: | {line}", self.name));
        }
    }
}

fn describe(sign: &Sign) -> String {
    match sign {
        Sign::Command(words) => format!("success of `{}`", words.join(" ")),
        Sign::Port(port) => format!("connections to port {port}"),
        Sign::Path(path) => format!("`{}` in it", path.display()),
    }
}
