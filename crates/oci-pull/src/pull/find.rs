//! Finds images: from a name to the manifest that the policy approves, for all transports.

use super::PullEvent;
use super::manifest::ManifestKind;
use super::resolve::{Resolved, locked, resolve};
use crate::auth::{Login, Logins};
use crate::bundle::Bundle;
use crate::caller::Caller;
use crate::local;
use crate::refusal::LoginOrigin;
use crate::registries::{Endpoint, Registries};
use crate::registry::{Credentials, Repository};
use crate::retry::{PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::{Context as _, bail};
use fetch::http;
use oci_reference::platform::Machine;
use oci_reference::reference::{Local, Named, Reference};
use oci_spec::image::ImageManifest;
use oci_trust::attachments::Attachments;
use oci_trust::pins::Locked;
use oci_trust::policy::{Approval, Policy, Subject};

/// Where images are, and which of them may run.
#[derive(Debug, Clone)]
pub struct Finder {
    /// Makes the requests.
    pub http: http::Client,
    /// Which registries are mirrored, insecure or blocked.
    pub registries: Registries,
    /// The logins for registries that require one.
    pub logins: Logins,
    /// Which images may run.
    pub policy: Policy,
    /// Where signatures are looked for.
    pub attachments: Attachments,
    /// The platform that images must match.
    pub machine: Machine,
    /// A source of images that is tried before any registry.
    pub bundle: Option<Bundle>,
    /// Whether the bundle is trusted for the meaning of tags. It is not if only workflows must be signed and no
    /// signature covers all that came with the workflow: then TLS vouches for such images.
    pub believes_bundle: bool,
    /// The command whose options hints name.
    pub caller: Caller,
}

/// An image that was found, before its layers are fetched.
pub(super) struct FoundImage {
    pub(super) source: Box<dyn ImageSource>,
    /// The sources that have not been asked yet. They can serve layers, too, as digests identify these.
    pub(super) others: Vec<Box<dyn ImageSource>>,
    pub(super) approval: Approval,
    pub(super) manifest: ImageManifest,
    /// The documents that lead to the manifest, from that of the name on; the last one is the manifest itself.
    pub(super) documents: Vec<Vec<u8>>,
    /// The full name under which it was found and judged, if it has one.
    pub(super) named: Option<Named>,
}

impl FoundImage {
    /// The document of the name.
    pub(super) fn top(&self) -> anyhow::Result<&[u8]> {
        self.documents.first().map(Vec::as_slice).context("no document was found")
    }
}

impl Finder {
    /// Asks the policy about an image, without fetching its layers.
    ///
    /// # Errors
    /// When the policy rejects it, or it cannot be fetched.
    pub fn judge(&self, reference: &Reference, watch: &mut dyn FnMut(PullEvent)) -> anyhow::Result<Approval> {
        let found = PullObserver::staying(watch, |observer| {
            self.look_up(reference, None, ManifestKind::Image, observer)
        })?;
        Ok(found.approval)
    }

    /// The digests behind a name that the policy approves.
    ///
    /// # Errors
    /// When the policy rejects the image, or it cannot be fetched.
    pub fn lock(&self, reference: &Reference, watch: &mut dyn FnMut(PullEvent)) -> anyhow::Result<Locked> {
        PullObserver::staying(watch, |observer| {
            let found = self.look_up(reference, None, ManifestKind::Image, observer)?;
            let read = |deadline| {
                locked(&*found.source, found.top()?, found.approval.manifest(), &self.machine, deadline)
            };
            RetryPolicy::usual().until_done(observer, read)
        })
    }

    /// Finds the image for any transport, if the policy approves it.
    pub(super) fn look_up(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        kind: ManifestKind,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<FoundImage> {
        match reference {
            Reference::Registry(named) => self.find(named, credentials, kind, observer),
            Reference::Local(local) => self.find_here(local, kind),
        }
    }

    /// Finds the image in local files.
    fn find_here(&self, local: &Local, kind: ManifestKind) -> anyhow::Result<FoundImage> {
        let local::Opened { source, path } = local::open(local)?;
        let deadline = http::Deadline::within(http::DOCUMENT_TIME_LIMIT);
        let found = resolve(&*source, local.name(), None, kind, &self.machine, deadline);
        let Resolved { digest, manifest, documents } = found.map_err(|failure| failure.error)?;
        let approval = self.approve_local(&Subject::of_path(local.transport().name(), &path), digest)?;
        Ok(FoundImage { source, others: Vec::new(), approval, manifest, documents, named: None })
    }

    /// Finds the image in the first location that has it. Only the last location is asked with retries, as no other one
    /// is left.
    fn find(
        &self,
        reference: &Named,
        credentials: Option<&Credentials>,
        kind: ManifestKind,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<FoundImage> {
        if let Some(found) = self.find_along(reference, kind, observer)? {
            return Ok(found);
        }
        let places = self.places(reference)?;
        // If the name may refer to several registries, it is unclear to which the credentials belong.
        let is_certain = places.iter().all(|(candidate, _)| candidate == &places[0].0);
        let credentials = credentials.filter(|_| is_certain);
        let mut places = places.into_iter().peekable();
        while let Some((candidate, endpoint)) = places.next() {
            let place = endpoint.name();
            let is_last = places.peek().is_none();
            let retry = if is_last { RetryPolicy::usual() } else { RetryPolicy::none() };
            let found = self
                .repository(&candidate, endpoint, credentials)
                .and_then(|repository| self.find_at(&candidate, repository, kind, retry, observer));
            match found {
                Err(error) if !is_last => {
                    (observer.tell)(PullEvent::Elsewhere { place, why: format!("{error:#}") });
                }
                Err(error) => return Err(error),
                Ok(found) => {
                    let others = places.filter_map(|(candidate, endpoint)| {
                        self.other(&candidate, endpoint, credentials, observer)
                    });
                    return Ok(FoundImage { others: others.collect(), ..found });
                }
            }
        }
        bail!("there is no source to pull from")
    }

    /// Finds the image in the bundle, under each name that the reference may mean and that is not blocked. The policy
    /// judges that name, as if the image came from its registry.
    fn find_along(
        &self,
        reference: &Named,
        kind: ManifestKind,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<Option<FoundImage>> {
        let Some(bundle) = &self.bundle else { return Ok(None) };
        let candidates = self.registries.candidates(reference)?.into_iter();
        for candidate in candidates.filter(|candidate| self.registries.sources(candidate).is_ok()) {
            let mut repository_views = bundle.repository_views(&candidate).into_iter();
            let Some(repository_view) = repository_views.next() else { continue };
            let found = self.find_at(&candidate, repository_view, kind, RetryPolicy::usual(), observer)?;
            if self.takes_word_of_bundle(&candidate, &found.approval) {
                let others = repository_views
                    .map(|repository_view| Box::new(repository_view) as Box<dyn ImageSource>)
                    .collect();
                return Ok(Some(FoundImage { others, ..found }));
            }
            let why = format!("no signature covers `{candidate}` in the bundle");
            (observer.tell)(PullEvent::Elsewhere { place: "the bundle".into(), why });
        }
        Ok(None)
    }

    fn find_at(
        &self,
        candidate: &Named,
        source: impl ImageSource + 'static,
        kind: ManifestKind,
        retry: RetryPolicy,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<FoundImage> {
        let Resolved { digest, manifest, documents } = retry.until_done(observer, |deadline| {
            let (identifier, digest) = (candidate.identifier(), candidate.digest());
            resolve(&source, &identifier, digest, kind, &self.machine, deadline)
        })?;
        let approval = self.approve(candidate, &source, digest, observer)?;
        let named = Some(candidate.clone());
        Ok(FoundImage { source: Box::new(source), others: Vec::new(), approval, manifest, documents, named })
    }

    /// The names that the reference may mean, and their locations.
    fn places(&self, reference: &Named) -> anyhow::Result<Vec<(Named, Endpoint)>> {
        let mut places = Vec::new();
        let mut refused = None;
        for candidate in self.registries.candidates(reference)? {
            // No registry is asked for what the policy rejects whatever it answers.
            let may_run = self.policy.rule(&Subject::of_registry(&candidate)).check_acceptance();
            match may_run.and_then(|()| self.registries.sources(&candidate)) {
                Ok(sources) => places.extend(sources.into_iter().map(|source| (candidate.clone(), source))),
                Err(error) => refused = Some(error),
            }
        }
        refused.filter(|_| places.is_empty()).map_or(Ok(places), Err)
    }

    /// A further source of an image that was found. One whose login cannot be used is left out.
    fn other(
        &self,
        candidate: &Named,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
        observer: &PullObserver<'_>,
    ) -> Option<Box<dyn ImageSource>> {
        let place = endpoint.name();
        match self.repository(candidate, endpoint, credentials) {
            Ok(repository) => Some(Box::new(repository)),
            Err(error) => {
                (observer.tell)(PullEvent::Elsewhere { place, why: format!("{error:#}") });
                None
            }
        }
    }

    fn repository(
        &self,
        candidate: &Named,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
    ) -> anyhow::Result<Repository> {
        let own = credentials.filter(|_| endpoint.registry == candidate.registry());
        let (login, login_origin) = match own {
            Some(own) => (Some(Login::Password(own.clone())), LoginOrigin::Workflow),
            None => match self.logins.find(&endpoint.name())? {
                Some(login) => (Some(login), LoginOrigin::AuthFile),
                None => (None, LoginOrigin::Nobody),
            },
        };
        Ok(Repository::new(&self.http, endpoint, login, login_origin).for_caller(self.caller))
    }
}
