//! Packages for dpkg and for rpm, with tests of their installation and removal.

mod check;
mod deb;
mod rpm;
mod stage;

use anyhow::{Context, Result};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::{packages, source_tree};
use std::fs;
use std::path::{Path, PathBuf};

/// The tools that make and check them.
const TOOLS: &[&str] = &["rpm", "rpmlint"];

/// The description of a package for both package managers.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) is_for_every_machine: bool,
    /// Dependencies for dpkg, which differ in name.
    pub(crate) depends: &'static [&'static str],
    pub(crate) recommends: &'static [&'static str],
    pub(crate) summary: &'static str,
    pub(crate) description: &'static str,
}

/// All packages. `packaging/iguana.spec` has the same data for rpm.
pub(crate) const ALL: &[Package] = &[
    Package {
        name: "iguana-workflow",
        is_for_every_machine: false,
        depends: &[],
        recommends: &[],
        summary: "runs workflows of containers in an initrd or on a running system",
        description: "The program of the Iguana initrd, which can also run a workflow on a running system.",
    },
    Package {
        name: "dracut-iguana",
        is_for_every_machine: true,
        depends: &["dracut (>= 059)", "dracut-network", "iguana-workflow"],
        recommends: &[],
        summary: "dracut module that runs containers before the system starts",
        description: "An initrd built with `dracut --add iguana` fetches a workflow and runs its containers before it \
                      switches to the system.",
    },
    Package {
        name: "iguana",
        is_for_every_machine: false,
        depends: &[],
        recommends: &["iguana-tools"],
        summary: "initrd that runs containers, with its kernel",
        description: "A machine boots this kernel and initrd from the network, a disk or a USB stick; it fetches a workflow, \
                      runs its containers in memory, and hands over to the system that they installed.",
    },
    Package {
        name: "iguana-tools",
        is_for_every_machine: false,
        depends: &["iguana-workflow", "squashfs-tools"],
        recommends: &["qemu-system-x86"],
        summary: "workstation tool for Iguana",
        description: "Checks workflows, builds initrds, ISO images and bundles, pulls images, and tries a workflow in a \
                      virtual machine.",
    },
];

/// The version of all packages.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Stages the files of all packages: with this kernel and these modules, or with Debian's.
pub(super) fn stage(directory: &Path, kernel: Option<&[PathBuf]>) -> Result<()> {
    if let Some([kernel, modules]) = kernel {
        return stage::fill(directory, kernel, modules);
    }
    packages::ensure(packages::BUILD)?;
    let kernel = Kernel::debian(Flavour::Full)?;
    stage::fill(directory, &kernel.image, &kernel.modules)
}

/// Makes and tests the packages.
pub(super) fn make() -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN, TOOLS].concat())?;
    let home = source_tree().join("target/packages");
    let _ = fs::remove_dir_all(&home);
    let staged = home.join("stage");
    stage(&staged, None)?;
    let debs = deb::make(&staged, &home)?;
    let rpms = rpm::make(&staged, &home)?;
    rpm::check(&rpms)?;
    check::in_a_fresh_debian(&debs)?;
    check::in_a_machine(&debs)?;
    for file in debs.iter().chain(&rpms) {
        println!("{} ({:.1} MB)", file.display(), file.metadata()?.len() as f64 / 1e6);
    }
    Ok(())
}

/// The files with an extension in a directory and its subdirectories.
fn files(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("`{}`", directory.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path, ending)?),
            false if path.extension().is_some_and(|it| it == ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
    Ok(found)
}
