//! One boot, in order. The only file that knows the order.

use crate::control;
use crate::handover::{self, Handover};
use crate::jobs;
use crate::machine::{clock, devices, identity, memory, modules, mounts, network, release};
use crate::report::{At as _, Failure, Report, Stage};
use crate::supervise::Verdict;
use anyhow::Context as _;
use iguana_core::cmdline::{OnFailure, Settings};
use iguana_core::http;
use iguana_core::image::{Registries, Store};
use iguana_core::trust::tls::Roots;
use iguana_core::workflow;
use std::path::Path;
use std::process::ExitCode;

/// The process that does the boot: decides, and tells process 1 on standard output.
pub(crate) fn work() -> ExitCode {
    let report = Report::open();
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let settings = Settings::parse(&cmdline);
    let verdict = match boot(&settings, &report).or_else(|failure| go_local(failure, &settings, &report)) {
        Ok(handover) => Verdict::HandOver(handover),
        Err(failure) => {
            report.failure(&failure);
            Verdict::Failed
        }
    };
    match serde_json::to_string(&verdict) {
        Ok(text) => println!("{text}"),
        Err(_) => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn boot(settings: &Settings, report: &Report) -> Result<Handover, Failure> {
    greet(settings, report);
    let memory = memory::Watch::start();
    let modules = modules::Modules::open(report).at(Stage::Modules)?;
    let devices = devices::watch(modules, report).at(Stage::Devices)?;
    let network = network::bring_up(settings, report).at(Stage::Network)?;
    clock::set_not_before(release::build_date(), report).at(Stage::Clock)?;

    let http = trusted_http().at(Stage::ControlFile)?;
    let control_file = control::find(settings, &http, report).at(Stage::ControlFile)?;
    let workflow = control_file.workflow().at(Stage::Workflow)?;
    let plan = workflow::plan(workflow).at(Stage::Workflow)?;
    devices.settle(report);

    let shared = identity::SharedFolder::create(settings, report).at(Stage::Job)?;
    mounts::store().at(Stage::Image)?;
    let failures = {
        let images = jobs::Images {
            http,
            registries: registries().at(Stage::Image)?,
            store: Store::open(Path::new(mounts::STORE)).at(Stage::Image)?,
        };
        jobs::run(&plan, &images, settings, report)
    };
    shared.finish();
    report.say(memory.summary());

    drop(network);
    // The result files decide; without any, the first job that failed is the reason.
    let Some(handover) = handover::decide(settings, report)? else {
        return Err(failures.into_iter().next().unwrap_or_else(handover::nothing_to_do));
    };
    for failure in failures {
        report.failure(&failure);
        report.say("  going on: a container wrote what comes next");
    }
    Ok(handover)
}

/// `rd.iguana.on_failure=local`: the system that is on the disk already.
fn go_local(failure: Failure, settings: &Settings, report: &Report) -> Result<Handover, Failure> {
    if settings.on_failure != OnFailure::Local {
        return Err(failure);
    }
    report.failure(&failure);
    report.say("on failure: the system on the disk (rd.iguana.on_failure=local)");
    handover::local(settings, report)
}

fn greet(settings: &Settings, report: &Report) {
    if settings.debug {
        report.show_details();
    }
    let memory = memory::read().map_or(0, |memory| memory.total >> 20);
    let (version, kernel) = (env!("CARGO_PKG_VERSION"), release::kernel());
    report.say(format_args!("version {version}, kernel {kernel}, {memory} MiB memory"));
    for warning in &settings.warnings {
        report.say(format_args!("warning: {warning}"));
    }
}

fn trusted_http() -> anyhow::Result<http::Client> {
    Ok(http::Client::new(&Roots::from_folder(Path::new("/etc/containers/ca"))?))
}

fn registries() -> anyhow::Result<Registries> {
    match std::fs::read_to_string("/etc/containers/registries.conf") {
        Ok(text) => Registries::parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Registries::default()),
        // Without the rules a blocked registry would be open.
        Err(error) => Err(error).context("cannot read `/etc/containers/registries.conf`"),
    }
}
