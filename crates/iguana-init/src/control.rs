//! Finds the control file, and reads the workflow in it.

use crate::report::{Report, Waiting};
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use iguana_core::hint::{WithHint as _, hinted};
use iguana_core::http;
use iguana_core::workflow::{self, Plan, Severity};

/// Where `iguana build --workflow` puts the bundled workflow.
const BUNDLED: &str = "/etc/iguana/control.yaml";

/// What is to be run, as it was found.
pub(crate) enum ControlFile {
    /// A document, and where it is from.
    Document { origin: String, bytes: Vec<u8> },
    /// The images of `rd.iguana.containers=`.
    Images(Vec<String>),
}

/// The control file: `rd.iguana.control_url=`, else `rd.iguana.containers=`, else the bundled one.
///
/// # Errors
/// When there is none, or it cannot be had.
pub(crate) fn find(settings: &Settings, http: &http::Client, report: &Report) -> anyhow::Result<ControlFile> {
    if let Some(url) = &settings.control_url {
        let bytes = fetch(url, http, report)?;
        report.say(format_args!("workflow: from {url}"));
        return Ok(ControlFile::Document { origin: url.clone(), bytes });
    }
    if !settings.containers.is_empty() {
        report.say(format_args!("workflow: the containers `{}`", settings.containers.join("`, `")));
        return Ok(ControlFile::Images(settings.containers.clone()));
    }
    let bytes = read(BUNDLED).hint(
        "name a workflow with `rd.iguana.control_url=URL`, or bundle one with `iguana build --workflow FILE`",
    )?;
    report.say(format_args!("workflow: from {BUNDLED}"));
    Ok(ControlFile::Document { origin: BUNDLED.into(), bytes })
}

impl ControlFile {
    /// What it asks for, in order.
    ///
    /// # Errors
    /// When it is not a workflow: with all that is wrong, and where.
    pub(crate) fn plan(&self, report: &Report) -> anyhow::Result<Plan> {
        match self {
            Self::Document { origin, bytes } => plan(origin, bytes, report),
            Self::Images(images) => {
                let images = images.iter().map(|image| image.parse()).collect::<Result<_, _>>();
                Ok(Plan::of_images(
                    images.hint("correct `rd.iguana.containers=` on the kernel command line")?,
                ))
            }
        }
    }
}

/// The plan of a document; what is only worth a warning is told.
pub(crate) fn plan(origin: &str, bytes: &[u8], report: &Report) -> anyhow::Result<Plan> {
    let checked = workflow::check(bytes);
    for finding in checked.findings.iter().filter(|finding| finding.severity != Severity::Error) {
        let place = checked.source.position(finding.span.start);
        let hint = finding.hint.as_deref().unwrap_or_default();
        report.say(format_args!("{}: {origin}:{place}: {}; {hint}", finding.severity, finding.message));
    }
    checked
        .into_plan(origin)
        .with_context(|| format!("`{origin}` is not a workflow"))
        .hint("correct it where the marks are; nothing of it was run")
}

fn fetch(url: &str, http: &http::Client, report: &Report) -> anyhow::Result<Vec<u8>> {
    if url.starts_with('/') {
        return read(url).hint("a path is looked for in the initrd itself");
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(hinted(
            format!("`{url}` is not a place that a workflow can be read from"),
            "write `http://…`, `https://…`, or a path in the initrd",
        ));
    }
    let _waiting = Waiting::start(report, format!("workflow: waiting for `{url}`"), http::SILENCE_LIMIT);
    http.fetch(url)
}

fn read(path: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the workflow `{path}`"))
}
