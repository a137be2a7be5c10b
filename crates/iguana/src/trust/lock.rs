//! `iguana lock`: pins the images of a workflow to their current digests.

use super::{finder, open, read_beside, teller};
use crate::build::inputs::Input;
use crate::{check, output, output_file};
use anyhow::{Context, Result};
use hint::WithHint;
use oci_trust::pins::Lock;
use std::path::{Path, PathBuf};

/// Which workflow to lock, with which trust directory.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The workflow; the lock file is written to WORKFLOW.lock
    workflow: PathBuf,
    /// The trust directory [default: this machine's /etc/containers]
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
}

/// Writes the lock file. If the policy rejects an image, no file is written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let name = options.workflow.display().to_string();
    let Input { bytes, is_public, .. } = check::read(&options.workflow)?;
    let plan = workflow::check(&bytes).into_plan(&name);
    let plan =
        plan.with_context(|| format!("`{name}` is not a workflow")).or_hint("correct the errors reported")?;
    let finder = finder(&open(options.trust.as_deref())?)?;
    let mut lock = Lock::of(&bytes, plan.serial);
    for image in plan.images().filter(|image| image.named().is_none_or(|named| named.digest().is_none())) {
        let locked = finder.lock(image, &mut teller()).with_context(|| format!("cannot pin `{image}`"))?;
        output::say(format_args!("{image} is {}", locked.digest));
        lock.insert(image, locked);
    }
    let target = format!("{name}.lock");
    warn_of_replay(&options.workflow, &target, &lock);
    let text = format!("{lock}\n");
    // It names the images of the workflow.
    let mode = if is_public { output_file::PUBLIC } else { output_file::SECRET };
    output_file::write(Path::new(&target), mode, text.as_bytes())
        .hint("the directory of the workflow must be writable")?;
    output::say(format_args!(
        "wrote {target} with {} images; sign it: `openssl dgst -sha256 -sign KEY {target} > {target}.sig`",
        lock.len()
    ));
    Ok(())
}

/// Warns that the earlier lock file remains valid beside the same workflow, so a server could still deliver it.
fn warn_of_replay(workflow: &Path, target: &str, lock: &Lock) {
    // Anything else at that path, also a planted link, is replaced.
    let earlier = read_beside(workflow, ".lock").ok().flatten();
    let earlier = earlier.and_then(|bytes| Lock::parse(&bytes).ok());
    if earlier.is_some_and(|earlier| lock.differs(&earlier)) {
        output::note(format_args!(
            "warning: images differ from those in the previous `{target}` of the same workflow\n  hint: if \
             that file was signed, raise `serial:` in the workflow, sign both again, and raise \
             `min-serial` in the trust directory"
        ));
    }
}
