//! A bundle in a registry: the workflow as an artifact under the name, the images and signatures beside it.

use anyhow::{Context, Result, ensure};
use iguana_core::hint::WithHint;
use iguana_core::image::bundle::{Bundle, NAME};
use iguana_core::image::{Digest, Named};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

/// What to push, and where.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// The bundle
    bundle: PathBuf,
    /// Its name in the registry: REGISTRY/REPOSITORY[:TAG]
    reference: Named,
    /// Let skopeo talk to a registry without TLS, or with a certificate that it does not know
    #[arg(long)]
    insecure: bool,
}

/// Pushes it.
pub(super) fn run(options: &Options) -> Result<()> {
    let bundle = Bundle::open(&options.bundle)?;
    bundle.verify()?;
    let transport = if options.bundle.is_dir() { "oci" } else { "oci-archive" };
    let (images, workflow): (Vec<_>, Vec<_>) =
        bundle.names()?.into_iter().partition(|(name, _)| name != NAME);
    let mut taken: HashMap<String, Digest> = HashMap::new();
    for (name, digest) in &images {
        let target = options.target(name, *digest);
        let other = taken.insert(target.clone(), *digest).filter(|other| other != digest);
        ensure!(
            other.is_none(),
            "two things of the bundle would both be `{target}`: push it to a registry of its own"
        );
    }
    // The workflow last: whoever finds it finds all.
    for (name, digest) in images.iter().chain(&workflow) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]);
        skopeo.args(options.insecure.then_some("--dest-tls-verify=false"));
        skopeo.arg(format!("{transport}:{}:{name}", options.bundle.display()));
        skopeo.arg(format!("docker://{}", options.target(name, *digest)));
        let status = skopeo.status().context("cannot run `skopeo`").hint("install the package `skopeo`")?;
        ensure!(status.success(), "`skopeo` ended with {status} at `{name}`; what it says is above");
    }
    println!("a machine boots it by `rd.iguana.control_url=oci://{}`", options.reference);
    Ok(())
}

impl Options {
    /// Where an entry goes: signatures by the tags that they are looked for by, images by one of their own, lest the
    /// registry takes them for garbage.
    fn target(&self, name: &str, digest: Digest) -> String {
        let repository = self.reference.name();
        match name.rsplit_once([':', '@']) {
            _ if name == NAME => self.reference.to_string(),
            Some((_, tag)) if tag.starts_with("sha256-") => format!("{repository}:{tag}"),
            _ => format!("{repository}:image-{}", digest.to_string().trim_start_matches("sha256:")),
        }
    }
}
