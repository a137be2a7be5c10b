//! Pushes a bundle to a registry as one artifact, with skopeo.

use crate::build::tool;
use crate::build::tool::Tool;
use crate::output;
use anyhow::{Result, ensure};
use hint::{WithHint, hinted};
use oci_pull::bundle::{Bundle, NAME};
use oci_reference::Named;
use std::path::PathBuf;

const SKOPEO: Tool = Tool { program: "skopeo", package: "skopeo" };

/// What to push, and where.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// The bundle
    bundle: PathBuf,
    /// Its name in the registry: `REGISTRY/REPOSITORY[:TAG]`
    reference: Named,
    /// Allow a registry without TLS or with an unknown certificate
    #[arg(long)]
    insecure: bool,
}

/// Pushes it.
pub(super) fn run(options: &Options) -> Result<()> {
    Bundle::open(&options.bundle)?.bundle.verify()?;
    let transport = if options.bundle.is_dir() { "oci" } else { "oci-archive" };
    let bundle = std::path::absolute(&options.bundle)?;
    let place = bundle.display().to_string();
    ensure!(
        !place.contains(':'),
        hinted(format!("skopeo would take another path for `{place}`"), "rename it: without `:`")
    );
    let mut skopeo = SKOPEO.command()?;
    skopeo.args(["--insecure-policy", "copy", "--quiet", "--preserve-digests"]);
    skopeo.args(options.insecure.then_some("--dest-tls-verify=false"));
    skopeo.arg(format!("{transport}:{place}:{NAME}"));
    skopeo.arg(format!("docker://{}", options.reference));
    // What it says is the registry's text, too.
    tool::run(&mut skopeo)
        .hint("log in with `skopeo login REGISTRY`; for a registry without TLS, use `--insecure`")?;
    output::say(format_args!("boot it with `rd.iguana.control_url=oci://{}`", options.reference));
    Ok(())
}
