//! Finds the control file, and reads the workflow in it.

use crate::report::{Report, Waiting};
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use iguana_core::hint::{WithHint as _, hinted};
use iguana_core::http;
use iguana_core::workflow::{Workflow, parse};

/// Where `iguana build --workflow` puts the bundled workflow.
const BUNDLED: &str = "/etc/iguana/control.yaml";

/// What is to be run, as it was found.
pub(crate) enum ControlFile {
    /// A document, and where it is from.
    Document { origin: String, text: String },
    /// The images of `rd.iguana.containers=`.
    Images(Vec<String>),
}

/// The control file: `rd.iguana.control_url=`, else `rd.iguana.containers=`, else the bundled one.
///
/// # Errors
/// When there is none, or it cannot be had.
pub(crate) fn find(settings: &Settings, http: &http::Client, report: &Report) -> anyhow::Result<ControlFile> {
    if let Some(url) = &settings.control_url {
        let text = fetch(url, http, report)?;
        report.say(format_args!("workflow: from {url}"));
        return Ok(ControlFile::Document { origin: url.clone(), text });
    }
    if !settings.containers.is_empty() {
        report.say(format_args!("workflow: the containers `{}`", settings.containers.join("`, `")));
        return Ok(ControlFile::Images(settings.containers.clone()));
    }
    let text = read(BUNDLED).hint(
        "name a workflow with `rd.iguana.control_url=URL`, or bundle one with `iguana build --workflow FILE`",
    )?;
    report.say(format_args!("workflow: from {BUNDLED}"));
    Ok(ControlFile::Document { origin: BUNDLED.into(), text })
}

impl ControlFile {
    /// The workflow in it.
    ///
    /// # Errors
    /// When it is not a workflow.
    pub(crate) fn workflow(&self) -> anyhow::Result<Workflow> {
        match self {
            Self::Document { origin, text } => parse(text)
                .with_context(|| format!("`{origin}` is not a workflow"))
                .hint("correct the file where the mark is; nothing of it was run"),
            Self::Images(images) => {
                let images = images.iter().map(|image| image.parse()).collect::<Result<_, _>>();
                Ok(Workflow::from_images(
                    images.hint("correct `rd.iguana.containers=` on the kernel command line")?,
                ))
            }
        }
    }
}

fn fetch(url: &str, http: &http::Client, report: &Report) -> anyhow::Result<String> {
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
    String::from_utf8(http.fetch(url)?).map_err(|_| anyhow::anyhow!("`{url}` is not text in UTF-8"))
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read the workflow `{path}`"))
}
