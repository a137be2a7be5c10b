//! Finds the control file and reads the workflow in it.

use crate::machine::facts;
use crate::machine::media;
use crate::machine::media::Media;
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use config::cmdline::Settings;
use config::rules::Rules;
use config::trust::Trust;
use config::workflow_trust::{Admitted, Authenticated, BundledPins, Candidate, Provenance, Signer};
use fetch::http::{Deadline, RetryEvent};
use fetch::{http, tftp};
use hint::{WithHint as _, hinted};
use oci_pull::artifact;
use oci_pull::bundle::{Bundle, Opened};
use oci_pull::{Artifact, Finder, PullEvent};
use oci_reference::{Machine, Reference};
use oci_trust::pins::Pins;
use retry::Failure;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use timestamp::Timestamp;
use workflow::{Plan, Severity};

/// Where `iguana build --workflow` puts the bundled workflow.
pub(crate) const BUNDLED: &str = "/etc/iguana/control.yaml";
/// The scheme of a workflow in a registry.
const ARTIFACT: &str = "oci://";

/// The control file that was found.
pub(crate) enum ControlFile {
    /// A document, and what authenticates it.
    Document(Box<Document>, Box<Authenticated>),
    /// The images of `rd.iguana.containers=`.
    Images(Vec<String>),
}

/// A workflow document before it is parsed.
pub(crate) struct Document {
    origin: String,
    bytes: Vec<u8>,
    /// For an artifact: its parts by media type. `None` if signature and lock file are separate files beside the
    /// document.
    inside: Option<HashMap<String, Vec<u8>>>,
    /// The control URL as requested, before the machine's facts were filled in.
    control_url: String,
    provenance: Provenance,
    /// The bundle with its images, if it came in one.
    bundle: Option<Bundle>,
}

/// How workflows are fetched, and which of them may run.
pub(crate) struct Sources<'a> {
    pub(crate) http: &'a http::Client,
    pub(crate) trust: &'a Trust,
    pub(crate) report: &'a Report,
}

/// Finds the control file: `rd.iguana.control_url=`, else `rd.iguana.containers=`, else the bundled one.
///
/// # Errors
/// When there is none, or it cannot be read or fetched.
pub(crate) fn find(settings: &Settings, sources: &Sources<'_>) -> anyhow::Result<ControlFile> {
    let (rules, report) = (&sources.trust.rules, sources.report);
    if let Some(asked) = &settings.control_url {
        let url = &facts::filled(asked)?;
        let document = match url.strip_prefix(ARTIFACT) {
            Some(name) => sources.artifact(url, name)?,
            None if media::is_here(url) => sources.here(url)?,
            None => Document::alone(url, sources.fetch(url)?),
        };
        report.say(format_args!("workflow: from {url}"));
        return Document { control_url: asked.clone(), ..document }.authenticate(sources);
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
    Document::alone(BUNDLED, bytes).authenticate(sources)
}

/// Whether the control file is on a disk of this machine.
pub(crate) fn is_on_disk(settings: &Settings) -> bool {
    settings.control_url.as_ref().is_some_and(|url| url.starts_with(media::SCHEME))
}

/// Whether the control file needs the network. A local one may be a bundle, which includes its images.
pub(crate) fn needs_network(settings: &Settings) -> bool {
    match &settings.control_url {
        Some(url) => !media::is_here(url),
        None => !settings.containers.is_empty(),
    }
}

impl Document {
    /// The file that belongs to the document and has this file name ending: a part of its artifact, or a file beside
    /// it.
    fn beside(&self, ending: &str, sources: &Sources<'_>) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(inside) = &self.inside else {
            return sources.fetch(&beside(&self.origin, ending)).map(Some);
        };
        let found = artifact::BESIDE.iter().find(|(known, _)| *known == ending);
        Ok(found.and_then(|(_, media_type)| inside.get(*media_type)).cloned())
    }

    /// A document without artifact or bundle. The bundled workflow is as trusted as the keys in the same initrd.
    fn alone(origin: &str, bytes: Vec<u8>) -> Self {
        let provenance = if origin == BUNDLED { Provenance::Initrd } else { Provenance::Nothing };
        let (origin, control_url) = (origin.to_owned(), origin.to_owned());
        Self { origin, bytes, inside: None, control_url, provenance, bundle: None }
    }

    fn bundled(origin: &str, opened: Opened, provenance: Provenance) -> Self {
        let Opened { documents: mut inside, bundle } = opened;
        let bytes = inside.remove(artifact::WORKFLOW).unwrap_or_default();
        Self { inside: Some(inside), provenance, bundle: Some(bundle), ..Self::alone(origin, bytes) }
    }

    fn authenticate(self, sources: &Sources<'_>) -> anyhow::Result<ControlFile> {
        let Self { origin, bytes, control_url, provenance, .. } = &self;
        let control_url = Some(control_url.as_str());
        let candidate = Candidate { origin, bytes, control_url, provenance: *provenance };
        let beside = |ending: &str| self.beside(ending, sources);
        let authenticated = candidate.authenticate(&sources.trust.rules, &beside)?;
        tell_signer(&authenticated, sources.report);
        Ok(ControlFile::Document(self.into(), authenticated.into()))
    }

    fn pins(&self, admitted: &Admitted, plan: &Plan, sources: &Sources<'_>) -> anyhow::Result<Pins> {
        let beside = |ending: &str| self.beside(ending, sources);
        if self.inside.is_none() {
            return admitted.pins(plan, &beside);
        }
        let BundledPins { pins, unused_lock } = admitted.bundled_pins(plan, &beside)?;
        if let Some(why) = unused_lock {
            sources.report.warn(format_args!("workflow: ignoring its lock file: {why:#}"));
        }
        Ok(pins)
    }
}

/// Reports which key signed the workflow.
pub(crate) fn tell_signer(authenticated: &Authenticated, report: &Report) {
    match authenticated.signer() {
        Signer::Key(key) => report.say(format_args!("workflow: signed by {key}")),
        other => report.detail(format_args!("workflow: signature: {other}")),
    }
}

/// Reports that the lock file, not the names of the images, decides which images are pulled.
pub(crate) fn tell_pins(pins: &Pins, report: &Report) {
    match pins.count() {
        0 => {}
        count => report.say(format_args!("workflow: the lock file pins {count} images")),
    }
}

impl Sources<'_> {
    fn artifact(&self, url: &str, name: &str) -> anyhow::Result<Document> {
        let reference: Reference = name
            .parse()
            .with_context(|| format!("`{url}` does not name an artifact"))
            .hint("write `oci://REGISTRY/NAME:TAG`, or `oci://REGISTRY/NAME@sha256:DIGEST`")?;
        let mut waiting = None;
        let finder = self.trust.finder(self.http.clone(), Machine::this());
        let mut watch = |event| match event {
            PullEvent::Asking { limit } => waiting = Some(self.waiting(url, limit)),
            PullEvent::Waiting { why, wait, tried, tries } => {
                let seconds = wait.as_secs_f32();
                self.report
                    .warn(format_args!("workflow: {why}; retrying in {seconds:.1} s ({tried} of {tries})"));
                waiting = Some(self.pausing(url, wait));
            }
            PullEvent::Elsewhere { why, .. } => self.report.warn(format_args!("workflow: {why}")),
            _ => {}
        };
        let found = finder.artifact(&reference, &mut watch);
        let Artifact { approval, opened } =
            found.with_context(|| format!("cannot fetch the workflow `{url}`"))?;
        self.report.detail(format_args!("workflow: may run {}", approval.reason()));
        self.tell_images(url, &opened.bundle);
        let is_signed = approval.is_by_signature();
        Ok(Document::bundled(url, opened, if is_signed { Provenance::Policy } else { Provenance::Nothing }))
    }

    /// A workflow or a bundle, in the initrd or on a disk of this machine.
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
        Ok(Document::bundled(url, opened, Provenance::Nothing))
    }

    fn tell_images(&self, url: &str, bundle: &Bundle) {
        if bundle.has_images() {
            self.report.say(format_args!("workflow: {url} is a bundle; its images are used"));
        }
    }

    fn fetch(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        if url.starts_with(media::SCHEME) {
            return Media::mounted(url)?.read();
        }
        if media::is_here(url) {
            return media::read(Path::new(url));
        }
        match url.split_once("://") {
            Some(("http" | "https", _)) => self.retrying(url, |deadline| self.http.fetch(url, deadline)),
            Some(("tftp", _)) => self.retrying(url, |deadline| tftp::fetch(url, deadline)),
            _ => Err(hinted(
                format!("`{url}` is not a URL that a workflow can be read from"),
                "write `http://…`, `https://…`, `tftp://…`, `oci://…`, `hd:DEVICE:PATH`, or a path in the initrd",
            )),
        }
    }

    /// Fetches with retries, and reports each wait.
    fn retrying(
        &self,
        url: &str,
        attempt: impl FnMut(Deadline) -> Result<Vec<u8>, Failure>,
    ) -> anyhow::Result<Vec<u8>> {
        let mut waiting = None;
        let mut watch = |event: &RetryEvent| match event {
            RetryEvent::Asking(deadline) => waiting = Some(self.waiting(url, deadline.limit())),
            RetryEvent::Pausing(pause) => {
                let (wait, tried, tries) = (pause.wait, pause.tried, pause.tries);
                self.report.warn(format_args!(
                    "workflow: {:#}; retrying in {:.1} s ({tried} of {tries})",
                    pause.why,
                    wait.as_secs_f32()
                ));
                waiting = Some(self.pausing(url, wait));
            }
        };
        http::retrying(&mut watch, attempt)
    }

    fn waiting(&self, url: &str, limit: Duration) -> Waiting {
        Waiting::start(self.report, format!("workflow: waiting for `{url}`"), limit)
    }

    fn pausing(&self, url: &str, wait: Duration) -> Waiting {
        Waiting::start(self.report, format!("workflow: waiting to retry `{url}`"), wait)
    }
}

impl ControlFile {
    /// Checks whether the workflow may run on this machine now. Gives the digests that its images are pinned to.
    ///
    /// # Errors
    /// When the trust requires another workflow or a newer one, or a digest for an image that has none.
    pub(crate) fn admit(
        &self,
        plan: &Plan,
        now: Option<Timestamp>,
        sources: &Sources<'_>,
    ) -> anyhow::Result<Pins> {
        let pins = match self {
            Self::Document(document, authenticated) => {
                document.pins(&authenticated.admit(plan, now)?, plan, sources)?
            }
            Self::Images(_) => sources.trust.rules.pins_of_images(plan)?,
        };
        tell_pins(&pins, sources.report);
        Ok(pins)
    }

    /// Adds the bundle that the workflow came from, if any, to `finder`: images are looked for there first.
    pub(crate) fn finder(&self, finder: Finder) -> Finder {
        match self {
            Self::Document(document, authenticated) => Finder {
                bundle: document.bundle.clone(),
                believes_bundle: authenticated.covers_bundle(),
                ..finder
            },
            Self::Images(_) => finder,
        }
    }

    /// The jobs, in the order in which they run.
    ///
    /// # Errors
    /// When it is not a valid workflow: with all errors and their positions.
    pub(crate) fn plan(&self, report: &Report) -> anyhow::Result<Plan> {
        match self {
            Self::Document(document, _) => plan(&document.origin, &document.bytes, report),
            Self::Images(images) => {
                let images = images.iter().map(|image| image.parse()).collect::<Result<_, _>>();
                Ok(Plan::of_images(
                    images.hint("correct `rd.iguana.containers=` on the kernel command line")?,
                ))
            }
        }
    }
}

/// The URL or path of a file that belongs to a document: the ending is inserted before the query of a URL.
pub(crate) fn beside(origin: &str, ending: &str) -> String {
    let (path, query) = origin.split_at(origin.find('?').unwrap_or(origin.len()));
    format!("{path}{ending}{query}")
}

fn refuse_unsigned_containers(rules: &Rules) -> anyhow::Result<()> {
    if !rules.demand_signature() {
        return Ok(());
    }
    Err(hinted(
        "the trust directory does not allow `rd.iguana.containers=`: workflows must be signed",
        "name a signed workflow with `rd.iguana.control_url=URL`",
    ))
}

/// The plan of a document. Warnings are reported.
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
        .or_hint("correct the marked places; no job was run")
}
