//! Finds the control file and reads the workflow in it.

use crate::report::Report;
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use iguana_core::hint::{WithHint as _, hinted};
use iguana_core::http;
use iguana_core::workflow::{Workflow, parse};

/// Where `iguana build --workflow` puts the bundled workflow.
const BUNDLED: &str = "/etc/iguana/control.yaml";

/// The workflow: from `rd.iguana.control_url=`, else `rd.iguana.containers=`, else the bundled one.
///
/// # Errors
/// When there is none, it cannot be had, or it is not a workflow.
pub(crate) fn find(settings: &Settings, http: &http::Client, report: &Report) -> anyhow::Result<Workflow> {
    let (origin, text) = match &settings.control_url {
        Some(url) => (url.as_str(), fetch(url, http)?),
        None if !settings.containers.is_empty() => {
            report.say(format_args!("workflow: the containers `{}`", settings.containers.join("`, `")));
            let images = settings.containers.iter().map(|image| image.parse());
            return Ok(Workflow::from_images(images.collect::<Result<_, _>>()?));
        }
        None => (BUNDLED, read(BUNDLED).hint(
            "name a workflow with `rd.iguana.control_url=URL`, or bundle one with `iguana build --workflow FILE`",
        )?),
    };
    report.say(format_args!("workflow: from {origin}"));
    parse(&text).with_context(|| format!("`{origin}` is not a workflow"))
}

fn fetch(url: &str, http: &http::Client) -> anyhow::Result<String> {
    if url.starts_with('/') {
        return read(url).hint("a path is looked for in the initrd itself");
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(hinted(
            format!("`{url}` is not a place that a workflow can be read from"),
            "write `http://…`, `https://…`, or a path in the initrd",
        ));
    }
    String::from_utf8(http.fetch(url)?).map_err(|_| anyhow::anyhow!("`{url}` is not text in UTF-8"))
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read the workflow `{path}`"))
}
