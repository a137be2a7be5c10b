//! Every dependency against `deny.toml`: licences, bans and sources, as cargo-deny would.
//!
//! cargo-deny itself takes longer to build than all of Iguana, and its advisories need a download.

use crate::cargo::cargo;
use anyhow::{Context, Result, bail};
use iguana_lab::process::{self, QUICK};
use iguana_lab::source_tree;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Where all dependencies come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The part of `deny.toml` that is understood here; sources are crates.io alone.
#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Fails with every dependency that `deny.toml` does not let in.
pub(crate) fn check() -> Result<()> {
    let file = source_tree().join("deny.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("`{}`", file.display()))?;
    let policy: Policy = toml::from_str(&text).with_context(|| format!("`{}`", file.display()))?;
    let mut metadata = cargo(&["metadata", "--locked", "--format-version=1"]);
    metadata.args(policy.graph.targets.iter().map(|target| format!("--filter-platform={target}")));
    let metadata: Metadata = serde_json::from_str(&process::run(&mut metadata, QUICK)?)?;
    let faults = policy.faults(&metadata.packages);
    if !faults.is_empty() {
        bail!("dependencies against `deny.toml`:\n  {}", faults.join("\n  "));
    }
    eprintln!("licences, bans and sources of {} packages: as deny.toml has them", metadata.packages.len());
    Ok(())
}

impl Policy {
    fn faults(&self, packages: &[Package]) -> Vec<String> {
        let of_one = packages.iter().filter_map(|package| {
            let fault = self.fault(package)?;
            Some(format!("{} {}: {fault}", package.name, package.version))
        });
        of_one.chain(self.doubles(packages)).collect()
    }

    fn fault(&self, package: &Package) -> Option<String> {
        let license = package.license.as_deref().unwrap_or_default();
        if !is_allowed(license, &self.licenses.allow) {
            return Some(format!("licence `{license}` is not allowed"));
        }
        if self.bans.deny.iter().any(|banned| banned.name == package.name) {
            return Some("is banned".into());
        }
        let source = package.source.as_deref().unwrap_or(CRATES_IO);
        (source != CRATES_IO).then(|| format!("source `{source}` is not crates.io"))
    }

    fn doubles(&self, packages: &[Package]) -> Vec<String> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            versions.entry(&package.name).or_default().push(&package.version);
        }
        let skipped = |name: &str| self.bans.skip.iter().any(|skip| skip.name == name);
        let doubles = versions.iter().filter(|(name, versions)| versions.len() > 1 && !skipped(name));
        doubles.map(|(name, versions)| format!("{name}: versions {}", versions.join(" and "))).collect()
    }
}

/// Whether an SPDX expression holds when just the `allowed` licences may be chosen.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) == Some(true) && rest.is_empty()
}

/// `A OR B`
fn any_of(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut holds = all_of(words, allowed)?;
    while next_is(words, "OR") {
        holds |= all_of(words, allowed)?;
    }
    Some(holds)
}

/// `A AND B`
fn all_of(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut holds = one(words, allowed)?;
    while next_is(words, "AND") {
        holds &= one(words, allowed)?;
    }
    Some(holds)
}

/// `A`, `A WITH EXCEPTION` or `( … )`
fn one(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    if next_is(words, "(") {
        let holds = any_of(words, allowed)?;
        return next_is(words, ")").then_some(holds);
    }
    let mut license = take(words)?.to_owned();
    if next_is(words, "WITH") {
        license = format!("{license} WITH {}", take(words)?);
    }
    Some(allowed.contains(&license))
}

fn take<'a>(words: &mut &[&'a str]) -> Option<&'a str> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    Some(first)
}

fn next_is(words: &mut &[&str], word: &str) -> bool {
    let is = words.first() == Some(&word);
    if is {
        *words = &words[1..];
    }
    is
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        is_allowed(expression, &["MIT".into(), "ISC".into(), "Apache-2.0 WITH LLVM-exception".into()])
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        assert!(allowed("MIT"));
        assert!(allowed("GPL-2.0 OR MIT"));
        assert!(allowed("GPL-2.0/MIT"));
        assert!(allowed("(GPL-2.0 OR MIT) AND ISC"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!allowed("GPL-2.0"));
        assert!(!allowed("MIT AND GPL-2.0"));
        assert!(!allowed("MIT OR ISC AND"));
        assert!(!allowed("(MIT"));
        assert!(!allowed("Apache-2.0"));
        assert!(!allowed(""));
    }

    fn package(name: &str, version: &str, source: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            license: Some("MIT".into()),
            source: Some(source.into()),
        }
    }

    #[test]
    fn bans_doubles_and_foreign_sources_are_faults() {
        let policy: Policy = toml::from_str(
            "graph.targets = []\nlicenses.allow = ['MIT']\n[bans]\ndeny = [{name = 'bad'}]\nskip = [{name = 'c'}]\n",
        )
        .unwrap();
        let packages = [
            package("a", "1.0.0", CRATES_IO),
            package("bad", "1.0.0", CRATES_IO),
            package("b", "1.0.0", "git+https://example.com/b"),
            package("c", "1.0.0", CRATES_IO),
            package("c", "2.0.0", CRATES_IO),
            package("d", "1.0.0", CRATES_IO),
            package("d", "2.0.0", CRATES_IO),
        ];
        assert_eq!(
            policy.faults(&packages),
            [
                "bad 1.0.0: is banned",
                "b 1.0.0: source `git+https://example.com/b` is not crates.io",
                "d: versions 1.0.0 and 2.0.0"
            ]
        );
    }
}
