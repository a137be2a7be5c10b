//! The part of a bundle that belongs to one repository, as an image source.

use super::Bundle;
use crate::retry::Failure;
use crate::source::ImageSource;
use fetch::http::Deadline;
use hint::hinted;
use oci_reference::digest::Digest;
use oci_reference::reference::Named;
use std::io::Read;

/// The part of a bundle that belongs to one repository, in one of the bundle's locations.
pub(crate) struct RepositoryView {
    bundle: Bundle,
    place: usize,
    repository: String,
}

impl Bundle {
    /// The views of an image's repository, one for each location; none if the bundle does not have the image.
    pub(crate) fn repository_views(&self, image: &Named) -> Vec<RepositoryView> {
        let repository = image.name();
        let is_it = |(name, digest): (&str, Digest)| match image.digest() {
            Some(wanted) => digest == wanted && is_of(name, &repository),
            None => name == format!("{repository}:{}", image.identifier()),
        };
        let places = if self.names().any(is_it) { self.0.places.len() } else { 0 };
        let repository_view =
            |place| RepositoryView { bundle: self.clone(), place, repository: repository.clone() };
        (0..places).map(repository_view).collect()
    }
}

/// Whether a name belongs to a repository.
fn is_of(name: &str, repository: &str) -> bool {
    name.strip_prefix(repository).is_some_and(|rest| rest.starts_with([':', '@']))
}

impl RepositoryView {
    fn source(&self) -> &dyn ImageSource {
        &*self.bundle.0.places[self.place]
    }
}

impl ImageSource for RepositoryView {
    fn name(&self) -> String {
        self.repository.clone()
    }

    fn is_remote(&self) -> bool {
        self.source().is_remote()
    }

    fn place_of(&self, digest: Digest) -> String {
        self.source().place_of(digest)
    }

    fn has(&self, manifest: Digest) -> bool {
        self.bundle.has(manifest)
    }

    fn manifest(&self, identifier: &str, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let name = format!("{}:{identifier}", self.repository);
        let named = || self.bundle.names().find(|(known, _)| *known == name).map(|(_, digest)| digest);
        let digest = identifier.parse().ok().filter(|digest| self.bundle.has(*digest)).or_else(named);
        let digest = digest.ok_or_else(|| {
            let message = format!("the bundle does not contain `{identifier}` of `{}`", self.repository);
            Failure::absent(hinted(message, "create the bundle again"))
        })?;
        self.document(digest, deadline)
    }

    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        self.source().document(digest, deadline)
    }

    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        self.source().blob(digest, size, start)
    }

    fn part(&self, digest: Digest, size: u64, start: u64, count: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.source().part(digest, size, start, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_names_with_tags_and_digests() {
        assert!(is_of("r.example/a:1", "r.example/a") && is_of("r.example/a@sha256:0", "r.example/a"));
        assert!(!is_of("r.example/ab:1", "r.example/a") && !is_of("r.example/a/b:1", "r.example/a"));
    }
}
