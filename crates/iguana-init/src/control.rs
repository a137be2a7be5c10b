//! Finds the control file, and reads the workflow in it.

use crate::report::{Report, Waiting};
use anyhow::{Context as _, bail};
use iguana_core::cmdline::Settings;
use iguana_core::hint::{WithHint as _, hinted};
use iguana_core::http;
use iguana_core::trust::pins::{Lock, Pins};
use iguana_core::trust::rules::Rules;
use iguana_core::workflow::{self, Plan, Severity};

/// Where `iguana build --workflow` puts the bundled workflow.
pub(crate) const BUNDLED: &str = "/etc/iguana/control.yaml";
/// The lock file that it puts there, too.
const LOCK: &str = "/etc/iguana/control.yaml.lock";

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
pub(crate) fn find(
    settings: &Settings,
    http: &http::Client,
    rules: &Rules,
    report: &Report,
) -> anyhow::Result<ControlFile> {
    if let Some(url) = &settings.control_url {
        let bytes = fetch(url, http, report)?;
        report.say(format_args!("workflow: from {url}"));
        authenticate(url, &bytes, rules, report, |signature| fetch(signature, http, report))?;
        return Ok(ControlFile::Document { origin: url.clone(), bytes });
    }
    if !settings.containers.is_empty() {
        refuse_unsigned_containers(rules)?;
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
    /// By which digests its images are wanted.
    ///
    /// # Errors
    /// When one has no digest and needs one.
    pub(crate) fn pins(
        &self,
        plan: &Plan,
        http: &http::Client,
        rules: &Rules,
        report: &Report,
    ) -> anyhow::Result<Pins> {
        match self {
            Self::Document { origin, .. } => {
                pins(origin, plan, rules, report, |place| fetch(place, http, report))
            }
            Self::Images(_) => pins("", plan, rules, report, |_| bail!("there is no lock file")),
        }
    }

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

/// Whether the trust lets a document run: its signature, where one is demanded, is compared before the document is
/// read. `get` has the signature, by its place.
///
/// # Errors
/// When a signature is demanded, and is not there, or is not of a key of the trust.
pub(crate) fn authenticate(
    origin: &str,
    bytes: &[u8],
    rules: &Rules,
    report: &Report,
    get: impl FnOnce(&str) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    if !rules.demand_signature() || is_baked_in(origin) {
        return Ok(());
    }
    let place = beside(origin, ".sig");
    let verify = || rules.verify(bytes, &get(&place).context("there is no signature of it")?);
    let signer = verify().with_context(|| format!("the trust does not let `{origin}` run"));
    let signer =
        signer.hint(format!("it must be signed by a key of the trust, and the signature be at `{place}`"))?;
    report.say(format_args!("workflow: signed by {signer}"));
    Ok(())
}

/// Where what belongs to a document is: beside it, before the query of a URL.
fn beside(origin: &str, ending: &str) -> String {
    let (path, query) = origin.split_at(origin.find('?').unwrap_or(origin.len()));
    format!("{path}{ending}{query}")
}

/// The initrd is as trusted as the keys in it.
fn is_baked_in(origin: &str) -> bool {
    origin == BUNDLED || origin == LOCK
}

/// By which digests the images of a plan are wanted. Where the trust demands digests, and not all images are named by
/// theirs, the lock file beside the workflow has them. `get` has files, by their places.
///
/// # Errors
/// When an image has no digest, or the lock file is not there, is not signed, or is none.
pub(crate) fn pins(
    origin: &str,
    plan: &Plan,
    rules: &Rules,
    report: &Report,
    get: impl Fn(&str) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Pins> {
    if !rules.demand_digests() {
        return Ok(Pins::default());
    }
    let bare = Pins::demanded(Lock::default());
    let Err(missing) = bare.check(plan) else { return Ok(bare) };
    let place = beside(origin, ".lock");
    let Ok(bytes) = get(&place) else { return Err(missing) };
    authenticate(&place, &bytes, rules, report, &get)?;
    let pins = Pins::demanded(Lock::parse(&bytes).with_context(|| format!("`{place}` is not a lock file"))?);
    pins.check(plan)?;
    report.say(format_args!("workflow: its images are pinned by {place}"));
    Ok(pins)
}

fn refuse_unsigned_containers(rules: &Rules) -> anyhow::Result<()> {
    if !rules.demand_signature() {
        return Ok(());
    }
    Err(hinted(
        "the trust does not let `rd.iguana.containers=` name what runs: workflows have to be signed",
        "name a signed workflow with `rd.iguana.control_url=URL`",
    ))
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
