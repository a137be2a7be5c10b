//! Finds the control file, and reads the workflow in it.

use crate::machine::facts;
use crate::machine::media::{self, Media};
use crate::report::{Report, Waiting};
use anyhow::{Context as _, bail};
use iguana_core::cmdline::Settings;
use iguana_core::hint::{WithHint as _, hinted};
use iguana_core::image::bundle::{Bundle, Opened};
use iguana_core::image::{Artifact, Finder, Machine, PullEvent, Reference};
use iguana_core::trust::Trust;
use iguana_core::trust::pins::{Lock, Pins};
use iguana_core::trust::rules::Rules;
use iguana_core::workflow::artifact;
use iguana_core::workflow::{self, Plan, Severity};
use iguana_core::{http, tftp};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Where `iguana build --workflow` puts the bundled workflow.
pub(crate) const BUNDLED: &str = "/etc/iguana/control.yaml";
/// Begins the name of a workflow in a registry.
const ARTIFACT: &str = "oci://";
/// The lock file that it puts there, too.
const LOCK: &str = "/etc/iguana/control.yaml.lock";

/// What is to be run, as it was found.
pub(crate) enum ControlFile {
    /// A document, and where it is from.
    Document(Box<Document>),
    /// The images of `rd.iguana.containers=`.
    Images(Vec<String>),
}

/// A workflow before it is read.
pub(crate) struct Document {
    origin: String,
    bytes: Vec<u8>,
    /// What came with it, where that is not to be fetched from beside it: by media types.
    inside: Option<HashMap<String, Vec<u8>>>,
    /// Whether the policy demanded, and found, a signature of all of it.
    is_signed: bool,
    /// Its images, where they came with it.
    bundle: Option<Bundle>,
}

/// Where workflows are looked for, and which of them may run.
pub(crate) struct Sources<'a> {
    pub(crate) http: &'a http::Client,
    pub(crate) trust: &'a Trust,
    pub(crate) report: &'a Report,
}

/// The control file: `rd.iguana.control_url=`, else `rd.iguana.containers=`, else the bundled one.
///
/// # Errors
/// When there is none, or it cannot be had.
pub(crate) fn find(settings: &Settings, sources: &Sources<'_>) -> anyhow::Result<ControlFile> {
    let (rules, report) = (&sources.trust.rules, sources.report);
    if let Some(url) = &settings.control_url {
        let url = &facts::filled(url)?;
        let document = match url.strip_prefix(ARTIFACT) {
            Some(name) => sources.artifact(url, name)?,
            None if media::is_here(url) => sources.here(url)?,
            None => Document::alone(url, sources.fetch(url)?),
        };
        report.say(format_args!("workflow: from {url}"));
        document.authenticate(sources)?;
        return Ok(ControlFile::Document(document.into()));
    }
    if !settings.containers.is_empty() {
        refuse_unsigned_containers(rules)?;
        report.say(format_args!("workflow: the containers `{}`", settings.containers.join("`, `")));
        return Ok(ControlFile::Images(settings.containers.clone()));
    }
    let bytes = fs::read(BUNDLED).with_context(|| format!("cannot read the workflow `{BUNDLED}`")).hint(
        "name a workflow with `rd.iguana.control_url=URL`, or bundle one with `iguana build --workflow FILE`",
    )?;
    report.say(format_args!("workflow: from {BUNDLED}"));
    Ok(ControlFile::Document(Document::alone(BUNDLED, bytes).into()))
}

/// Whether the control file is on a disk of this machine.
pub(crate) fn is_on_disk(settings: &Settings) -> bool {
    settings.control_url.as_ref().is_some_and(|url| url.starts_with(media::SCHEME))
}

/// Whether the control file cannot be had without the network. What is found without may have its images with it.
pub(crate) fn needs_network(settings: &Settings) -> bool {
    match &settings.control_url {
        Some(url) => !media::is_here(url),
        None => !settings.containers.is_empty(),
    }
}

impl Document {
    /// What belongs to it, by its place: from the artifact that it came in, else from beside it.
    fn get(&self, place: &str, sources: &Sources<'_>) -> anyhow::Result<Vec<u8>> {
        let Some(inside) = &self.inside else { return sources.fetch(place) };
        let is_meant = |(ending, _): &&(&str, &str)| place == beside(&self.origin, ending);
        let found = artifact::BESIDE.iter().find(is_meant);
        let found = found.and_then(|(_, media_type)| inside.get(*media_type));
        Ok(found.with_context(|| format!("`{}` has no layer for `{place}`", self.origin))?.clone())
    }

    fn alone(origin: &str, bytes: Vec<u8>) -> Self {
        Self { origin: origin.to_owned(), bytes, inside: None, is_signed: false, bundle: None }
    }

    fn bundled(origin: &str, opened: Opened, is_signed: bool) -> Self {
        let Opened { documents: mut inside, bundle } = opened;
        let bytes = inside.remove(artifact::WORKFLOW).unwrap_or_default();
        Self { origin: origin.to_owned(), bytes, inside: Some(inside), is_signed, bundle: Some(bundle) }
    }

    fn authenticate(&self, sources: &Sources<'_>) -> anyhow::Result<()> {
        if self.is_signed {
            return Ok(());
        }
        let Sources { trust, report, .. } = sources;
        authenticate(&self.origin, &self.bytes, &trust.rules, report, |place| self.get(place, sources))
    }

    fn pins(&self, plan: &Plan, sources: &Sources<'_>) -> anyhow::Result<Pins> {
        let rules = &sources.trust.rules;
        let lock = self.inside.as_ref().and_then(|inside| inside.get(artifact::LOCK));
        if let (Some(lock), false) = (lock, rules.demand_digests()) {
            let place = beside(&self.origin, ".lock");
            let get = |place: &str| self.get(place, sources);
            if !self.is_signed
                && let Err(error) = authenticate(&place, lock, rules, sources.report, get)
            {
                sources.report.warn(format_args!("workflow: its lock file is not used: {error:#}"));
                return Ok(Pins::default());
            }
            let lock = Lock::parse(lock).with_context(|| format!("the lock file in `{}`", self.origin))?;
            return Ok(Pins::offered(lock));
        }
        let get = |place: &str| self.get(place, sources);
        pins(&self.origin, plan, &sources.trust.rules, self.is_signed, sources.report, get)
    }
}

impl Sources<'_> {
    fn artifact(&self, url: &str, name: &str) -> anyhow::Result<Document> {
        let reference: Reference = name
            .parse()
            .with_context(|| format!("`{url}` names no artifact"))
            .hint("write `oci://REGISTRY/NAME:TAG`, or `oci://REGISTRY/NAME@sha256:DIGEST`")?;
        let _waiting = self.waiting(url);
        let finder = self.trust.finder(self.http.clone(), Machine::this());
        let mut watch = |event| {
            if let PullEvent::Waiting { why, .. } | PullEvent::Elsewhere { why, .. } = event {
                self.report.warn(format_args!("workflow: {why}"));
            }
        };
        let found = finder.artifact(&reference, &mut watch);
        let Artifact { approval, opened } =
            found.with_context(|| format!("cannot have the workflow `{url}`"))?;
        self.report.detail(format_args!("workflow: may run {}", approval.reason()));
        self.tell_images(url, &opened.bundle);
        Ok(Document::bundled(url, opened, approval.is_by_signature()))
    }

    /// A workflow, or a bundle of one with its images, in the initrd or on a disk of this machine.
    fn here(&self, url: &str) -> anyhow::Result<Document> {
        let opened = match url.strip_prefix(media::SCHEME) {
            Some(place) => {
                let media = media::open(place, self.report)?;
                match Bundle::find(&media.top, &media.path)? {
                    Some(opened) => opened,
                    None => return Ok(Document::alone(url, media.read()?)),
                }
            }
            None if Bundle::is_at(Path::new(url)) => Bundle::open(Path::new(url))?,
            None => return Ok(Document::alone(url, media::read(Path::new(url))?)),
        };
        self.tell_images(url, &opened.bundle);
        Ok(Document::bundled(url, opened, false))
    }

    fn tell_images(&self, url: &str, bundle: &Bundle) {
        if bundle.has_images() {
            self.report.say(format_args!("workflow: {url} is a bundle, which has the images, too"));
        }
    }

    fn fetch(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        if url.starts_with(media::SCHEME) {
            return Media::mounted(url)?.read();
        }
        if media::is_here(url) {
            return media::read(Path::new(url));
        }
        let _waiting = self.waiting(url);
        match url.split_once("://") {
            Some(("http" | "https", _)) => self.http.fetch(url),
            Some(("tftp", _)) => tftp::fetch(url),
            _ => Err(hinted(
                format!("`{url}` is not a place that a workflow can be read from"),
                "write `http://…`, `https://…`, `tftp://…`, `oci://…`, `hd:DEVICE:PATH`, or a path in the initrd",
            )),
        }
    }

    fn waiting(&self, url: &str) -> Waiting {
        Waiting::start(self.report, format!("workflow: waiting for `{url}`"), http::DOCUMENT_TIME_LIMIT)
    }
}

impl ControlFile {
    /// By which digests its images are wanted.
    ///
    /// # Errors
    /// When one has no digest and needs one.
    pub(crate) fn pins(&self, plan: &Plan, sources: &Sources<'_>) -> anyhow::Result<Pins> {
        let Self::Document(document) = self else {
            let no_file = |_: &str| bail!("there is no lock file");
            return pins("", plan, &sources.trust.rules, false, sources.report, no_file);
        };
        document.pins(plan, sources)
    }

    /// What finds its images: where it came from first.
    pub(crate) fn finder(&self, finder: Finder, rules: &Rules) -> Finder {
        match self {
            Self::Document(document) => Finder {
                bundle: document.bundle.clone(),
                believes_bundle: document.is_signed || !rules.demand_signature(),
                ..finder
            },
            Self::Images(_) => finder,
        }
    }

    /// What it asks for, in order.
    ///
    /// # Errors
    /// When it is not a workflow: with all that is wrong, and where.
    pub(crate) fn plan(&self, report: &Report) -> anyhow::Result<Plan> {
        match self {
            Self::Document(document) => plan(&document.origin, &document.bytes, report),
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
/// theirs, the lock file beside the workflow has them. `get` has files, by their places; `is_signed`, if what they came
/// in is.
///
/// # Errors
/// When an image has no digest, or the lock file is not there, is not signed, or is none.
pub(crate) fn pins(
    origin: &str,
    plan: &Plan,
    rules: &Rules,
    is_signed: bool,
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
    if !is_signed {
        authenticate(&place, &bytes, rules, report, &get)?;
    }
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
