//! DHCPv4 as a client needs it: what it asks, as bytes; and what anybody on the wire answers, as a
//! [`Lease`] of which every part can be used.
//!
//! Principles:
//!
//! 1. No I/O, and no clock: packets are bytes, times are lengths.
//! 2. Nothing panics: the shipped programs abort on a panic, so one packet would end a boot. The lints below hold that, the
//!    fuzz target `dhcp` tries it.
//! 3. Only the address is needed. What else in an answer cannot be used is left out and noted ([`Lease::ignored`]).
//!
//! ```
//! use dhcp::{Question, Request, Unanswered};
//!
//! let request = Request {
//!     transaction: 7,
//!     hardware_address: [2, 0, 0, 0, 0, 1],
//!     question: Question::Discover,
//! };
//! assert_eq!(request.encode()[..4], [1, 1, 6, 0]);
//! assert!(matches!(request.read_answer(b""), Err(Unanswered::NotForUs | Unanswered::Malformed(_))));
//! ```
//!
//! Errors: [`Unanswered`] tells a packet that is not for us, which is passed over, from an answer that is malformed or cannot be
//! used, which is refused as a whole.
//!
//! Specifications: RFC 2131, RFC 2132, RFC 3442 (classless routes).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod address;
mod lease;
mod message;
mod name;
mod options;
mod resolver;

pub use lease::{Lease, Route};
pub use message::{Answer, CLIENT_PORT, LARGEST_MESSAGE, Question, Request, SERVER_PORT, Unanswered};
pub use resolver::Resolver;
