//! Packages for dpkg (deb-control(5)).

use super::{ALL, Package, VERSION};
use anyhow::Result;
use iguana_lab::process::{self, LONG};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the packages from the staged files.
pub(super) fn make(staged: &Path, home: &Path) -> Result<Vec<PathBuf>> {
    ALL.iter()
        .map(|package| {
            let root = home.join("deb").join(package.name);
            fs::create_dir_all(&root)?;
            let from = staged.join(package.name).join(".");
            process::run(Command::new("cp").arg("-a").arg(from).arg(&root), LONG)?;
            fs::create_dir_all(root.join("DEBIAN"))?;
            fs::write(root.join("DEBIAN/control"), control(package))?;
            let architecture = architecture(package);
            let file = home.join(format!("{}_{VERSION}_{architecture}.deb", package.name));
            let mut build = Command::new("dpkg-deb");
            build.args(["--build", "--root-owner-group", "-Zxz"]).arg(&root).arg(&file);
            process::run(&mut build, LONG)?;
            Ok(file)
        })
        .collect()
}

fn architecture(package: &Package) -> &'static str {
    if package.is_for_every_machine { "all" } else { "amd64" }
}

fn control(package: &Package) -> String {
    let list = |key: &str, names: &[&str]| {
        let names: Vec<String> = names
            .iter()
            .map(|name| match ALL.iter().any(|own| own.name == *name) {
                true => format!("{name} (= {VERSION})"),
                false => (*name).to_owned(),
            })
            .collect();
        if names.is_empty() { String::new() } else { format!("{key}: {}\n", names.join(", ")) }
    };
    format!(
        "Package: {}\nVersion: {VERSION}\nArchitecture: {}\nSection: admin\nPriority: optional\n\
         Maintainer: The Iguana developers <iguana@lists.example.org>\nHomepage: {}\n{}{}Description: {}\n {}\n",
        package.name,
        architecture(package),
        env!("CARGO_PKG_REPOSITORY"),
        list("Depends", package.depends),
        list("Recommends", package.recommends),
        package.summary,
        package.description
    )
}
