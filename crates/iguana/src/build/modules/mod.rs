//! Kernel modules: finding them, selecting them, and packing them for the initrd.

mod binary;
mod closure;
mod index;
mod modinfo;
mod packed;
mod source;
mod squashfs;
mod staging;

use super::rules;
use anyhow::{Result, ensure};
use hint::hinted;

pub(crate) use packed::Packed;
pub(crate) use source::ModuleTree;

/// Names of the modules that the rules select, or that are below one of the paths in `added`.
pub(crate) fn wanted(source: &ModuleTree, added: &[String]) -> Result<Vec<String>> {
    let is_added = |path: &str, file: &str| rules::is_below(file, path.trim_end_matches('/'));
    for path in added {
        ensure!(
            source.files().values().any(|file| is_added(path, &file.path)),
            hinted(
                format!("no kernel modules found below `{path}`"),
                "`--add-modules` takes a directory as listed in `modules.dep`, such as \
                 `kernel/drivers/net/wireless`"
            )
        );
    }
    let takes = |file: &str| rules::wants(file) || added.iter().any(|path| is_added(path, file));
    let files = source.files().iter();
    Ok(files.filter(|(_, file)| takes(&file.path)).map(|(name, _)| name.clone()).collect())
}
