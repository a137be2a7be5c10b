//! Finds images: from a name to the manifest that the policy lets run, wherever the name leads.

use super::PullEvent;
use super::manifest::{self, Kind};
use crate::http;
use crate::image::auth::{Login, Logins};
use crate::image::bundle::Bundle;
use crate::image::local;
use crate::image::patience::{Listener, Patience};
use crate::image::platform::Machine;
use crate::image::reference::{Local, Named, Reference};
use crate::image::refusal::Asker;
use crate::image::registries::{Endpoint, Registries};
use crate::image::registry::{Credentials, Repository};
use crate::image::source::Source;
use crate::trust::attachments::Attachments;
use crate::trust::pins::Locked;
use crate::trust::policy::{Approval, Policy};
use anyhow::bail;
use oci_spec::image::ImageManifest;

/// Where images are, and which of them may run.
#[derive(Debug, Clone)]
pub struct Finder {
    /// Makes the requests.
    pub http: http::Client,
    /// Which registries are elsewhere, insecure or blocked.
    pub registries: Registries,
    /// Who pulls from registries that demand to know.
    pub logins: Logins,
    /// Which images may run.
    pub policy: Policy,
    /// Where signatures are looked for.
    pub attachments: Attachments,
    /// What the images are to run on.
    pub machine: Machine,
    /// What has images before any registry is asked.
    pub bundle: Option<Bundle>,
    /// Whether the bundle may say which image a tag means. Where only workflows are to be signed, and the signature is not
    /// one of all that came with the workflow, it may not: TLS is what vouches for such images then.
    pub believes_bundle: bool,
}

/// An image that was found: what is known before its layers come.
pub(super) struct Found {
    pub(super) source: Box<dyn Source>,
    /// What has not been asked yet. Layers are the same wherever they come from.
    pub(super) others: Vec<Box<dyn Source>>,
    pub(super) approval: Approval,
    pub(super) manifest: ImageManifest,
    /// The name in full that it was found and judged by, if it has one.
    pub(super) named: Option<Named>,
}

impl Finder {
    /// What the policy says about an image, without its layers.
    ///
    /// # Errors
    /// When it rejects the image, or the image cannot be had.
    pub fn judge(&self, reference: &Reference, watch: &mut dyn FnMut(PullEvent)) -> anyhow::Result<Approval> {
        let found =
            Listener::staying(watch, |listener| self.look_up(reference, None, Kind::Image, listener))?;
        Ok(found.approval)
    }

    /// What stands behind a name that the policy lets run, by its digests.
    ///
    /// # Errors
    /// When the policy rejects the image, or it cannot be had.
    pub fn lock(&self, reference: &Reference, watch: &mut dyn FnMut(PullEvent)) -> anyhow::Result<Locked> {
        let identifier = match reference {
            Reference::Registry(named) => named.identifier(),
            Reference::Local(local) => local.name().to_owned(),
        };
        Listener::staying(watch, |listener| {
            let Found { source, approval, .. } = self.look_up(reference, None, Kind::Image, listener)?;
            let bytes = Patience::usual().until_done(listener, || source.manifest(&identifier))?;
            manifest::locked(&bytes, approval.manifest())
        })
    }

    /// The image, wherever its name leads, if the policy lets it run.
    pub(super) fn look_up(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        kind: Kind,
        listener: &Listener<'_>,
    ) -> anyhow::Result<Found> {
        match reference {
            Reference::Registry(named) => self.find(named, credentials, kind, listener),
            Reference::Local(local) => self.find_here(reference, local, kind),
        }
    }

    /// The image in files of this machine.
    fn find_here(&self, reference: &Reference, local: &Local, kind: Kind) -> anyhow::Result<Found> {
        let source = local::open(local)?;
        let found = manifest::resolve(&*source, local.name(), None, kind, &self.machine);
        let (digest, manifest) = found.map_err(|failure| failure.error)?;
        let approval = self.approve_local(reference, digest)?;
        Ok(Found { source, others: Vec::new(), approval, manifest, named: None })
    }

    /// The image in the first place that has it. The last place is asked with patience: it is nobody else's turn.
    fn find(
        &self,
        reference: &Named,
        credentials: Option<&Credentials>,
        kind: Kind,
        listener: &Listener<'_>,
    ) -> anyhow::Result<Found> {
        if let Some(found) = self.find_along(reference, kind, listener)? {
            return Ok(found);
        }
        let places = self.places(reference)?;
        // A name that may be of several registries does not say whose credentials they are.
        let is_certain = places.iter().all(|(candidate, _)| candidate == &places[0].0);
        let credentials = credentials.filter(|_| is_certain);
        let mut places = places.into_iter().peekable();
        while let Some((candidate, endpoint)) = places.next() {
            let place = endpoint.name();
            let is_last = places.peek().is_none();
            let patience = if is_last { Patience::usual() } else { Patience::none() };
            let found = self
                .repository(&candidate, endpoint, credentials)
                .and_then(|repository| self.find_at(&candidate, repository, kind, patience, listener));
            match found {
                Err(error) if !is_last => {
                    (listener.tell)(PullEvent::Elsewhere { place, why: format!("{error:#}") });
                }
                Err(error) => return Err(error),
                Ok(found) => {
                    let others = places.map(|(candidate, endpoint)| {
                        let repository = self.repository(&candidate, endpoint, credentials)?;
                        Ok(Box::new(repository) as Box<dyn Source>)
                    });
                    return Ok(Found { others: others.collect::<anyhow::Result<_>>()?, ..found });
                }
            }
        }
        bail!("there is no place to pull from")
    }

    /// The image in what came along with its workflow, under each name that the reference may mean and that is not
    /// blocked: the policy judges that name, as it would if the image came from its registry.
    fn find_along(
        &self,
        reference: &Named,
        kind: Kind,
        listener: &Listener<'_>,
    ) -> anyhow::Result<Option<Found>> {
        let Some(bundle) = &self.bundle else { return Ok(None) };
        let candidates = self.registries.candidates(reference)?.into_iter();
        for candidate in candidates.filter(|candidate| self.registries.sources(candidate).is_ok()) {
            let mut shelves = bundle.shelves(&candidate).into_iter();
            let Some(shelf) = shelves.next() else { continue };
            let found = self.find_at(&candidate, shelf, kind, Patience::usual(), listener)?;
            if self.takes_word_of_bundle(&candidate, &found.approval) {
                let others = shelves.map(|shelf| Box::new(shelf) as Box<dyn Source>).collect();
                return Ok(Some(Found { others, ..found }));
            }
            let why = format!("nobody has signed what the bundle calls `{candidate}`");
            (listener.tell)(PullEvent::Elsewhere { place: "the bundle".into(), why });
        }
        Ok(None)
    }

    fn find_at(
        &self,
        candidate: &Named,
        source: impl Source + 'static,
        kind: Kind,
        patience: Patience,
        listener: &Listener<'_>,
    ) -> anyhow::Result<Found> {
        let (digest, manifest) = patience.until_done(listener, || {
            let (identifier, digest) = (candidate.identifier(), candidate.digest());
            manifest::resolve(&source, &identifier, digest, kind, &self.machine)
        })?;
        let approval = self.approve(candidate, &source, digest, listener)?;
        let named = Some(candidate.clone());
        Ok(Found { source: Box::new(source), others: Vec::new(), approval, manifest, named })
    }

    /// What the name may mean, and where that may be.
    fn places(&self, reference: &Named) -> anyhow::Result<Vec<(Named, Endpoint)>> {
        let mut places = Vec::new();
        let mut refused = None;
        for candidate in self.registries.candidates(reference)? {
            match self.registries.sources(&candidate) {
                Ok(sources) => places.extend(sources.into_iter().map(|source| (candidate.clone(), source))),
                Err(error) => refused = Some(error),
            }
        }
        refused.filter(|_| places.is_empty()).map_or(Ok(places), Err)
    }

    fn repository(
        &self,
        candidate: &Named,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
    ) -> anyhow::Result<Repository> {
        let own = credentials.filter(|_| endpoint.registry == candidate.registry());
        let (login, asker) = match own {
            Some(own) => (Some(Login::Password(own.clone())), Asker::Workflow),
            None => match self.logins.find(&endpoint.name())? {
                Some(login) => (Some(login), Asker::AuthFile),
                None => (None, Asker::Nobody),
            },
        };
        Ok(Repository::new(&self.http, endpoint, login, asker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::bundle::Writer;
    use crate::trust::Trust;
    use serde_json::json;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::{fs, thread};

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    /// A registry that has nothing; its address.
    fn empty_registry() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        address
    }

    #[test]
    fn a_bundle_that_nobody_signed_does_not_say_what_a_tag_means() {
        let (home, registry) = (tempfile::tempdir().unwrap(), empty_registry());
        let name = format!("{registry}/tool:1");
        let mut writer = Writer::new(&home.path().join("bundle")).unwrap();
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
            "digest": writer.put(b"{}").unwrap().to_string()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
        let digest = writer.put(manifest.as_bytes()).unwrap();
        writer.name(&name, MANIFEST, digest, manifest.len() as u64);
        writer.finish(b"jobs: {}", &[]).unwrap();
        let bundle = Bundle::open(&home.path().join("bundle")).unwrap().bundle;
        bundle.verify().unwrap();

        let trust = home.path().join("trust");
        fs::create_dir(&trust).unwrap();
        let insecure = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
        fs::write(trust.join("registries.conf"), insecure).unwrap();
        let trust = Trust::from_folder(&trust).unwrap();
        let finder = trust.finder(http::Client::new(&trust.roots), Machine::this());
        let judge = |name: &str, believes_bundle| {
            let finder = Finder { bundle: Some(bundle.clone()), believes_bundle, ..finder.clone() };
            let mut told = Vec::new();
            let judged = finder.judge(&name.parse().unwrap(), &mut |event| told.push(format!("{event:?}")));
            (judged.map(|approval| approval.manifest()).ok(), told.join("\n"))
        };
        assert_eq!(judge(&name, true), (Some(digest), String::new()));
        let (judged, told) = judge(&name, false);
        assert!(judged.is_none() && told.contains("nobody has signed what the bundle calls"), "{told}");
        let pinned = format!("{name}@{digest}");
        assert_eq!(judge(&pinned, false), (Some(digest), String::new()));
        // Of another repository it has nothing, whatever the digest.
        assert!(judge(&format!("{registry}/other@{digest}"), true).0.is_none());
    }
}
