//! Asks the policy about an image, and fetches the signatures it may need.

use super::Finder;
use super::attached::Attached;
use crate::retry::PullObserver;
use crate::source::ImageSource;
use anyhow::Context as _;
use oci_reference::digest::Digest;
use oci_reference::reference::Named;
use oci_trust::policy::{Approval, Subject};

impl Finder {
    /// Asks the policy for approval of the image that was found as `candidate` in `repository`.
    pub(super) fn approve(
        &self,
        candidate: &Named,
        repository: &dyn ImageSource,
        manifest: Digest,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<Approval> {
        let subject = Subject::of_registry(candidate);
        let rule = self.policy.rule(&subject);
        let place = candidate.moved_to(&repository.name())?;
        if !rule.needs_signatures() || !self.attachments.are_used(&place) {
            return rule.judge(&subject, manifest, &[]);
        }
        let (attached, cannot) = (Attached::new(repository, observer), "cannot fetch its signatures");
        let found = attached.by_tag(manifest).context(cannot)?;
        let mut signatures =
            found.map_or(Ok(Vec::new()), |found| attached.signatures(&found)).context(cannot)?;
        if let Ok(approval) = rule.judge(&subject, manifest, &signatures) {
            return Ok(approval);
        }
        signatures.extend(attached.among_referrers(manifest).context(cannot)?);
        rule.judge(&subject, manifest, &signatures).map_err(|rejection| attached.explain(rejection))
    }

    /// Asks the policy for approval of an image in local files, which has no attached signatures.
    pub(super) fn approve_local(&self, subject: &Subject, manifest: Digest) -> anyhow::Result<Approval> {
        self.policy.rule(subject).judge(subject, manifest, &[])
    }
}
