//! Reports which rule decides about an image or a workflow, and why.

use super::examine::examine;
use super::{finder, teller};
use crate::{check, output};
use anyhow::{Context, Result};
use config::trust::Trust;
use hint::WithHint;
use oci_reference::Reference;
use oci_trust::policy::Subject;
use std::path::Path;

/// Explains the decision about `subject`; fails if it may not run.
pub(super) fn run(subject: &str, trust: &Trust) -> Result<()> {
    match Path::new(subject).is_file() {
        true => workflow(subject, trust),
        false => image(subject, trust),
    }
}

fn image(name: &str, trust: &Trust) -> Result<()> {
    let reference: Reference = name.parse().hint("give an image, or the file of a workflow")?;
    let rule = trust.policy.rule(&Subject::of(&reference)?);
    output::say(format_args!("image {reference}"));
    output::say(format_args!("  rule: {rule}"));
    let finder = finder(trust)?;
    let approval =
        finder.judge(&reference, &mut teller()).with_context(|| format!("`{reference}` may not run"))?;
    output::say(format_args!("  manifest: {}", approval.manifest()));
    output::say(format_args!("  verdict: may run {}", approval.reason()));
    Ok(())
}

fn workflow(file: &str, trust: &Trust) -> Result<()> {
    let bytes = check::read(Path::new(file))?.bytes;
    let examined = examine(file, &bytes, trust)?;
    let version = examined.plan.serial.map_or("none".into(), |serial| serial.to_string());
    let last = examined.plan.valid_until.map_or("indefinitely".into(), |last| format!("until {last}"));
    let name = examined.plan.name.as_deref().unwrap_or("none");
    output::say(format_args!("workflow {file}"));
    output::say(format_args!("  name: {name}"));
    output::say(format_args!("  serial: {version}"));
    output::say(format_args!("  valid: {last}"));
    output::say(format_args!("  signature: {}", examined.signer));
    examined.plan.images().try_for_each(|image| {
        let is_by_digest = image.named().is_some_and(|named| named.digest().is_some());
        let pinned = match examined.pins.pin(image)? == *image {
            true if is_by_digest => "named by digest",
            true => "not named by digest",
            false => "pinned by the lock file",
        };
        let rule = trust.policy.rule(&Subject::of(image)?).to_string();
        output::say(format_args!("  image {image}: {pinned}; rule: {rule}"));
        Ok(())
    })
}
