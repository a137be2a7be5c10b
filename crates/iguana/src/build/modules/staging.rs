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

/// Bytes of all modules together, uncompressed. Those of Debian's full kernel have 180 MB.
const MODULES_LIMIT: u64 = 4 << 30;
/// Bytes of memory for what is known of all modules, about: their paths, dependencies and aliases. Debian's full kernel takes
/// about 2 MB.
const INFO_LIMIT: usize = 16 << 20;

/// What the modules of an initrd may still take.
struct Room {
    /// Bytes in the directory.
    modules: u64,
    /// Bytes of memory.
    info: usize,
}

impl Room {
    fn of_initrd() -> Self {
        Self { modules: MODULES_LIMIT, info: INFO_LIMIT }
    }

    /// Counts a module.
    fn take(&mut self, bytes: u64, info: usize) -> Result<()> {
        let left = self.modules.checked_sub(bytes);
        self.modules = left.ok_or_else(|| too_many("", MODULES_LIMIT))?;
        let left = self.info.checked_sub(info);
        self.info = left.ok_or_else(|| too_many("dependencies and aliases of the ", INFO_LIMIT as u64))?;
        Ok(())
    }
}

fn too_many(what: &str, limit: u64) -> anyhow::Error {
    hinted(
        format!("the {what}kernel modules for the initrd have more than {} MiB", limit >> 20),
        "remove those that are not needed, or their debug information: `strip --strip-debug`",
    )
}

/// Writes the modules called `wanted`, their dependencies and their indexes to `directory`.
pub(crate) fn fill(
    directory: &Path,
    source: &ModuleTree,
    release: &str,
    wanted: &[String],
) -> Result<Closure> {
    make_directory(directory)?;
    let in_kernel = source.builtin();
    let mut room = Room::of_initrd();
    let closure = Closure::of(wanted.iter().cloned(), &in_kernel, |name| {
        source.files().get(name).map(|file| unpack(directory, source, file, release, &mut room)).transpose()
    })?;
    for (name, content) in index::all(&closure, source.builtin_text(), in_kernel.iter().map(String::as_str))?
    {
        write(directory, name, &content)?;
    }
    Ok(closure)
}

fn unpack(
    directory: &Path,
    source: &ModuleTree,
    file: &ModuleFile,
    release: &str,
    room: &mut Room,
) -> Result<Module> {
    let bytes = source.read(file)?;
    let info = ModInfo::from_elf(&bytes)
        .with_context(|| format!("cannot use the kernel module `{}`", file.stored))?;
    check_release(file, &info, release)?;
    room.take(bytes.len() as u64, file.path.len() + info.memory())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_modules_of_an_initrd_together_are_limited() {
        let told = |bytes: u64, info: usize| {
            let mut room = Room::of_initrd();
            room.take(bytes, info).unwrap();
            [room.take(1, 0), room.take(0, 1)].map(|taken| taken.err().map(|error| error.to_string()))
        };
        let [modules, info] = told(MODULES_LIMIT, INFO_LIMIT).map(Option::unwrap);
        assert_eq!(modules, "the kernel modules for the initrd have more than 4096 MiB");
        assert_eq!(
            info,
            "the dependencies and aliases of the kernel modules for the initrd have more than 16 MiB"
        );
        assert_eq!(told(MODULES_LIMIT - 1, INFO_LIMIT - 1), [None, None]);
    }
}
