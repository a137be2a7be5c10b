//! The images of a workflow: pulled when a job needs them, freed after the last job that does.

use super::prefetch;
use super::prefetch::{Prefetch, PrefetchTime};
use super::scope::Scope;
use crate::machine::memory::{STORE, SpareMemory, StoreMemory};
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use events::{Event, Outcome, Text};
use hint::WithHint as _;
use oci_layer::Store;
use oci_pull::{Credentials, Finder, PullEvent, Puller, VerifiedImage};
use oci_reference::Reference;
use oci_trust::pins::Pins;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use workflow::{Container, Job};

/// How often the progress of a pull is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// How images are pulled, and into which memory.
pub(crate) struct Images {
    puller: Puller,
    /// The digests that images are pinned to.
    pins: Pins,
    space: StoreMemory,
}

/// The images that have been pulled, and the prefetch that is in progress.
#[derive(Default)]
pub(super) struct Pulled {
    here: HashMap<Reference, Arc<VerifiedImage>>,
    prefetch: Option<Prefetch>,
}

impl Pulled {
    /// The image that a container of a [`resolved`] job names.
    pub(super) fn get(&self, image: &workflow::Image) -> anyhow::Result<&Arc<VerifiedImage>> {
        let found = image.reference.as_ref().and_then(|reference| self.here.get(reference));
        found.with_context(|| format!("`{}` was not pulled", image.name.source()))
    }

    /// Frees the images that are no longer needed.
    pub(super) fn keep(&mut self, is_needed: impl Fn(&Reference) -> bool) {
        self.here.retain(|reference, _| is_needed(reference));
    }

    /// Ends the prefetch, and does not free images one by one: the caller drops the whole store.
    pub(super) fn leave(self) {
        drop(self.prefetch);
        std::mem::forget(self.here);
    }

    /// Begins to pull the images of the next job while the present one runs.
    pub(super) fn look_ahead(&mut self, images: &Arc<Images>, next: &Job, report: &Report) {
        let missing: Vec<_> =
            prefetch::known(next).filter(|image| !self.here.contains_key(image)).cloned().collect();
        if self.prefetch.is_none() && !missing.is_empty() {
            self.prefetch = Some(Prefetch::start(Arc::clone(images), missing, report.clone()));
        }
    }

    /// Takes over the prefetched images. Waits for the prefetch only if the job needs one of its images.
    pub(super) fn settle(&mut self, job: &Job, report: &Report) {
        let Some(prefetch) = self.prefetch.take() else { return };
        let is_needed = |image: &Reference| prefetch.has(image);
        if prefetch::known(job).any(is_needed) {
            self.here.extend(prefetch.finish(report));
        }
    }
}

/// The job with the references of all images evaluated.
///
/// # Errors
/// When an expression does not evaluate to an image reference.
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
        .with_context(|| format!("`{}` does not yield an image name", image.name.source()))
        .hint("an expression without a value yields an empty string: check the names in it")
}

impl Images {
    /// Prepares pulling, as the trust allows it, with `finder` into the directory `store`.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub(crate) fn open(
        finder: Finder,
        pins: Pins,
        space: StoreMemory,
        report: &Report,
    ) -> anyhow::Result<Self> {
        finder.registries.warnings().iter().for_each(|warning| report.warn(warning));
        finder.registries.ignored_helpers().for_each(|warning| report.warn(&warning));
        let puller =
            Puller { finder, store: Store::open(Path::new(STORE))?, progress_every: PROGRESS_INTERVAL };
        Ok(Self { puller, pins, space })
    }

    /// Pulls the images of a container that are not there yet. Its credentials are only sent to the registry of its own
    /// image.
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
        let registry = |reference: &Reference| reference.named().map(|named| named.registry().to_owned());
        let own = container.image.reference.as_ref().and_then(registry);
        for reference in container.images().filter_map(|image| image.reference.as_ref()) {
            let credentials = credentials.as_ref().filter(|_| own == registry(reference));
            if let Entry::Vacant(missing) = pulled.here.entry(reference.clone()) {
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
        report.tell(Event::PullBegin { image: Text::of(reference) });
        let place = reference.named().map_or("its files", |_| "the registry");
        let mut waiting = None;
        let mut watch = |event| {
            show_wait(&mut waiting, reference, place, &event, report);
            tell(reference, &event, start, report);
        };
        let pin = self.pins.pin(reference);
        let pulled = pin.and_then(|pin| {
            let pulled = self.puller.pull(&pin, credentials, &self.space, &mut watch);
            pulled.with_context(|| format!("cannot pull the image `{reference}`"))
        });
        let outcome = if pulled.is_ok() { Outcome::Success } else { Outcome::Failure };
        let seconds = start.elapsed().into();
        report.tell(Event::PullEnd { image: Text::of(reference), outcome, seconds });
        pulled
    }

    /// Prefetches an image into memory that is spare at the moment. The console belongs to the present job, so messages
    /// go to the log only, until the next job waits for the image.
    pub(super) fn pull_ahead(
        &self,
        reference: &Reference,
        time: &PrefetchTime,
        report: &Report,
    ) -> anyhow::Result<VerifiedImage> {
        let spare = SpareMemory::of(&self.space, &time.is_left);
        let start = Instant::now();
        let mut watch = |event| {
            if time.is_awaited.load(Ordering::Relaxed) {
                return tell(reference, &event, start, report);
            }
            match &event {
                PullEvent::Resolved { bytes, .. } => {
                    let megabytes = *bytes as f64 / 1e6;
                    report.detail(format_args!("image {reference}: prefetching, {megabytes:.1} MB"));
                }
                PullEvent::Waiting { why, .. } | PullEvent::Elsewhere { why, .. } => {
                    report.detail(format_args!("image {reference}: prefetching: {why}"));
                    time.add_trouble(format!("image {reference}: {why}"));
                }
                _ => {}
            }
        };
        self.puller.pull(&self.pins.pin(reference)?, None, &spare, &mut watch)
    }
}

/// Shows what is waited for as of this event. It stays as it was at an event that reports progress itself.
fn show_wait(
    waiting: &mut Option<Waiting>,
    reference: &Reference,
    place: &str,
    event: &PullEvent,
    report: &Report,
) {
    let shown = |what, limit| Some(Waiting::start(report, format!("image {reference}: {what}"), limit));
    match event {
        PullEvent::Asking { limit } => *waiting = shown(format!("waiting for {place}"), *limit),
        PullEvent::Waiting { wait: pause, .. } => {
            *waiting = shown(format!("waiting to retry {place}"), *pause)
        }
        PullEvent::Assembling { limit } => *waiting = shown("assembling its layers".to_owned(), *limit),
        PullEvent::Elsewhere { .. } => {}
        PullEvent::Approved { .. } | PullEvent::Resolved { .. } | PullEvent::Progress { .. } => {
            *waiting = None
        }
    }
}

fn tell(reference: &Reference, event: &PullEvent, start: Instant, report: &Report) {
    let image = Text::of(reference);
    match event {
        PullEvent::Asking { .. } | PullEvent::Assembling { .. } => {}
        PullEvent::Elsewhere { place, why } => {
            report.warn(format_args!("image {reference}: cannot use `{place}`: {why}"));
        }
        PullEvent::Waiting { why, wait, tried, tries } => report.warn(format_args!(
            "image {reference}: {why}; retrying in {:.1} s ({tried} of {tries})",
            wait.as_secs_f32()
        )),
        PullEvent::Approved { reason } => {
            report.detail(format_args!("image {reference}: may run {reason}"));
        }
        PullEvent::Resolved { place, digest, layers, bytes, need } => {
            report.tell(Event::PullResolved {
                image,
                place: place.as_ref().map(Text::of),
                digest: Text::of(digest),
                layers: *layers as u64,
                bytes: *bytes,
                unpacked: need.about,
                exact: need.is_known(),
            });
        }
        PullEvent::Progress { done, bytes, .. } => {
            let seconds = start.elapsed().into();
            report.tell(Event::PullProgress { image, done: *done, bytes: *bytes, seconds });
        }
    }
}
