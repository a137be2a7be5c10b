//! What a trust says about a workflow, as far as files tell it.

use super::beside;
use anyhow::{Context, Result};
use iguana_core::hint::{WithHint, hinted};
use iguana_core::trust::Trust;
use iguana_core::trust::pins::{Lock, Pins};
use iguana_core::trust::policy::Subject;
use iguana_core::workflow::artifact::{BESIDE, WORKFLOW};
use iguana_core::workflow::{self, Plan};
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A workflow that nothing is known to hold back.
pub(crate) struct Examined {
    /// Who has signed it, in words.
    pub(crate) signer: String,
    pub(crate) plan: Plan,
    pub(crate) pins: Pins,
}

/// Looks at its signature, its serial number, the digests of its images and the rules for them. Signatures of images are
/// in registries, and are not asked for.
pub(crate) fn examine(file: &str, bytes: &[u8], trust: &Trust) -> Result<Examined> {
    let get = |ending: &str| {
        let place = beside(Path::new(file), ending);
        match fs::read(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read.with_context(|| format!("cannot read `{}`", place.display()))?)),
        }
    };
    examine_with(file, bytes, trust, &get)
}

/// The same for a workflow that came with what belongs to it: all by media types.
pub(crate) fn examine_bundle(
    name: &str,
    documents: &HashMap<String, Vec<u8>>,
    trust: &Trust,
) -> Result<Examined> {
    let of_ending = |ending: &str| BESIDE.iter().find(|(known, _)| *known == ending).map(|(_, kind)| *kind);
    let get = |ending: &str| Ok(of_ending(ending).and_then(|kind| documents.get(kind)).cloned());
    let bytes = documents.get(WORKFLOW).with_context(|| format!("`{name}` has no workflow"))?;
    examine_with(name, bytes, trust, &get)
}

/// What lies beside a workflow, by its ending; nothing where nothing does.
type Get<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

fn examine_with(file: &str, bytes: &[u8], trust: &Trust, get: Get<'_>) -> Result<Examined> {
    let examined = || {
        let signer = signer(file, bytes, ".sig", trust, get)?;
        let plan = workflow::check(bytes).into_plan(file)?;
        trust.rules.check_serial(plan.serial)?;
        let pins = pins(file, &plan, trust, get)?;
        plan.images().try_for_each(|image| refuse_rejected(image, trust))?;
        anyhow::Ok(Examined { signer, plan, pins })
    };
    examined().with_context(|| format!("the workflow `{file}` may not run"))
}

fn signer(file: &str, bytes: &[u8], ending: &str, trust: &Trust, get: Get<'_>) -> Result<String> {
    if !trust.rules.demand_signature() {
        return Ok("none is demanded".into());
    }
    let signature = get(ending)?
        .with_context(|| format!("there is no signature `{file}{ending}`"))
        .hint("sign it, and put the signature there")?;
    Ok(format!("by {}", trust.rules.verify(bytes, &signature)?))
}

fn pins(file: &str, plan: &Plan, trust: &Trust, get: Get<'_>) -> Result<Pins> {
    if !trust.rules.demand_digests() {
        return Ok(Pins::default());
    }
    let bare = Pins::demanded(Lock::default());
    if bare.check(plan).is_ok() {
        return Ok(bare);
    }
    let pins = match get(".lock")? {
        None => bare,
        Some(bytes) => {
            signer(file, &bytes, ".lock.sig", trust, get)?;
            Pins::demanded(Lock::parse(&bytes).with_context(|| format!("`{file}.lock` is not a lock file"))?)
        }
    };
    pins.check(plan)?;
    Ok(pins)
}

fn refuse_rejected(image: &iguana_core::image::Reference, trust: &Trust) -> Result<()> {
    let subject = Subject::of(image)?;
    let rule = trust.policy.rule(&subject);
    if !rule.rejects_all() {
        return Ok(());
    }
    Err(hinted(
        format!("the policy rejects the image `{image}`, whoever signs it, by its rule {rule}"),
        format!("`iguana trust explain {image}` says more"),
    ))
}
