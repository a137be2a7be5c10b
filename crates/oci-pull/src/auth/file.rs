//! One file with logins: containers-auth.json(5), docker's config.json, or docker's old `.dockercfg`. What is wrong with
//! an entry concerns only the registry that it is for.

use super::Login;
use crate::registry::Credentials;
use anyhow::Context as _;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use oci_reference::reference::canonical_scope;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Decodes what tools write: with or without padding, and with bits that mean nothing, as Go's decoder does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The content of a file.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// By the key in the spelling of image names; URLs are left as they are.
    entries: BTreeMap<String, Entry>,
    /// Credential helpers by registry.
    helpers: BTreeMap<String, Helper>,
    /// The credential helper for all other registries.
    store: Option<String>,
    /// Whether keys name registries only, whatever path is behind them.
    is_old: bool,
}

/// One entry of `auths`.
#[derive(Debug, Clone)]
struct Entry {
    /// The key as it is written, which is also the name that a credential helper knows.
    key: String,
    login: Stored,
}

#[derive(Debug, Clone)]
enum Stored {
    Login(Login),
    /// The entry has no credentials: a credential helper has them.
    Empty,
    /// The entry does not follow the man page.
    Damaged,
}

/// One entry of `credHelpers`.
#[derive(Debug, Clone)]
struct Helper {
    /// The key as it is written.
    key: String,
    /// `None` when it is not text.
    name: Option<String>,
}

/// What a file says about the login of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Login(Login),
    /// A credential helper may know it.
    Ask(Question),
    /// The entry with this key is damaged.
    Damaged(String),
}

/// A question for a credential helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The part of the program's name behind `docker-credential-`.
    pub(super) helper: String,
    /// The name under which the helper knows the registry.
    pub(super) server: String,
    /// Whether the file says that the helper has a login.
    pub(super) is_expected: bool,
}

impl File {
    /// Parses an auth.json or config.json.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let (document, nothing) = (parse(text)?, Map::new());
        let document = object(&document, "the document")?.unwrap_or(&nothing);
        let part = |name: &str| {
            let found = document.get(name).map_or(Ok(None), |part| object(part, &format!("`{name}`")));
            anyhow::Ok(found?.unwrap_or(&nothing))
        };
        let helpers = part("credHelpers")?.iter().filter(|(_, name)| !is_empty(name)).map(|(key, name)| {
            let name = name.as_str().map(str::to_owned);
            (canonical_scope(host_of_key(key)), Helper { key: key.clone(), name })
        });
        let store = document.get("credsStore").filter(|store| !is_empty(store));
        let store = store.map(|store| store.as_str().context("`credsStore` is not text")).transpose()?;
        let entries = Self::of(part("auths")?, false);
        Ok(Self { helpers: helpers.collect(), store: store.map(str::to_owned), ..entries })
    }

    /// Parses a `.dockercfg`, which has only the entries.
    pub(super) fn parse_old(text: &str) -> anyhow::Result<Self> {
        let document = parse(text)?;
        Ok(Self::of(object(&document, "the document")?.unwrap_or(&Map::new()), true))
    }

    fn of(written: &Map<String, Value>, is_old: bool) -> Self {
        let mut entries = BTreeMap::new();
        for (key, value) in written {
            let canonical = canonical_key(key);
            // If a registry occurs in two spellings, that of image names counts, or else the first one.
            if canonical == *key || !entries.contains_key(&canonical) {
                entries.insert(canonical, Entry { key: key.clone(), login: Stored::read(value) });
            }
        }
        Self { entries, helpers: BTreeMap::new(), store: None, is_old }
    }

    /// The login for a repository: `HOST[:PORT]/PATH`.
    pub(super) fn find(&self, repository: &str) -> Answer {
        let registry = repository.split('/').next().unwrap_or_default();
        if let Some(helper) = self.helpers.get(registry) {
            return helper.answer();
        }
        match (self.entry(repository, registry), &self.store) {
            (Some(entry), _) => self.answer(entry),
            (None, Some(store)) => ask(store, known_to_docker(registry), false),
            (None, None) => Answer::Nothing,
        }
    }

    /// Every answer other than a login, for the registries that the file names.
    pub(super) fn others(&self) -> impl Iterator<Item = Answer> {
        let of_helpers = self.helpers.values().map(Helper::answer);
        let of_entries = self.entries.values().map(|entry| self.answer(entry));
        of_helpers.chain(of_entries).filter(|answer| !matches!(answer, Answer::Login(_) | Answer::Nothing))
    }

    fn entry(&self, repository: &str, registry: &str) -> Option<&Entry> {
        let special = if self.is_old { registry } else { repository };
        let exact = from_most_special(special).find_map(|key| self.entries.get(key));
        exact.or_else(|| {
            let same = |key: &str| canonical_scope(self.host(key)) == registry;
            self.entries.iter().find(|(key, _)| same(key)).map(|(_, entry)| entry)
        })
    }

    /// The host of a key that names a whole registry.
    fn host<'a>(&self, key: &'a str) -> &'a str {
        let host = host_of_key(key);
        if self.is_old { host.split('/').next().unwrap_or_default() } else { host }
    }

    fn answer(&self, Entry { key, login }: &Entry) -> Answer {
        match (login, &self.store) {
            (Stored::Login(login), _) => Answer::Login(login.clone()),
            (Stored::Empty, Some(store)) => ask(store, key, true),
            (Stored::Empty, None) => Answer::Nothing,
            (Stored::Damaged, _) => Answer::Damaged(key.clone()),
        }
    }
}

impl Helper {
    fn answer(&self) -> Answer {
        match &self.name {
            Some(name) => ask(name, &self.key, true),
            None => Answer::Damaged(self.key.clone()),
        }
    }
}

/// What to ask a credential helper that may have logins for every registry. It knows whole registries only
/// (containers/image, `pkg/docker/config`).
pub(super) fn of_helper(helper: &str, repository: &str) -> Answer {
    ask(helper, repository.split('/').next().unwrap_or_default(), true)
}

fn ask(helper: &str, server: &str, is_expected: bool) -> Answer {
    Answer::Ask(Question { helper: helper.into(), server: server.into(), is_expected })
}

impl Stored {
    fn read(value: &Value) -> Self {
        let fields = match value {
            Value::Null => return Self::Empty,
            Value::Object(fields) => fields,
            _ => return Self::Damaged,
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Some(""),
            Some(value) => value.as_str(),
        };
        let known = ["identitytoken", "auth", "username", "password"].map(text);
        let [Some(token), Some(auth), Some(username), Some(password)] = known else { return Self::Damaged };
        if !token.is_empty() {
            return Self::Login(Login::Token(token.into()));
        }
        if !auth.is_empty() {
            return decoded(auth).map_or(Self::Damaged, |found| Self::Login(Login::Password(found)));
        }
        if username.is_empty() {
            return Self::Empty;
        }
        // docker and Kubernetes also write them like this.
        Self::Login(Login::Password(Credentials { username: username.into(), password: password.into() }))
    }
}

/// `NAME:PASSWORD` in base64. Tools such as base64(1) break it into lines, which Go's decoder passes over.
fn decoded(auth: &str) -> Option<Credentials> {
    let compact: String = auth.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    let text = String::from_utf8(BASE64.decode(compact).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Old versions of Docker padded the password.
    Some(Credentials { username: username.into(), password: password.trim_matches('\0').into() })
}

fn parse(text: &str) -> anyhow::Result<Value> {
    // The parser's message could contain a part of a password.
    serde_json::from_str(text)
        .map_err(|error| anyhow::anyhow!("not valid JSON: line {}, column {}", error.line(), error.column()))
}

/// `None` for `null`, which Go's tools write for what is empty.
fn object<'a>(value: &'a Value, what: &str) -> anyhow::Result<Option<&'a Map<String, Value>>> {
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(value.as_object().with_context(|| format!("{what} is not a JSON object"))?))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Yields `a/b/c`, `a/b`, `a`.
fn from_most_special(repository: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(repository), |key| key.rsplit_once('/').map(|(shorter, _)| shorter))
}

/// The host of a key. Docker writes URLs: `https://index.docker.io/v1/`.
pub(super) fn host_of_key(key: &str) -> &str {
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key,
    }
}

/// The key in the spelling of image names; URLs are left as they are.
fn canonical_key(key: &str) -> String {
    if key.contains("://") { key.to_owned() } else { canonical_scope(key) }
}

/// The name under which docker stores the login of a registry (docker/cli, `getAuthConfigKey`).
fn known_to_docker(registry: &str) -> &str {
    if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry }
}
