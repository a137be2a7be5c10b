//! The template for a new trust directory.

use crate::output;
use crate::output_file::{OutputDirectory, PUBLIC};
use anyhow::Result;
use hint::hinted;
use std::path::Path;

/// Its files.
const FILES: &[(&str, &str)] = &[
    ("README.md", include_str!("template/README.md")),
    ("policy.json", include_str!("template/policy.json")),
    ("registries.conf", include_str!("template/registries.conf")),
    ("registries.d/default.yaml", include_str!("template/default.yaml")),
    ("iguana.conf", include_str!("template/iguana.conf")),
];

/// Its empty directories.
const DIRECTORIES: &[&str] = &["keys", "ca", "certs.d"];

/// Writes the template to a new or empty directory.
pub(super) fn write(directory: &Path) -> Result<()> {
    let top = OutputDirectory::open(directory)?;
    if !top.is_empty() {
        let message = format!("`{}` is not empty", directory.display());
        return Err(hinted(message, "choose a new directory: existing files are never overwritten"));
    }
    DIRECTORIES.iter().try_for_each(|name| top.directory(name))?;
    FILES.iter().try_for_each(|(path, text)| top.write(path, PUBLIC, text.as_bytes()))?;
    output::say(format_args!("created {}; its README.md says what to put in", directory.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::trust::Trust;
    use oci_reference::Reference;
    use oci_trust::policy::Subject;

    #[test]
    fn an_initialised_trust_directory_is_strict_and_says_what_is_missing() {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("trust");
        write(&directory).unwrap();
        let trust = Trust::from_directory(&directory).unwrap();
        assert_eq!(trust.unsigned_notice(), None);
        assert!(trust.rules.demand_digests() && trust.rules.settings("").no_shell);
        let open = "root=/dev/sda1 init=/bin/sh rd.iguana.debug rd.iguana.containers=a rd.iguana.on_failure=local \
                    rd.iguana.on_failure=shell";
        let settings = trust.rules.settings(open);
        assert_eq!(settings.warnings.len(), open.split_whitespace().count(), "{:?}", settings.warnings);
        assert!(settings.root.is_none() && settings.init.is_none());
        let reference: Reference = "r.example/x".parse().unwrap();
        let rule = trust.policy.rule(&Subject::of(&reference).unwrap());
        assert_eq!(rule.to_string(), "`default` (reject)");
        let error = super::super::files(&directory).unwrap_err();
        assert!(format!("{error:#}").contains("images.pub"), "{error:#}");
        let again = write(&directory).unwrap_err().to_string();
        assert!(again.ends_with("is not empty"), "{again}");
    }
}
