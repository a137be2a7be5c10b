//! Maps image names to registries and mirrors: containers-registries.conf(5), version 2, and
//! containers-registries.conf.d(5).
//!
//! As in containers/image, with these differences: `insecure` means http, never TLS without verification; a
//! `[[registry]]` with only a `prefix` may be blocked; and where no file configures search registries, a name without a
//! registry belongs to Docker Hub, as in docker. There is no prompt, so `permissive` and `disabled` mean the same: all
//! search registries are tried.

mod file;

use crate::auth::AUTH_FILES;
use anyhow::{Context as _, ensure};
use hint::{WithHint as _, hinted};
use oci_reference::reference::Named;
use std::collections::BTreeMap;

/// The configured registries; all others are reached by https under their own name.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// No two have the same prefix.
    rules: Vec<Rule>,
    search: Option<Vec<String>>,
    short_names: Option<ShortNames>,
    aliases: BTreeMap<String, String>,
    /// An empty list is a setting, too: only auth.json is asked.
    credential_helpers: Option<Vec<String>>,
    warnings: Vec<String>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone)]
struct Rule {
    prefix: String,
    /// `None` means the prefix itself.
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone)]
struct Mirror {
    location: String,
    insecure: bool,
    used_for: MirrorUse,
}

/// `pull-from-mirror`, and `mirror-by-digest-only` of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MirrorUse {
    All,
    Digests,
    Tags,
}

/// `short-name-mode`: the meaning of a name without a registry when several registries are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShortNames {
    /// The name is refused.
    Enforcing,
    /// The image of the first registry that has it.
    Permissive,
}

/// The location of the images of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The registry by its usual name, with its port if it has one.
    pub registry: String,
    /// The repository on that registry.
    pub repository: String,
}

impl Registries {
    /// Parses a registries.conf.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let content = file::parse(text)?;
        let mut registries = Self::default();
        for rule in content.rules {
            // The first one in a file counts, as in containers/image.
            if !registries.rules.iter().any(|known| known.prefix == rule.prefix) {
                registries.rules.push(rule);
            }
        }
        registries.search = content.search;
        registries.short_names = content.short_names;
        registries.aliases = content.aliases;
        registries.credential_helpers = content.credential_helpers;
        registries.warnings = content.warnings;
        Ok(registries)
    }

    /// Merges a later file of registries.conf.d: its tables replace those with the same prefix, its aliases those of
    /// the same name, its settings the earlier settings.
    pub fn overlay(&mut self, later: Self) {
        self.rules.retain(|rule| !later.rules.iter().any(|other| other.prefix == rule.prefix));
        self.rules.extend(later.rules);
        self.search = later.search.or(self.search.take());
        self.short_names = later.short_names.or(self.short_names);
        self.aliases.extend(later.aliases);
        self.credential_helpers = later.credential_helpers.or(self.credential_helpers.take());
        self.warnings.extend(later.warnings);
    }

    /// What has no effect, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The order in which credential helpers and files with logins are asked (`credential-helpers`); empty if it is not
    /// configured.
    #[must_use]
    pub fn credential_helpers(&self) -> &[String] {
        self.credential_helpers.as_deref().unwrap_or_default()
    }

    /// The credential helpers that have no effect where none can be run, as in an initrd, one sentence each.
    pub fn ignored_helpers(&self) -> impl Iterator<Item = String> {
        let helpers = self.credential_helpers().iter().filter(|helper| *helper != AUTH_FILES);
        helpers.map(|helper| {
            format!("ignoring the credential helper `{helper}`: an initrd can only use auth.json")
        })
    }

    /// The images that a name may mean, in the order in which they are tried: more than one only for a name without a
    /// registry.
    ///
    /// # Errors
    /// When such a name has no meaning, or is ambiguous.
    pub fn candidates(&self, reference: &Named) -> anyhow::Result<Vec<Named>> {
        let Some(short) = reference.short_name() else { return Ok(vec![reference.clone()]) };
        if let Some(alias) = self.aliases.get(short).filter(|alias| !alias.is_empty()) {
            return Ok(vec![reference.moved_to(alias)?]);
        }
        match (self.search.as_deref(), self.short_names) {
            (None, _) => Ok(vec![reference.clone()]),
            (Some([]), _) => Err(hinted(
                format!("`{short}` has no registry, and registries.conf has none to search"),
                "prefix the name with its registry, as in `docker.io/library/busybox`",
            )),
            (Some(several @ [_, _, ..]), Some(ShortNames::Enforcing)) => Err(hinted(
                format!("`{short}` is ambiguous between the registries `{}`", several.join("`, `")),
                "prefix the name with its registry, or add an alias to registries.conf (`short-name-mode` \
                 is `enforcing`)",
            )),
            (Some(searched), _) => {
                let at = |registry: &String| reference.moved_to(&format!("{registry}/{short}"));
                Ok(searched.iter().map(at).collect::<Result<_, _>>()?)
            }
        }
    }

    /// The locations of an image, in the order in which they are tried: first the mirrors, then the registry itself.
    ///
    /// # Errors
    /// When the image is blocked.
    pub fn sources(&self, reference: &Named) -> anyhow::Result<Vec<Endpoint>> {
        let name = reference.name();
        let Some(rule) = self.rule(&name) else { return Ok(vec![Endpoint::new(false, &name)]) };
        if rule.blocked {
            return Err(blocked(&rule.prefix));
        }
        let has_digest = reference.digest().is_some();
        let mirrors = rule.mirrors.iter().filter(|mirror| mirror.used_for.covers(has_digest));
        let mirrors = mirrors.map(|mirror| (Some(mirror.location.as_str()), mirror.insecure));
        let places = mirrors.chain([(rule.location.as_deref(), rule.insecure)]);
        let mut sources = Vec::new();
        for (location, insecure) in places {
            let name = rule.moved(&name, location)?;
            if !self.rule(&name).is_some_and(|rule| rule.blocked) {
                sources.push(Endpoint::new(insecure, &name));
            }
        }
        if sources.is_empty() { Err(blocked(&rule.prefix)) } else { Ok(sources) }
    }

    /// The table with the longest matching prefix of `name`.
    fn rule(&self, name: &str) -> Option<&Rule> {
        let covering = self.rules.iter().filter(|rule| rule.covered(name).is_some());
        covering.max_by_key(|rule| rule.prefix.len())
    }
}

/// Parses the name of an image at a location.
fn image(name: &str) -> anyhow::Result<Named> {
    let named = name.parse::<Named>()?;
    ensure!(name.contains('/'), "`{name}` has no repository");
    Ok(named)
}

fn blocked(prefix: &str) -> anyhow::Error {
    hinted(
        format!("registries.conf blocks `{prefix}`"),
        "use an image from another registry, or change registries.conf (an initrd must then be built again)",
    )
}

impl MirrorUse {
    fn covers(self, has_digest: bool) -> bool {
        match self {
            Self::All => true,
            Self::Digests => has_digest,
            Self::Tags => !has_digest,
        }
    }
}

impl Rule {
    /// The number of bytes of `name` that the prefix matches, if it does.
    fn covered(&self, name: &str) -> Option<usize> {
        let (length, ends) = match self.prefix.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) {
            Some(suffix) => {
                let host = &name[..name.find('/').unwrap_or(name.len())];
                let host = host.split_once(':').map_or(host, |(host, _)| host);
                // The `*` matches at least one character.
                let covered = host.len() > suffix.len() && host.ends_with(suffix);
                (covered.then_some(host.len())?, ['/', ':'])
            }
            None => (name.strip_prefix(self.prefix.as_str()).map(|_| self.prefix.len())?, ['/', '/']),
        };
        let rest = &name[length..];
        (rest.is_empty() || rest.starts_with(ends)).then_some(length)
    }

    /// The name of the same image at `location`.
    fn moved(&self, name: &str, location: Option<&str>) -> anyhow::Result<String> {
        let (Some(location), Some(covered)) = (location, self.covered(name)) else { return Ok(name.into()) };
        let moved = format!("{location}{}", &name[covered..]);
        let checked = image(&moved).with_context(|| format!("registries.conf maps `{name}` to it"));
        let named = checked.hint(format!("correct the `location` in the table of `{}`", self.prefix))?;
        // A location without a dot or a port is a host all the same.
        Ok(if named.short_name().is_some() { moved } else { named.name() })
    }

    /// The location that the table configures.
    fn target(&self) -> &str {
        self.location.as_deref().unwrap_or(&self.prefix)
    }
}

impl Endpoint {
    fn new(insecure: bool, name: &str) -> Self {
        let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
        let scheme = if insecure { "http" } else { "https" };
        Self { scheme, registry: registry.into(), repository: repository.into() }
    }

    /// Registry and repository.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The host that serves the registry: the API of Docker Hub has always had another host than its image names.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry }
    }

    /// Whether it is reached without encryption, because registries.conf says so.
    #[must_use]
    pub fn insecure(&self) -> bool {
        self.scheme == "http"
    }

    /// The URL of the registry's API.
    #[must_use]
    pub fn api(&self) -> String {
        format!("{}://{}/v2/", self.scheme, self.host())
    }

    /// The base URL of this repository, without a trailing slash.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}/v2/{}", self.scheme, self.host(), self.repository)
    }
}

#[cfg(test)]
mod tests;
