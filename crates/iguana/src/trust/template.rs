//! The trust folder that one begins with.

use anyhow::{Context, Result};
use iguana_core::hint::hinted;
use std::fs;
use std::path::Path;

/// Its files.
const FILES: &[(&str, &str)] = &[
    ("README.md", include_str!("template/README.md")),
    ("policy.json", include_str!("template/policy.json")),
    ("registries.conf", include_str!("template/registries.conf")),
    ("registries.d/default.yaml", include_str!("template/default.yaml")),
    ("iguana.conf", include_str!("template/iguana.conf")),
];

/// Its empty folders.
const FOLDERS: &[&str] = &["keys", "ca", "certs.d"];

/// Writes it to a new or empty folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    let fails = || format!("cannot make the trust folder `{}`", folder.display());
    fs::create_dir_all(folder).with_context(fails)?;
    if fs::read_dir(folder).with_context(fails)?.next().is_some() {
        let message = format!("`{}` is not empty", folder.display());
        return Err(hinted(message, "name a new folder: nothing is written over"));
    }
    for name in FOLDERS {
        fs::create_dir(folder.join(name)).with_context(fails)?;
    }
    for (path, text) in FILES {
        let place = folder.join(path);
        fs::create_dir_all(place.parent().unwrap_or(folder)).with_context(fails)?;
        fs::write(&place, text).with_context(fails)?;
    }
    println!("made {}; its README.md says what to put in", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iguana_core::image::Reference;
    use iguana_core::trust::Trust;
    use iguana_core::trust::policy::Subject;

    #[test]
    fn the_beginning_is_strict_and_says_what_is_missing() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("trust");
        write(&folder).unwrap();
        let trust = Trust::from_folder(&folder).unwrap();
        assert_eq!(trust.laxity(), None);
        assert!(trust.rules.demand_digests() && trust.rules.settings("").no_shell);
        let reference: Reference = "r.example/x".parse().unwrap();
        let rule = trust.policy.rule(&Subject::of(&reference).unwrap());
        assert_eq!(rule.to_string(), "`default` (reject)");
        let error = super::super::files(&folder).unwrap_err();
        assert!(format!("{error:#}").contains("images.pub"), "{error:#}");
        let again = write(&folder).unwrap_err().to_string();
        assert!(again.ends_with("is not empty"), "{again}");
    }
}
