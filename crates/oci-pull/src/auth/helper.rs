//! Credential helpers: programs `docker-credential-NAME` that know logins (docker/docker-credential-helpers, README,
//! "Development").

use super::Login;
use super::file::{Question, host_of_key};
use crate::registry::Credentials;
use hint::hinted;
use serde::Deserialize;
use std::fmt;

/// What the name of every credential helper begins with.
pub const PROGRAM: &str = "docker-credential-";
/// The name in an answer whose secret is a token and not a password (docker/cli, `native_store.go`).
const TOKEN: &str = "<token>";

/// Asks credential helpers. An initrd has none.
pub trait CredentialHelpers: fmt::Debug + Send + Sync {
    /// The login that the program of this name has for a server; `None` if it has none.
    ///
    /// # Errors
    /// When the program does not exist, fails, or does not answer in time.
    fn login(&self, name: &str, server: &str) -> anyhow::Result<Option<Login>>;

    /// Reports that a helper, which need not have a login, could not be asked.
    fn warn(&self, error: &anyhow::Error);
}

impl Login {
    /// The login in the answer of a credential helper to `get`; `None` if it has none.
    ///
    /// # Errors
    /// When it is not such an answer.
    pub fn of_helper(answer: &[u8]) -> anyhow::Result<Option<Self>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Told {
            username: Option<String>,
            secret: Option<String>,
        }
        // The parser's message could contain a part of a password.
        let told: Told = serde_json::from_slice(answer).map_err(|_| {
            anyhow::anyhow!("it did not answer with a JSON object of `Username` and `Secret`")
        })?;
        let (username, secret) = (told.username.unwrap_or_default(), told.secret.unwrap_or_default());
        Ok(match username.as_str() {
            TOKEN => Some(Self::Token(secret)),
            "" if secret.is_empty() => None,
            _ => Some(Self::Password(Credentials { username, password: secret })),
        })
    }
}

/// Asks a helper, if there are any. Where the file does not say that there is a login, a failure is only reported.
pub(super) fn ask(
    programs: Option<&dyn CredentialHelpers>,
    Question { helper, server, is_expected }: &Question,
) -> anyhow::Result<Option<Login>> {
    let Some(programs) = programs else {
        return if *is_expected { Err(needs_helper(server, helper)) } else { Ok(None) };
    };
    let answer = programs.login(helper, server);
    answer.or_else(|error| {
        let error = error.context(format!("cannot get the login for `{server}`"));
        if *is_expected {
            return Err(error);
        }
        programs.warn(&error);
        Ok(None)
    })
}

/// The refusal where no helper can be run.
pub(super) fn needs_helper(server: &str, helper: &str) -> anyhow::Error {
    hinted(
        format!("the login for `{server}` needs the credential helper `{PROGRAM}{helper}`"),
        format!(
            "an initrd has no credential helpers: store the login in the file with `skopeo login --authfile \
             auth.json {}`",
            host_of_key(server)
        ),
    )
}
