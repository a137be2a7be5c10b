//! Which failures are retried, how often, with which pauses, and for how long in all.
//!
//! Principles:
//!
//! 1. Every retry over the network follows a row of [`TABLE`]; docs/retries.md shows the same rows, and a test compares
//!    them.
//! 2. Transient failures are retried, permanent ones are not ([`FailureKind`]).
//! 3. No retry begins after the total limit of its row, and each attempt knows how much time is left
//!    ([`Attempts::left`]).
//! 4. Nothing sleeps or prints here: a pause is a value that the caller reports and waits out.
//!
//! ```
//! use retry::{Attempts, Failure};
//!
//! let mut attempts = Attempts::usual();
//! let pause = attempts.pause(Failure::unreachable(anyhow::anyhow!("connection refused"))).unwrap();
//! assert_eq!((pause.tried, pause.tries), (1, 5));
//! assert!(attempts.pause(Failure::permanent(anyhow::anyhow!("no such image"))).is_err());
//! ```
//!
//! Errors: [`Attempts::pause`] returns the failure when there is no further retry, with the number of attempts as
//! context.
//!
//! Specifications: RFC 9110, section 10.2.3 (`Retry-After`); RFC 2131, section 4.1 (pauses of DHCP clients).
#![forbid(unsafe_code)]

mod attempts;
mod failure;
mod table;

pub use attempts::{Attempts, Pause};
pub use failure::{Failure, FailureKind, TransientError};
pub use table::{
    ADDRESS_LOOKUP, DAMAGED, DHCP_LEASE, DHCP_RENEWAL, DHCP_SELECTION, NEXT_LOCATION, OVERLOADED,
    ROUTER_SOLICITATION, Schedule, TABLE, TFTP_PACKET, UNREACHABLE, markdown,
};
