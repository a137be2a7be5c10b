//! Logins for registries: containers-auth.json(5), which is also the format of docker's config.json, and credential
//! helpers.

mod file;
mod helper;

pub use helper::{CredentialHelpers, PROGRAM};

use super::registry::Credentials;
use anyhow::Context as _;
use file::{Answer, File, host_of_key};
use hint::hinted;
use std::fmt;
use std::sync::Arc;

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

/// The name by which registries.conf (`credential-helpers`) means files with logins.
pub(crate) const AUTH_FILES: &str = "containers-auth.json";

/// Where logins are, in the order in which they are looked for.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    sources: Vec<LoginSource>,
    /// Asks credential helpers, where there are any.
    programs: Option<Arc<dyn CredentialHelpers>>,
}

/// Something that may have a login.
#[derive(Debug, Clone)]
enum LoginSource {
    File(File),
    /// A credential helper for every registry.
    Helper(String),
    /// A file that cannot be read.
    Unreadable(Arc<anyhow::Error>),
}

impl Logins {
    /// Parses an auth.json or config.json.
    ///
    /// # Errors
    /// When the text is not one. A damaged login is reported only when it is needed.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(Self::of(LoginSource::File(File::parse(text).context("not a valid auth.json")?)))
    }

    /// Parses docker's old `.dockercfg`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_old(text: &str) -> anyhow::Result<Self> {
        Ok(Self::of(LoginSource::File(File::parse_old(text).context("not a valid `.dockercfg`")?)))
    }

    /// A file that cannot be read, which is reported when a login is looked for in it.
    #[must_use]
    pub fn unreadable(error: anyhow::Error) -> Self {
        Self::of(LoginSource::Unreadable(Arc::new(error)))
    }

    fn of(source: LoginSource) -> Self {
        Self { sources: vec![source], programs: None }
    }

    /// Appends logins that are looked for after these.
    pub fn then(&mut self, more: Self) {
        self.sources.extend(more.sources);
        self.programs = self.programs.take().or(more.programs);
    }

    /// The same logins, with credential helpers: those that the files name, and those of `order`, the
    /// `credential-helpers` of registries.conf, in which `containers-auth.json` stands for the files.
    #[must_use]
    pub fn with_helpers(self, order: &[String], programs: Arc<dyn CredentialHelpers>) -> Self {
        let of_name = |name: &String| match name.as_str() {
            AUTH_FILES => self.sources.clone(),
            helper => vec![LoginSource::Helper(helper.to_owned())],
        };
        let sources = if order.is_empty() { self.sources } else { order.iter().flat_map(of_name).collect() };
        Self { sources, programs: Some(programs) }
    }

    /// The logins that are not usable in an initrd: those that are damaged, and those that only a credential helper has.
    #[must_use]
    pub fn unusable(&self) -> Vec<anyhow::Error> {
        let answers = self.sources.iter().filter_map(|source| match source {
            LoginSource::File(file) => Some(file.others()),
            LoginSource::Helper(_) | LoginSource::Unreadable(_) => None,
        });
        answers.flatten().filter_map(|answer| login_of(answer, None).err()).collect()
    }

    /// The login for a repository: `HOST[:PORT]/PATH`. What cannot be used is passed over if there is another one.
    ///
    /// # Errors
    /// When the login is damaged, a credential helper does not answer, or a file cannot be read.
    pub fn find(&self, repository: &str) -> anyhow::Result<Option<Login>> {
        let mut failed = None;
        for source in &self.sources {
            match source.find(repository, self.programs.as_deref()) {
                Ok(Some(login)) => return Ok(Some(login)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

impl LoginSource {
    fn find(
        &self,
        repository: &str,
        programs: Option<&dyn CredentialHelpers>,
    ) -> anyhow::Result<Option<Login>> {
        match self {
            Self::File(file) => login_of(file.find(repository), programs),
            Self::Helper(helper) => login_of(file::of_helper(helper, repository), programs),
            Self::Unreadable(error) => Err(again(error)),
        }
    }
}

/// The login that an answer leads to.
fn login_of(answer: Answer, programs: Option<&dyn CredentialHelpers>) -> anyhow::Result<Option<Login>> {
    match answer {
        Answer::Nothing => Ok(None),
        Answer::Login(login) => Ok(Some(login)),
        Answer::Ask(question) => helper::ask(programs, &question),
        Answer::Damaged(key) => Err(hinted(
            format!("the login for `{key}` is damaged: it is not `NAME:PASSWORD` in base64"),
            format!("create it again: `skopeo login --authfile auth.json {}`", host_of_key(&key)),
        )),
    }
}

/// The same error once more: one cannot be copied.
fn again(error: &anyhow::Error) -> anyhow::Error {
    match hint::of(error) {
        Some(hint) => hinted(format!("{error:#}"), hint),
        None => anyhow::Error::msg(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests;
