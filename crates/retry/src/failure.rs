//! Failures, and whether a retry makes sense.

use std::fmt;
use std::io;
use std::time::Duration;

/// Whether a failure is transient, and which row of the table it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The same request will fail again.
    Permanent,
    /// The server cannot be reached, broke the connection, or is out of order: [`crate::UNREACHABLE`].
    Unreachable,
    /// The server is reachable but overloaded: [`crate::OVERLOADED`].
    Overloaded,
    /// The received bytes do not match their digest: [`crate::DAMAGED`].
    Damaged,
}

/// Why an operation failed, and whether a retry may succeed.
#[derive(Debug)]
pub struct Failure {
    /// The cause, for messages.
    pub error: anyhow::Error,
    /// Whether a retry may succeed.
    pub kind: FailureKind,
    /// Whether the server does not have what was asked for.
    pub is_absent: bool,
    /// How long the server asks clients to wait (`Retry-After`, RFC 9110, section 10.2.3).
    pub not_before: Option<Duration>,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: FailureKind, error: anyhow::Error) -> Self {
        Self { error, kind, is_absent: false, not_before: None }
    }

    /// A failure that a retry does not change.
    #[must_use]
    pub fn permanent(error: anyhow::Error) -> Self {
        Self::new(FailureKind::Permanent, error)
    }

    /// A failure of the network, or of a server that is out of order.
    #[must_use]
    pub fn unreachable(error: anyhow::Error) -> Self {
        Self::new(FailureKind::Unreachable, error)
    }

    /// Bytes that do not match their digest.
    #[must_use]
    pub fn damaged(error: anyhow::Error) -> Self {
        Self::new(FailureKind::Damaged, error)
    }

    /// Something that the server does not have: permanent.
    #[must_use]
    pub fn absent(error: anyhow::Error) -> Self {
        Self { is_absent: true, ..Self::permanent(error) }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind != FailureKind::Permanent
    }

    /// The same failure, with context added to its error.
    #[must_use]
    pub fn context(self, text: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { error: self.error.context(text), ..self }
    }
}

impl From<anyhow::Error> for Failure {
    /// The kind follows from the chain of causes: an [`io::Error`] of a connection, or [`TransientError`], is transient.
    fn from(error: anyhow::Error) -> Self {
        let is_unsteady = |cause: &(dyn std::error::Error + 'static)| {
            cause.is::<TransientError>() || cause.downcast_ref::<io::Error>().is_some_and(is_broken)
        };
        if error.chain().any(is_unsteady) { Self::unreachable(error) } else { Self::permanent(error) }
    }
}

/// A transient error for which there is no [`io::Error`], such as a DNS server that is out of order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransientError(pub String);

impl fmt::Display for TransientError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for TransientError {}

/// Whether a connection failed or was lost.
fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::TimedOut
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_transient_and_a_missing_file_is_not() {
        let kind = |error: anyhow::Error| Failure::from(error.context("cannot fetch `x`")).kind;
        for lost in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::UnexpectedEof]
        {
            assert_eq!(kind(io::Error::from(lost).into()), FailureKind::Unreachable, "{lost}");
        }
        for lasting in [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::StorageFull] {
            assert_eq!(kind(io::Error::from(lasting).into()), FailureKind::Permanent, "{lasting}");
        }
        assert_eq!(kind(TransientError("SERVFAIL".into()).into()), FailureKind::Unreachable);
    }
}
