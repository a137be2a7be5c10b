//! Programs of Debian 13 that are unpacked but not installed: this system keeps its own, and no service is started.

use crate::packages;
use crate::payload::Suite;
use crate::process::{self, LONG};
use crate::tools::cache::cached;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages, in mmdebstrap's list format; also the name in the cache.
const PACKAGES: &str = "nginx,skopeo,squid";

/// The unpacked programs.
#[derive(Debug)]
pub(crate) struct Programs {
    root: PathBuf,
}

impl Programs {
    /// Downloads and unpacks them once.
    pub(crate) fn of_debian_13() -> Result<Programs> {
        packages::ensure(packages::DEBIAN)?;
        let make = |directory: &Path| {
            let mut mmdebstrap = Command::new("mmdebstrap");
            mmdebstrap.args(["--quiet", "--variant=extract", "--include", PACKAGES, Suite::Trixie.name()]);
            process::run(mmdebstrap.arg(directory.join("root")), LONG).map(drop)
        };
        Ok(Programs { root: cached("debian-13-programs", PACKAGES, make)?.join("root") })
    }

    /// A file of the packages, by its path without the leading slash.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A command that runs a program with its own libraries and this host's files.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.file("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(self.file("usr/lib/x86_64-linux-gnu")).arg(self.file(program));
        command
    }
}
