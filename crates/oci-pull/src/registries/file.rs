//! Parses one file: containers-registries.conf(5), version 2.

use super::{Mirror, MirrorUse, Rule, ShortNames};
use anyhow::{Context as _, bail, ensure};
use hint::hinted;
use oci_reference::canonical_scope;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Table;

/// The keys of a file, and of its tables.
const KEYS: &[&str] =
    &["registry", "unqualified-search-registries", "short-name-mode", "aliases", "credential-helpers"];
const REGISTRY_KEYS: &[&str] =
    &["prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only", "pull-from-mirror"];
const MIRROR_KEYS: &[&str] = &["location", "insecure", "pull-from-mirror"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry: Vec<RegistryTable>,
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    credential_helpers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror: Vec<MirrorTable>,
    mirror_by_digest_only: bool,
    pull_from_mirror: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: Option<String>,
}

/// The content of one file.
pub(super) struct FileRules {
    pub(super) rules: Vec<Rule>,
    pub(super) search: Option<Vec<String>>,
    pub(super) short_names: Option<ShortNames>,
    /// An empty value removes the alias.
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) credential_helpers: Option<Vec<String>>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn parse(text: &str) -> anyhow::Result<FileRules> {
    let table: Table = toml::from_str(text).context("not a version 2 registries.conf")?;
    refuse_version_1(&table)?;
    let mut warnings = unknown_keys(&table);
    let file: File = toml::from_str(text).context("not a version 2 registries.conf")?;
    let rules = file.registry.into_iter().map(rule).collect::<anyhow::Result<Vec<_>>>()?;
    refuse_contradictions(&rules)?;
    warnings.extend(rules.iter().filter_map(misplaced_wildcard));
    file.aliases.iter().try_for_each(|(name, value)| check_alias(name, value))?;
    let search = file.unqualified_search_registries;
    search.iter().flatten().try_for_each(|registry| check_search_registry(registry))?;
    let short_names = match file.short_name_mode.as_deref() {
        None | Some("") => None,
        Some("enforcing") => Some(ShortNames::Enforcing),
        Some("permissive" | "disabled") => Some(ShortNames::Permissive),
        Some(other) => bail!(
            "`short-name-mode` must be `enforcing`, `permissive` or `disabled`, not \
                              `{other}`"
        ),
    };
    let (aliases, credential_helpers) = (file.aliases, file.credential_helpers);
    Ok(FileRules { rules, search, short_names, aliases, credential_helpers, warnings })
}

/// Version 1 has only lists of registries below `[registries.…]`.
fn refuse_version_1(table: &Table) -> anyhow::Result<()> {
    if !table.contains_key("registries") {
        return Ok(());
    }
    Err(hinted(
        "`[registries.…]` is version 1 of registries.conf, which is not supported",
        "use version 2: `unqualified-search-registries = […]`, and `[[registry]]` with `location`, \
         `insecure`, `blocked`",
    ))
}

/// Unknown keys. They are ignored as in containers/image, but reported as warnings.
fn unknown_keys(table: &Table) -> Vec<String> {
    let mut unknown = Vec::new();
    note_unknown(table, KEYS, "registries.conf", &mut unknown);
    for registry in tables(table, "registry") {
        note_unknown(registry, REGISTRY_KEYS, "`[[registry]]`", &mut unknown);
        for mirror in tables(registry, "mirror") {
            note_unknown(mirror, MIRROR_KEYS, "`[[registry.mirror]]`", &mut unknown);
        }
    }
    unknown
}

/// A `*` that is not that of `*.` matches nothing, as in containers/image.
fn misplaced_wildcard(rule: &Rule) -> Option<String> {
    let prefix = &rule.prefix;
    let is_misplaced = prefix.strip_prefix("*.").unwrap_or(prefix).contains('*');
    is_misplaced.then(|| {
        format!("ignoring the `[[registry]]` of `{prefix}`: only `*.` before a domain is a wildcard")
    })
}

fn tables<'a>(table: &'a Table, key: &str) -> impl Iterator<Item = &'a Table> {
    let list = table.get(key).and_then(toml::Value::as_array);
    list.into_iter().flatten().filter_map(toml::Value::as_table)
}

fn note_unknown(table: &Table, known: &[&str], place: &str, unknown: &mut Vec<String>) {
    let others = table.keys().filter(|key| !known.contains(&key.as_str()));
    unknown.extend(others.map(|key| format!("ignoring the unknown key `{key}` in {place}")));
}

fn rule(table: RegistryTable) -> anyhow::Result<Rule> {
    let location = Some(place(&table.location)?).filter(|location| !location.is_empty());
    let prefix = match (place(&table.prefix)?, &location) {
        (prefix, Some(location)) if prefix.is_empty() => location.clone(),
        (prefix, _) => prefix,
    };
    ensure!(!prefix.is_empty(), "a `[[registry]]` has neither `prefix` nor `location`");
    ensure!(
        !prefix.starts_with("*.") || !prefix.contains(['/', '@', ':']),
        "the prefix `{prefix}` may have `*.` only before a host name, as in `*.example.com`"
    );
    ensure!(
        table.pull_from_mirror.is_none(),
        "`pull-from-mirror` belongs in the table of a mirror, not in that of `{prefix}`"
    );
    let by_digest_only = table.mirror_by_digest_only;
    let mirrors = table.mirror.into_iter().map(|mirror| self::mirror(mirror, by_digest_only, &prefix));
    let mirrors = mirrors.collect::<anyhow::Result<_>>()?;
    Ok(Rule { prefix, location, insecure: table.insecure, blocked: table.blocked, mirrors })
}

fn mirror(table: MirrorTable, by_digest_only: bool, prefix: &str) -> anyhow::Result<Mirror> {
    let location = place(&table.location)?;
    ensure!(!location.is_empty(), "a mirror of `{prefix}` has no `location`");
    let used_for = match table.pull_from_mirror.as_deref() {
        Some(_) if by_digest_only => {
            bail!(
                "`{prefix}` has `mirror-by-digest-only` and its mirror `{location}` has `pull-from-mirror`: \
                 only one is allowed"
            )
        }
        None | Some("") if by_digest_only => MirrorUse::Digests,
        None | Some("" | "all") => MirrorUse::All,
        Some("digest-only") => MirrorUse::Digests,
        Some("tag-only") => MirrorUse::Tags,
        Some(other) => {
            bail!("`pull-from-mirror` must be `all`, `digest-only` or `tag-only`, not `{other}`")
        }
    };
    Ok(Mirror { location, insecure: table.insecure, used_for })
}

/// Parses a host with or without a path; URLs are refused.
fn place(text: &str) -> anyhow::Result<String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(hinted(
            format!("`{text}` is a URL, but a registry is named by its host"),
            "omit the scheme; for http, set `insecure = true`",
        ));
    }
    Ok(canonical_scope(text.trim_end_matches('/')))
}

/// Two tables may lead to one location, but must not contradict each other.
fn refuse_contradictions(rules: &[Rule]) -> anyhow::Result<()> {
    for (index, rule) in rules.iter().enumerate() {
        for other in rules[..index].iter().filter(|other| other.target() == rule.target()) {
            let agree = other.insecure == rule.insecure && other.blocked == rule.blocked;
            ensure!(agree, "`{}` is listed twice, with different `insecure` or `blocked`", rule.target());
        }
    }
    Ok(())
}

fn check_search_registry(registry: &str) -> anyhow::Result<()> {
    let registry = place(registry)?;
    ensure!(
        !registry.is_empty() && !registry.contains('/'),
        "`unqualified-search-registries` contains `{registry}`, which is not a host"
    );
    Ok(())
}

/// Checks an alias: both sides are names without tag and digest, the left one without a registry, the right one with
/// one.
fn check_alias(name: &str, value: &str) -> anyhow::Result<()> {
    use oci_reference::Named;
    let whole = |text: &str| text.parse::<Named>().ok().filter(|_| !text.contains('@'));
    let left = whole(name).filter(|reference| reference.short_name() == Some(name));
    ensure!(left.is_some(), "the alias `{name}` is not an image name without registry and tag");
    let right = whole(value).filter(|reference| reference.short_name().is_none());
    let has_tag = value.rsplit('/').next().is_some_and(|last| last.contains(':'));
    ensure!(
        value.is_empty() || (right.is_some() && !has_tag),
        "the alias `{name}` stands for `{value}`, which is not a full name without a tag"
    );
    Ok(())
}
