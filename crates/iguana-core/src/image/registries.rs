//! Where a registry is really reached: containers-registries.conf(5), version 2.
//!
//! Understood are `[[registry]]` tables with `prefix`, `location`, `insecure` and `blocked`.

use super::reference::Reference;
use crate::hint::hinted;
use anyhow::Context as _;
use serde::Deserialize;

/// The registries that are configured; all others are reached by https under their own name.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Registries {
    #[serde(default, rename = "registry")]
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
struct Rule {
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
}

/// Where the images of one repository are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host and port.
    pub host: String,
    /// The repository on that host.
    pub repository: String,
}

impl Registries {
    /// Reads the text of a registries.conf.
    ///
    /// # Errors
    /// When it is not such a text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let registries: Self = toml::from_str(text).context("not a version 2 registries.conf")?;
        for rule in &registries.rules {
            anyhow::ensure!(
                rule.prefix.is_some() || rule.location.is_some(),
                "a `[[registry]]` has neither `prefix` nor `location`"
            );
        }
        Ok(registries)
    }

    /// Where `reference` is to be had.
    ///
    /// # Errors
    /// When its registry is blocked.
    pub fn endpoint(&self, reference: &Reference) -> anyhow::Result<Endpoint> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let rule = self.rules.iter().filter(|rule| rule.covers(&name)).max_by_key(|rule| rule.prefix().len());
        let Some(rule) = rule else { return Ok(Endpoint::new("https", &name)) };
        if rule.blocked {
            return Err(hinted(
                format!("registries.conf blocks `{}`", rule.prefix()),
                "use an image of another registry, or change registries.conf and build the initrd again",
            ));
        }
        let name = match &rule.location {
            Some(location) => format!("{location}{}", &name[rule.prefix().len()..]),
            None => name,
        };
        Ok(Endpoint::new(if rule.insecure { "http" } else { "https" }, &name))
    }
}

impl Rule {
    fn prefix(&self) -> &str {
        self.prefix.as_deref().or(self.location.as_deref()).unwrap_or_default()
    }

    fn covers(&self, name: &str) -> bool {
        name.strip_prefix(self.prefix()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Endpoint {
    fn new(scheme: &'static str, name: &str) -> Self {
        let (host, repository) = name.split_once('/').unwrap_or((name, ""));
        // Docker Hub's API has lived under another name than its images from the beginning.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        Self { scheme, host: host.into(), repository: repository.into() }
    }

    /// Whether it is reached without encryption, because registries.conf says so.
    #[must_use]
    pub fn insecure(&self) -> bool {
        self.scheme == "http"
    }

    /// The API's address for this repository, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}/v2/{}", self.scheme, self.host, self.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
[[registry]]
location = "10.0.2.2:5000"
insecure = true

[[registry]]
prefix = "r.example/team"
location = "mirror.example/copy"

[[registry]]
prefix = "r.example/team/secret"
blocked = true
"#;

    fn base(name: &str) -> anyhow::Result<String> {
        Ok(Registries::parse(CONF)?.endpoint(&name.parse()?)?.base())
    }

    #[test]
    fn only_a_registry_named_insecure_is_reached_by_http() {
        assert_eq!(base("10.0.2.2:5000/x").unwrap(), "http://10.0.2.2:5000/v2/x");
        assert_eq!(base("10.0.2.2:50001/x").unwrap(), "https://10.0.2.2:50001/v2/x");
        assert_eq!(base("busybox").unwrap(), "https://registry-1.docker.io/v2/library/busybox");
    }

    #[test]
    fn the_longest_prefix_decides() {
        assert_eq!(base("r.example/team/x").unwrap(), "https://mirror.example/v2/copy/x");
        assert_eq!(base("r.example/teams/x").unwrap(), "https://r.example/v2/teams/x");
        assert!(base("r.example/team/secret/x").unwrap_err().to_string().contains("blocks"));
    }

    #[test]
    fn a_registry_without_a_name_is_refused() {
        assert!(Registries::parse("[[registry]]\ninsecure = true\n").is_err());
        assert!(Registries::parse("registry = 3").is_err());
    }
}
