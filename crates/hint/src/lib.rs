//! Errors with a hint that says what to do.
//!
//! Principles:
//!
//! 1. A hint is attached where the remedy is known, and stays with the error.
//! 2. [`Hinted`] is transparent: it prints and chains as the error inside it.
//!
//! ```
//! use hint::{WithHint as _, hinted};
//!
//! let error = hinted("the port `99999` is too large", "use a port from 1 to 65535").context("cannot read `a.yaml`");
//! assert_eq!(hint::of(&error), Some("use a port from 1 to 65535"));
//! ```
//!
//! Errors: [`Hinted`] is the only one, always inside an [`anyhow::Error`].
//!
//! Specification: docs/internals/style.md, "Messages".
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

/// An error with its hint.
#[derive(Debug)]
pub struct Hinted {
    inner: Box<dyn Error + Send + Sync>,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(out)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source()
    }
}

/// Adds a hint to a failed result.
pub trait WithHint<T> {
    /// Adds what the user can do about the failure, as a sentence without a capital or full stop.
    ///
    /// # Errors
    /// The same failure, with the hint.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;

    /// Adds a hint if the failure has none yet: a hint from nearer to the cause is more specific.
    ///
    /// # Errors
    /// The same failure, with a hint.
    fn or_hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| attach(error.into(), hint))
    }

    fn or_hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            if of(&error).is_some() { error } else { attach(error, hint) }
        })
    }
}

/// Adds a hint to an error.
#[must_use]
pub fn attach(error: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    Hinted { inner: error.into_boxed_dyn_error(), hint: hint.into() }.into()
}

/// A new error with a hint.
#[must_use]
pub fn hinted(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    attach(anyhow::Error::msg(what.into()), hint)
}

/// The outermost hint in an error's chain: the one nearest to the user's action.
#[must_use]
pub fn of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_hint_is_found_below_later_context_and_not_shown_in_the_chain() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file"))
            .context("cannot read `a`")
            .hint("make the file")
            .context("cannot start")
            .unwrap_err();
        assert_eq!(of(&error), Some("make the file"));
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(chain, ["cannot start", "cannot read `a`", "no such file"]);
    }

    #[test]
    fn the_hint_of_a_cause_is_kept_where_another_one_is_only_offered() {
        let offered = |error: anyhow::Error| {
            let error = Err::<(), _>(error).context("cannot start").or_hint("look into docs/").unwrap_err();
            of(&error).map(ToOwned::to_owned)
        };
        assert_eq!(offered(hinted("no such file", "make the file")).as_deref(), Some("make the file"));
        assert_eq!(offered(anyhow::anyhow!("no such file")).as_deref(), Some("look into docs/"));
    }

    #[test]
    fn an_error_without_a_hint_shows_none() {
        assert_eq!(of(&anyhow::anyhow!("x")), None);
    }
}
