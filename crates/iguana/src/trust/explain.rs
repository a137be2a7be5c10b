//! Which rule decides about an image or a workflow, and why.

use super::{puller, tell};
use crate::output;
use anyhow::{Context, Result, anyhow};
use iguana_core::hint::WithHint;
use iguana_core::image::Reference;
use iguana_core::trust::Trust;
use iguana_core::trust::policy::Subject;
use iguana_core::workflow;
use std::fs;
use std::io::stdout;
use std::path::Path;

/// Explains `subject`; an error when it may not run.
pub(super) fn run(subject: &str, trust: &Trust) -> Result<()> {
    match Path::new(subject).is_file() {
        true => workflow(subject, trust),
        false => image(subject, trust),
    }
}

fn image(name: &str, trust: &Trust) -> Result<()> {
    let reference: Reference = name.parse().hint("name an image, or the file of a workflow")?;
    say(&format!("image {reference}\n  rule: {}\n", trust.policy.rule(&Subject::of(&reference)?)))?;
    let puller = puller(trust)?;
    let approval =
        puller.judge(&reference, &mut tell).with_context(|| format!("`{reference}` may not run"))?;
    say(&format!("  manifest: {}\n  verdict: may run {}\n", approval.manifest(), approval.reason()))
}

fn workflow(file: &str, trust: &Trust) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read the workflow `{file}`"))?;
    let refused = || format!("the workflow `{file}` may not run");
    let signer = signer(file, &bytes, trust).with_context(refused)?;
    say(&format!("workflow {file}\n  signature: {signer}\n"))?;
    let plan = workflow::check(&bytes).into_plan(file).with_context(refused)?;
    trust.rules.check_serial(plan.serial).with_context(refused)?;
    plan.images().try_for_each(|image| {
        let pinned = if image.named().is_some_and(|named| named.digest().is_some()) {
            "named by digest"
        } else {
            "not named by digest"
        };
        let rule = trust.policy.rule(&Subject::of(image)?).to_string();
        say(&format!("  image {image}: {pinned}; rule: {rule}\n"))
    })
}

fn signer(file: &str, bytes: &[u8], trust: &Trust) -> Result<String> {
    if !trust.rules.demand_signature() {
        return Ok("none is demanded".into());
    }
    let place = format!("{file}.sig");
    let signature = fs::read(&place).map_err(|error| anyhow!("cannot read its signature `{place}`: {error}"));
    Ok(format!("by {}", trust.rules.verify(bytes, &signature.hint("sign it, and put the signature there")?)?))
}

fn say(text: &str) -> Result<()> {
    output::write(stdout(), text)
}
