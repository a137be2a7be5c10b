//! Which registries store signatures beside their images: containers-registries.d(5). Only the key
//! `use-sigstore-attachments` is used. The locations of OpenPGP signatures are ignored.

use super::policy::registry_scopes;
use anyhow::{Context as _, bail, ensure};
use oci_reference::{Named, canonical_scope};
use std::collections::BTreeMap;
use trust_directory::Files;
use yaml_tree::document::Node;
use yaml_tree::reader as yaml;

/// The key that enables signatures in the registry.
const KEY: &str = "use-sigstore-attachments";

/// Where signatures are looked up.
#[derive(Debug, Clone, Default)]
pub struct Attachments {
    default: Option<bool>,
    /// By scope, as in a policy. Scopes without the key are included, because a scope may occur only once.
    scopes: BTreeMap<String, Option<bool>>,
}

impl Attachments {
    /// Reads all `*.yaml` files of a directory. A missing directory has no entries.
    ///
    /// # Errors
    /// When a file cannot be read, or two files have the same scope.
    pub fn from_files(directory: &Files) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let mut has_default = false;
        for name in directory.names()?.iter().filter(|name| name.ends_with(".yaml")) {
            let text = directory.text(name)?.unwrap_or_default();
            let added = all.add(&text, &mut has_default);
            added.with_context(|| format!("cannot use `{}`", directory.path(name).display()))?;
        }
        Ok(all)
    }

    /// Adds one file.
    fn add(&mut self, text: &str, has_default: &mut bool) -> anyhow::Result<()> {
        let root = yaml::read(text)?;
        for (key, value) in root.entries() {
            match key.name.as_str() {
                "default-docker" => {
                    ensure!(!*has_default, "two files have `default-docker`");
                    (*has_default, self.default) = (true, says(value)?);
                }
                "docker" => {
                    for (scope, value) in value.entries() {
                        let says = says(value).with_context(|| format!("`{}`", scope.name))?;
                        let earlier = self.scopes.insert(canonical_scope(&scope.name), says);
                        ensure!(earlier.is_none(), "two files have `{}`", scope.name);
                    }
                }
                // Other keys are ignored, as in containers/image.
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether signatures are looked up beside this image. The most specific scope that has the key decides.
    pub fn are_used(&self, place: &Named) -> bool {
        let scopes = [place.to_string()].into_iter().chain(registry_scopes(&place.name()));
        let said = scopes.filter_map(|scope| self.scopes.get(&scope).copied().flatten()).next();
        said.or(self.default).unwrap_or(false)
    }
}

fn says(node: &Node) -> anyhow::Result<Option<bool>> {
    let found = node.entries().iter().find(|(key, _)| key.name == KEY);
    Ok(match found.map(|(_, value)| value.text()) {
        None => None,
        Some(Some("true")) => Some(true),
        Some(Some("false")) => Some(false),
        Some(_) => bail!("`{KEY}` must be `true` or `false`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_most_specific_scope_with_an_entry_decides() {
        let mut all = Attachments::default();
        let mut has_default = false;
        all.add("default-docker:\n  lookaside: https://s.example\n", &mut has_default).unwrap();
        let text = "docker:\n  r.example: {use-sigstore-attachments: true}\n  r.example/old:\n    \
                    use-sigstore-attachments: false\n  r.example/old/x: {lookaside: 'file:///a'}\n";
        all.add(text, &mut has_default).unwrap();
        for (name, expected) in [
            ("r.example/x", true),
            ("r.example/old/x", false),
            ("r.example/old", false),
            ("s.example/x", false),
        ] {
            assert_eq!(all.are_used(&name.parse().unwrap()), expected, "{name}");
        }
        for (text, expected) in [
            ("default-docker: {}", "two files"),
            ("docker: {r.example: {}}", "two files"),
            ("docker: {a: {use-sigstore-attachments: maybe}}", "`true` or `false`"),
            ("docker: [", "invalid YAML"),
        ] {
            let error = format!("{:#}", all.add(text, &mut has_default).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_missing_directory_has_no_entries() {
        let none = Attachments::from_files(&Files::of(Path::new("/nonexistent")).unwrap()).unwrap();
        assert!(!none.are_used(&"r.example/x".parse().unwrap()));
    }
}
