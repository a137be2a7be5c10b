//! Judges the images of a bundle without asking any registry: the decision that a boot would make.

use super::Finder;
use super::manifest;
use crate::bundle::RepositoryView;
use crate::retry::PullObserver;
use anyhow::{Context as _, ensure};
use hint::hinted;
use oci_reference::digest::Digest;
use oci_reference::reference::{Named, Reference};
use oci_trust::policy::Approval;

impl Finder {
    /// Asks the policy about an image in the bundle, for each platform that the bundle has.
    ///
    /// # Errors
    /// When the bundle does not have it, the policy rejects it for one of the platforms, or a boot would not trust the
    /// bundle for the meaning of its tag.
    pub fn judge_bundled(&self, reference: &Reference) -> anyhow::Result<Vec<Approval>> {
        let absent = || {
            let hint = "make the bundle anew: `iguana bundle WORKFLOW --output FILE`";
            hinted(format!("the bundle has no image `{reference}`"), hint)
        };
        let named = reference.named().ok_or_else(absent)?;
        let mut refused = None;
        for candidate in self.registries.candidates(named)? {
            if let Err(error) = self.registries.sources(&candidate) {
                refused = Some(error);
                continue;
            }
            let repository_views = self.bundle.iter().flat_map(|bundle| bundle.repository_views(&candidate));
            if let Some(repository_view) = repository_views.into_iter().next() {
                return self.judge_on(&candidate, &repository_view);
            }
        }
        Err(refused.unwrap_or_else(absent))
    }

    fn judge_on(&self, candidate: &Named, repository_view: &RepositoryView) -> anyhow::Result<Vec<Approval>> {
        let manifests = manifest::taken_along(repository_view, &candidate.identifier(), candidate.digest());
        let manifests = manifests.with_context(|| format!("`{candidate}`"))?;
        ensure!(!manifests.is_empty(), "the bundle has none of the manifests of `{candidate}`");
        let judge = |digest: &Digest| {
            let approval = PullObserver::staying(&mut |_| (), |observer| {
                self.approve(candidate, repository_view, *digest, observer)
            })
            .with_context(|| format!("`{candidate}` may not run"))?;
            if self.takes_word_of_bundle(candidate, &approval) {
                return Ok(approval);
            }
            Err(hinted(
                format!(
                    "nobody has signed what the bundle calls `{candidate}`: a machine would ask the registry"
                ),
                "sign the lock file (`WORKFLOW.lock.sig`) or the image, and make the bundle anew",
            ))
        };
        manifests.iter().map(judge).collect()
    }

    /// Whether the bundle is trusted for the meaning of a name: the name has a digest, or a signature vouches for it.
    pub(super) fn takes_word_of_bundle(&self, candidate: &Named, approval: &Approval) -> bool {
        candidate.digest().is_some() || self.believes_bundle || approval.is_by_signature()
    }
}
