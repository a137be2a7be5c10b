//! The files of each package and their paths.

use anyhow::{Context, Result};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::{program, source_tree};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stages the files of all packages. The kernel must have all drivers, because the machines are not known.
pub(super) fn fill(stage: &Path, kernel: &Path, modules: &Path) -> Result<()> {
    for package in super::ALL {
        let root = PackageRoot(stage.join(package.name));
        root.copy(&source_tree().join("LICENSE"), &format!("usr/share/doc/{}/LICENSE", package.name), 0o644)?;
        match package.name {
            "iguana-workflow" => workflow(&root),
            "dracut-iguana" => dracut(&root),
            "iguana" => initrd(&root, kernel, modules),
            _ => tools(&root),
        }
        .with_context(|| format!("the package `{}`", package.name))?;
    }
    Ok(())
}

fn workflow(root: &PackageRoot) -> Result<()> {
    root.copy(&program("iguana-init"), "usr/lib/iguana/iguana-init", 0o755)?;
    root.directory("usr/bin")?;
    Ok(symlink("../lib/iguana/iguana-init", root.0.join("usr/bin/iguana-workflow"))?)
}

fn dracut(root: &PackageRoot) -> Result<()> {
    let source = source_tree().join("dracut");
    root.copy(&source.join("README.md"), "usr/share/doc/dracut-iguana/README.md", 0o644)?;
    for entry in fs::read_dir(source.join("50iguana"))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let target = format!("usr/lib/dracut/modules.d/50iguana/{name}");
        root.copy(&source.join("50iguana").join(&name), &target, 0o755)?;
    }
    Ok(())
}

/// The kernel is named after the release of its modules.
fn initrd(root: &PackageRoot, kernel: &Path, modules: &Path) -> Result<()> {
    let release = modules.file_name().context("the directory of modules has no name")?.to_string_lossy();
    root.directory("usr/share/iguana")?;
    root.copy(kernel, &format!("usr/share/iguana/vmlinuz-{release}"), 0o644)?;
    let mut build = Command::new(program("iguana"));
    build.args(["build", "--shell", "--kernel"]).arg(kernel).arg("--modules").arg(modules);
    process::run(build.arg("--output").arg(root.0.join("usr/share/iguana/iguana-initrd")), LONG).map(drop)
}

fn tools(root: &PackageRoot) -> Result<()> {
    root.copy(&program("iguana"), "usr/bin/iguana", 0o755)?;
    let manual = root.directory("usr/share/man/man1")?;
    process::run(Command::new(program("iguana")).arg("manual").arg(&manual), QUICK)?;
    for page in super::files(&manual, "1")? {
        process::run(Command::new("gzip").args(["-9n"]).arg(page), QUICK)?;
    }
    for (shell, place) in [
        ("bash", "usr/share/bash-completion/completions/iguana"),
        ("zsh", "usr/share/zsh/site-functions/_iguana"),
        ("fish", "usr/share/fish/vendor_completions.d/iguana.fish"),
    ] {
        let script = process::run(Command::new(program("iguana")).args(["completion", shell]), QUICK)?;
        root.write(place, script.as_bytes(), 0o644)?;
    }
    for page in super::files(&source_tree().join("docs"), "md")? {
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        root.copy(&page, &format!("usr/share/doc/iguana-tools/docs/{name}"), 0o644)?;
    }
    Ok(())
}

/// The root of a package's files.
struct PackageRoot(PathBuf);

impl PackageRoot {
    fn directory(&self, path: &str) -> Result<PathBuf> {
        let directory = self.0.join(path);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("`{}`", from.display()))?;
        self.write(to, &bytes, mode)
    }

    fn write(&self, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let target = self.0.join(to);
        target.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&target, bytes)?;
        Ok(fs::set_permissions(&target, fs::Permissions::from_mode(mode))?)
    }
}
