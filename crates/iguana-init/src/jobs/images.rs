//! The images of a workflow: pulled when a job needs them, freed after the last one that does.

use super::scope::Scope;
use crate::machine::memory;
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use iguana_core::hint::WithHint as _;
use iguana_core::http;
use iguana_core::image::{Credentials, PullEvent, Reference, Registries, Store, VerifiedImage, pull};
use iguana_core::workflow::{self, Container, Job};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Which registries are insecure, blocked or elsewhere.
const REGISTRIES: &str = "/etc/containers/registries.conf";

/// Where images come from and go to.
pub(crate) struct Images {
    http: http::Client,
    registries: Registries,
    store: Store,
}

/// The images that are there.
#[derive(Default)]
pub(super) struct Pulled(HashMap<Reference, Arc<VerifiedImage>>);

impl Pulled {
    /// The image that a container of a [`resolved`] job names.
    pub(super) fn get(&self, image: &workflow::Image) -> anyhow::Result<&VerifiedImage> {
        let found = image.reference.as_ref().and_then(|reference| self.0.get(reference));
        found.map(|image| &**image).with_context(|| format!("`{}` was not pulled", image.name.source()))
    }

    /// Frees what is not needed any more.
    pub(super) fn keep(&mut self, is_needed: impl Fn(&Reference) -> bool) {
        self.0.retain(|reference, _| is_needed(reference));
    }
}

/// The job with every image known that it names.
///
/// # Errors
/// When an expression does not give the name of an image.
pub(super) fn resolved(job: &Job, scope: &Scope) -> anyhow::Result<Job> {
    let mut job = job.clone();
    for container in job.containers_mut() {
        let scope = scope.with_env(&container.env);
        for image in container.images_mut() {
            image.reference = Some(resolve(image, &scope)?);
        }
    }
    Ok(job)
}

fn resolve(image: &workflow::Image, scope: &Scope) -> anyhow::Result<Reference> {
    if let Some(reference) = &image.reference {
        return Ok(reference.clone());
    }
    let name = image.name.evaluate(scope);
    name.parse::<Reference>()
        .with_context(|| format!("`{}` gives no image", image.name.source()))
        .hint("an expression without a value gives an empty text: check what it names")
}

impl Images {
    /// Those that the registries.conf of this machine allows, unpacked into the folder `store`.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(crate) fn open(http: http::Client, store: &Path) -> anyhow::Result<Self> {
        Ok(Self { http, registries: registries()?, store: Store::open(store)? })
    }

    /// Pulls the images of a container that are not there yet. Its credentials are for the registry of its own
    /// image: no other gets to see them.
    pub(super) fn provide(
        &self,
        container: &Container,
        scope: &Scope,
        pulled: &mut Pulled,
        report: &Report,
    ) -> anyhow::Result<()> {
        let scope = scope.with_env(&container.env);
        let credentials = container.credentials.as_ref().map(|credentials| Credentials {
            username: credentials.username.evaluate(&scope),
            password: credentials.password.evaluate(&scope),
        });
        let own = container.image.reference.as_ref().map(Reference::registry);
        for reference in container.images().filter_map(|image| image.reference.as_ref()) {
            let credentials = credentials.as_ref().filter(|_| own == Some(reference.registry()));
            if let Entry::Vacant(missing) = pulled.0.entry(reference.clone()) {
                missing.insert(Arc::new(self.pull(reference, credentials, report)?));
            }
        }
        Ok(())
    }

    fn pull(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        report: &Report,
    ) -> anyhow::Result<VerifiedImage> {
        let start = Instant::now();
        report.say(format_args!("image {reference}: resolving"));
        let room = memory::read().map_or(u64::MAX, |memory| memory.available);
        let what = format!("image {reference}: waiting for the registry");
        let mut waiting = Some(Waiting::start(report, what, http::SILENCE_LIMIT));
        let mut watch = |event| {
            waiting = None;
            tell(reference, &event, start, report);
        };
        let image = pull(&self.http, &self.registries, &self.store, reference, credentials, room, &mut watch)
            .with_context(|| format!("cannot pull the image `{reference}`"))?;
        report.say(format_args!("image {reference}: ready after {:.1} s", start.elapsed().as_secs_f32()));
        Ok(image)
    }
}

fn registries() -> anyhow::Result<Registries> {
    match fs::read_to_string(REGISTRIES) {
        Ok(text) => Registries::parse(&text).with_context(|| format!("cannot use `{REGISTRIES}`")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registries::default()),
        // Without the rules a blocked registry would be open.
        Err(error) => Err(error).with_context(|| format!("cannot read `{REGISTRIES}`")),
    }
}

fn tell(reference: &Reference, event: &PullEvent, start: Instant, report: &Report) {
    let megabytes = |bytes: &u64| *bytes as f64 / 1e6;
    match event {
        PullEvent::Resolved { digest, layers, bytes } => {
            let plural = if *layers == 1 { "" } else { "s" };
            report.say(format_args!("image {reference}: {layers} layer{plural}, {:.1} MB", megabytes(bytes)));
            report.detail(format_args!("image {reference}: manifest {digest}"));
        }
        PullEvent::Progress { done, bytes } => report.say(format_args!(
            "image {reference}: {:.1} of {:.1} MB after {} s",
            megabytes(done),
            megabytes(bytes),
            start.elapsed().as_secs()
        )),
    }
}
