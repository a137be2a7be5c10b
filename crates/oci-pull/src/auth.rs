//! Logins for registries: containers-auth.json(5), which is also the format of docker's config.json.
//!
//! Credential helpers (`credHelpers`, `credsStore`) are not run: an initrd has none.

use super::registry::Credentials;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hint::hinted;
use oci_reference::reference::canonical_scope;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// How a client authenticates.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By name and password.
    Password(Credentials),
    /// By a token that the registry's token server exchanges for others (`identitytoken`).
    Token(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(credentials) => credentials.fmt(out),
            Self::Token(_) => out.write_str("Token(…)"),
        }
    }
}

/// The logins in some files, in the order in which they are searched.
#[derive(Debug, Clone, Default)]
pub struct Logins(Vec<File>);

/// One file.
#[derive(Debug, Clone, Default)]
struct File {
    entries: BTreeMap<String, LoginEntry>,
    /// Credential helpers by registry.
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
enum LoginEntry {
    Login(Login),
    /// A credential helper has it.
    Helper(String),
    /// The entry has no credentials.
    Empty,
    /// The entry does not follow the man page.
    Damaged,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Written>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Written {
    auth: String,
    identitytoken: String,
}

impl Logins {
    /// Parses an auth.json.
    ///
    /// # Errors
    /// When the text is not one. A damaged login is reported only when it is needed.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        // The parser's message could contain a part of a password.
        let document: AuthFile = serde_json::from_str(text).map_err(|error| {
            anyhow::anyhow!("not a valid auth.json: line {}, column {}", error.line(), error.column())
        })?;
        let store = Some(document.creds_store).filter(|store| !store.is_empty());
        // If a registry occurs in two spellings, the first one counts.
        let entries = document.auths.into_iter().rev().map(|(key, written)| {
            let entry = match (LoginEntry::read(&written), &store) {
                (LoginEntry::Empty, Some(store)) => LoginEntry::Helper(store.clone()),
                (entry, _) => entry,
            };
            (canonical_key(key), entry)
        });
        let helpers = document.cred_helpers.into_iter().map(|(key, helper)| (canonical_key(key), helper));
        Ok(Self(vec![File { entries: entries.collect(), helpers: helpers.collect() }]))
    }

    /// Appends logins that are searched after these.
    pub fn then(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Checks that each login is usable, before a file is made of them.
    ///
    /// # Errors
    /// When one is damaged, or only a credential helper has it.
    pub fn check(&self) -> anyhow::Result<()> {
        for file in &self.0 {
            file.helpers
                .iter()
                .next()
                .map_or(Ok(()), |(registry, helper)| Err(ask_helper(registry, helper)))?;
            file.entries.iter().try_for_each(|(key, entry)| entry.login(key).map(|_| ()))?;
        }
        Ok(())
    }

    /// The login for a repository: `HOST[:PORT]/PATH`.
    ///
    /// # Errors
    /// When only a credential helper has it, or it is damaged.
    pub fn find(&self, repository: &str) -> anyhow::Result<Option<Login>> {
        for file in &self.0 {
            if let Some(login) = file.find(repository)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl File {
    fn find(&self, repository: &str) -> anyhow::Result<Option<Login>> {
        let registry = repository.split('/').next().unwrap_or_default();
        if let Some(helper) = self.helpers.get(registry) {
            return Err(ask_helper(registry, helper));
        }
        for key in from_most_special(repository) {
            if let Some(entry) = self.entries.get(key) {
                return entry.login(key);
            }
        }
        let same = |key: &str| canonical_scope(host_of_key(key)) == registry;
        let found = self.entries.iter().find(|(key, _)| same(key));
        found.map_or(Ok(None), |(key, entry)| entry.login(key))
    }
}

/// Yields `a/b/c`, `a/b`, `a`.
fn from_most_special(repository: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(repository), |key| key.rsplit_once('/').map(|(shorter, _)| shorter))
}

/// The host of a key. Docker writes URLs: `https://index.docker.io/v1/`.
fn host_of_key(key: &str) -> &str {
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key,
    }
}

/// The key in the spelling of image names; URLs are left as they are.
fn canonical_key(key: String) -> String {
    if key.contains("://") { key } else { canonical_scope(&key) }
}

impl LoginEntry {
    fn read(written: &Written) -> Self {
        if !written.identitytoken.is_empty() {
            return Self::Login(Login::Token(written.identitytoken.clone()));
        }
        if written.auth.is_empty() {
            return Self::Empty;
        }
        let decoded =
            BASE64_STANDARD.decode(&written.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|decoded| decoded.split_once(':')) {
            Some((username, password)) => Self::Login(Login::Password(Credentials {
                username: username.into(),
                // Old versions of Docker padded it.
                password: password.trim_matches('\0').into(),
            })),
            None => Self::Damaged,
        }
    }

    fn login(&self, key: &str) -> anyhow::Result<Option<Login>> {
        match self {
            Self::Login(login) => Ok(Some(login.clone())),
            Self::Empty => Ok(None),
            Self::Helper(helper) => Err(ask_helper(key, helper)),
            Self::Damaged => Err(hinted(
                format!("the login for `{key}` is not `NAME:PASSWORD` in base64"),
                format!("create it again: `skopeo login --authfile auth.json {}`", host_of_key(key)),
            )),
        }
    }
}

fn ask_helper(registry: &str, helper: &str) -> anyhow::Error {
    hinted(
        format!("the login for `{registry}` needs the credential helper `docker-credential-{helper}`"),
        format!(
            "Iguana does not run credential helpers: store the login in the file with `skopeo login \
             --authfile auth.json {}`",
            host_of_key(registry)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> String {
        format!("{{\"auth\": \"{}\"}}", BASE64_STANDARD.encode(text))
    }

    fn named(logins: &Logins, repository: &str) -> Option<String> {
        match logins.find(repository).unwrap()? {
            Login::Password(credentials) => {
                Some(format!("{}:{}", credentials.username, credentials.password))
            }
            Login::Token(token) => Some(token),
        }
    }

    fn logins(text: &str) -> Logins {
        Logins::parse(text).unwrap()
    }

    #[test]
    fn the_most_specific_key_decides() {
        let logins = logins(&format!(
            "{{\"auths\": {{\"index.docker.io/team\": {}, \"R.Example/team\": {}, \"r.example/team/x\": {}, \"r.example\": {}, \
             \"r.example:5000\": {}, \"https://index.docker.io/v1/\": {}, \"http://old.example/v1/\": {}, \
             \"token.example\": {{\"auth\": \"PHRva2VuPjo=\", \"identitytoken\": \"secret\"}}}}}}",
            basic("hub-team:8"),
            basic("team:1"),
            basic("x:2"),
            basic("all:3:4"),
            basic("port:5"),
            basic("hub:6"),
            basic("old:7\0\0"),
        ));
        for (repository, expected) in [
            ("r.example/team/y", Some("team:1")),
            ("r.example/team", Some("team:1")),
            ("r.example/team/x/y", Some("x:2")),
            ("r.example/teams", Some("all:3:4")),
            ("r.example:5000/team/x", Some("port:5")),
            ("docker.io/library/busybox", Some("hub:6")),
            ("docker.io/team/x", Some("hub-team:8")),
            ("old.example/x", Some("old:7")),
            ("token.example/x", Some("secret")),
            ("other.example/r.example", None),
        ] {
            assert_eq!(named(&logins, repository).as_deref(), expected, "{repository}");
        }
        assert!(!format!("{logins:?}").contains("secret"));
    }

    #[test]
    fn the_first_file_with_a_login_decides() {
        let mut all = logins("{\"auths\": {\"a.example\": {}}}");
        all.then(logins(&format!("{{\"auths\": {{\"a.example/x\": {}}}}}", basic("second:2"))));
        all.then(logins(&format!("{{\"auths\": {{\"a.example\": {}}}}}", basic("third:3"))));
        assert_eq!(named(&all, "a.example/x").as_deref(), Some("second:2"));
        assert_eq!(named(&all, "a.example/y").as_deref(), Some("third:3"));
    }

    #[test]
    fn a_login_that_needs_a_credential_helper_is_refused_where_needed() {
        let helper = logins("{\"credHelpers\": {\"r.example\": \"pass\"}}");
        let store = logins("{\"auths\": {\"r.example\": {}}, \"credsStore\": \"desktop\"}");
        for (logins, program) in [(helper, "docker-credential-pass"), (store, "docker-credential-desktop")] {
            assert!(logins.find("other.example/x").unwrap().is_none());
            for error in [logins.find("r.example/x").unwrap_err(), logins.check().unwrap_err()] {
                assert!(error.to_string().contains(program), "{error}");
                assert!(hint::of(&error).unwrap().contains("skopeo login"));
            }
        }
    }

    #[test]
    fn a_damaged_login_is_reported_without_its_content() {
        for auth in ["c2VjcmV0", "secret!"] {
            let logins = logins(&format!("{{\"auths\": {{\"r.example\": {{\"auth\": \"{auth}\"}}}}}}"));
            let error = logins.find("r.example/x").unwrap_err();
            assert!(
                error.to_string().contains("`r.example`") && !error.to_string().contains(auth),
                "{error}"
            );
        }
        let error = Logins::parse("{\"auths\": {\"r.example\": \"secret\"}}").unwrap_err();
        assert!(format!("{error:#}").contains("line 1") && !format!("{error:#}").contains("secret"));
    }
}
