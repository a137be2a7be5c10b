//! skopeo 1.18 of Debian 13, which supports sigstore signatures. In Debian 12's skopeo they are disabled.

use crate::process::{self, QUICK};
use crate::tools::debian_13::Programs;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Output};

/// A skopeo that is unpacked but not installed.
#[derive(Debug)]
pub struct Skopeo(Programs);

impl Skopeo {
    /// Downloads it once.
    pub fn of_debian_13() -> Result<Skopeo> {
        Ok(Skopeo(Programs::of_debian_13()?))
    }

    /// A command that runs it with its own libraries and this host's files.
    pub fn command(&self) -> Command {
        self.0.command("usr/bin/skopeo")
    }

    /// Makes a key in cosign's format: `PREFIX.private`, encrypted with the passphrase in the file `passphrase`, and
    /// `PREFIX.pub`.
    pub fn make_key(&self, prefix: &Path, passphrase: &Path) -> Result<()> {
        let mut command = self.command();
        command.arg("generate-sigstore-key").arg("--output-prefix").arg(prefix);
        process::run(command.arg("--passphrase-file").arg(passphrase), QUICK).map(drop)
    }

    /// Copies an image under a policy; returns the output and the exit status.
    pub fn judge(&self, policy: &Path, registries_d: &Path, image: &str, to: &Path) -> Result<Output> {
        let mut command = self.command();
        command.arg("--policy").arg(policy).arg("--registries.d").arg(registries_d);
        command.args(["copy", "-q", "--src-tls-verify=false", &format!("docker://{image}")]);
        command.arg(format!("dir:{}", to.display()));
        command.output().context("skopeo cannot be started")
    }
}
