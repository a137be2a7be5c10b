//! What a trust directory says about a workflow, judged from files alone.

use super::read_beside;
use crate::check;
use anyhow::{Context, Result};
use config::trust::Trust;
use config::workflow_trust::{Beside, BundledPins, Candidate, Provenance, Signer};
use hint::{WithHint as _, hinted};
use oci_pull::artifact::{BESIDE, WORKFLOW};
use oci_trust::pins::Pins;
use oci_trust::policy::Subject;
use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;
use timestamp::Timestamp;
use workflow::Plan;

/// A workflow to which no file-based check objects.
pub(crate) struct Examined {
    pub(crate) signer: Signer,
    pub(crate) plan: Plan,
    pub(crate) pins: Pins,
}

/// Checks its signature, name, serial number and date, the digests of its images, and the rules for them. Signatures
/// of images are not checked, because they are in registries. The control URL of the later boot is not known.
pub(crate) fn examine(file: &str, bytes: &[u8], trust: &Trust) -> Result<Examined> {
    examine_as(Provenance::Nothing, file, bytes, trust)
}

/// The same for a workflow that is or will be in an initrd.
pub(crate) fn examine_as(
    provenance: Provenance,
    file: &str,
    bytes: &[u8],
    trust: &Trust,
) -> Result<Examined> {
    let get = |ending: &str| read_beside(Path::new(file), ending);
    let examined = || {
        let authenticated = candidate(file, bytes, provenance).authenticate(&trust.rules, &get)?;
        let plan = workflow::check(bytes).into_plan(file).or_hint(check::REMEDY)?;
        let pins = authenticated.admit(&plan, now())?.pins(&plan, &get)?;
        plan.images().try_for_each(|image| refuse_rejected(image, trust))?;
        anyhow::Ok(Examined { signer: authenticated.signer().clone(), plan, pins })
    };
    examined().with_context(|| format!("the workflow `{file}` may not run"))
}

/// A workflow from a bundle, and which parts of the bundle a boot would accept.
pub(crate) struct ExaminedBundle {
    pub(crate) plan: Plan,
    pub(crate) pins: Pins,
    /// Whether the bundle may say which image a tag means.
    pub(crate) is_covered: bool,
    /// Why the bundle's lock file is not used.
    pub(crate) unused_lock: Option<anyhow::Error>,
}

/// The same for the content of a bundle, by media type. `control_url` is what a machine will request, if known.
pub(crate) fn examine_bundle(
    name: &str,
    control_url: Option<&str>,
    documents: &HashMap<String, Vec<u8>>,
    trust: &Trust,
) -> Result<ExaminedBundle> {
    let of_ending = |ending: &str| BESIDE.iter().find(|(known, _)| *known == ending).map(|(_, kind)| *kind);
    let get: Beside<'_> = &|ending| Ok(of_ending(ending).and_then(|kind| documents.get(kind)).cloned());
    let examined = || {
        let bytes = documents.get(WORKFLOW).with_context(|| format!("`{name}` contains no workflow"))?;
        let candidate = Candidate { control_url, ..candidate(name, bytes, Provenance::Nothing) };
        let authenticated = candidate.authenticate(&trust.rules, get)?;
        let plan = workflow::check(bytes).into_plan(name).or_hint(check::REMEDY)?;
        let BundledPins { pins, unused_lock } =
            authenticated.admit(&plan, now())?.bundled_pins(&plan, get)?;
        anyhow::Ok(ExaminedBundle { plan, pins, is_covered: authenticated.covers_bundle(), unused_lock })
    };
    examined().with_context(|| format!("the workflow in `{name}` may not run"))
}

fn candidate<'a>(origin: &'a str, bytes: &'a [u8], provenance: Provenance) -> Candidate<'a> {
    Candidate { origin, bytes, control_url: None, provenance }
}

fn now() -> Option<Timestamp> {
    Some(Timestamp::of(SystemTime::now()))
}

fn refuse_rejected(image: &oci_reference::Reference, trust: &Trust) -> Result<()> {
    // This is a file on the machine that will run the workflow.
    let Ok(subject) = Subject::of(image) else { return Ok(()) };
    let rule = trust.policy.rule(&subject);
    if !rule.rejects_all() {
        return Ok(());
    }
    Err(hinted(
        format!("the policy always rejects the image `{image}`, by its rule {rule}"),
        format!("see `iguana trust explain {image}`"),
    ))
}
