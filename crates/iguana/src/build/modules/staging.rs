//! The directory that is packed. In the initrd it becomes `/lib/modules/VERSION`.

use super::closure::{Closure, Module};
use super::index;
use super::modinfo::ModInfo;
use super::source::{ModuleFile, ModuleTree};
use anyhow::{Context, Result};
use hint::hinted;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Writes the modules called `wanted`, their dependencies and their indexes to `directory`.
pub(crate) fn fill(
    directory: &Path,
    source: &ModuleTree,
    release: &str,
    wanted: &[String],
) -> Result<Closure> {
    make_directory(directory)?;
    let in_kernel = source.builtin();
    let closure = Closure::of(wanted.iter().cloned(), &in_kernel, |name| {
        source.files().get(name).map(|file| unpack(directory, source, file, release)).transpose()
    })?;
    for (name, content) in index::all(&closure, source.builtin_text(), in_kernel.iter().map(String::as_str)) {
        write(directory, name, &content)?;
    }
    Ok(closure)
}

fn unpack(directory: &Path, source: &ModuleTree, file: &ModuleFile, release: &str) -> Result<Module> {
    let bytes = source.read(file)?;
    let info = ModInfo::from_elf(&bytes)
        .with_context(|| format!("cannot use the kernel module `{}`", file.stored))?;
    check_release(file, &info, release)?;
    write(directory, &file.path, &bytes)?;
    Ok(Module { path: file.path.clone(), info })
}

fn check_release(file: &ModuleFile, info: &ModInfo, release: &str) -> Result<()> {
    match &info.release {
        Some(other) if other != release => Err(hinted(
            format!(
                "the kernel module `{}` was built for kernel `{other}`, not for `{release}`",
                file.stored
            ),
            "`--kernel` and `--modules` must belong to the same kernel",
        )),
        _ => Ok(()),
    }
}

/// Sets the permissions explicitly, because they end up in the image and must not depend on the umask.
#[expect(clippy::disallowed_methods, reason = "only this user can write to a temporary directory")]
fn write(directory: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let file = directory.join(path);
    let write = || {
        file.parent().map_or(Ok(()), make_directory)?;
        fs::write(&file, bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        anyhow::Ok(())
    };
    write().with_context(|| format!("cannot write `{}`", file.display()))
}

fn make_directory(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    directory.parent().map_or(Ok(()), make_directory)?;
    fs::DirBuilder::new().mode(0o755).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
