//! Pushes a bundle to a registry as one artifact, with skopeo.

use crate::output;
use anyhow::{Context, Result, ensure};
use hint::{WithHint, hinted};
use oci_pull::bundle::{Bundle, NAME};
use oci_reference::Named;
use std::path::PathBuf;
use std::process::Command;

/// What to push, and where.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// The bundle
    bundle: PathBuf,
    /// Its name in the registry: `REGISTRY/REPOSITORY[:TAG]`
    reference: Named,
    /// Let skopeo talk to a registry without TLS, or with a certificate that it does not know
    #[arg(long)]
    insecure: bool,
}

/// Pushes it.
pub(super) fn run(options: &Options) -> Result<()> {
    Bundle::open(&options.bundle)?.bundle.verify()?;
    let transport = if options.bundle.is_dir() { "oci" } else { "oci-archive" };
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--preserve-digests"]);
    skopeo.args(options.insecure.then_some("--dest-tls-verify=false"));
    skopeo.arg(format!("{transport}:{}:{NAME}", options.bundle.display()));
    skopeo.arg(format!("docker://{}", options.reference));
    let status = skopeo.status().context("cannot run `skopeo`").hint("install the package `skopeo`")?;
    ensure!(
        status.success(),
        hinted(
            format!("`skopeo` ended with {status}; what it says is above"),
            "`skopeo login REGISTRY` logs in; a registry without TLS needs `--insecure`"
        )
    );
    output::say(format_args!("a machine boots it by `rd.iguana.control_url=oci://{}`", options.reference));
    Ok(())
}
