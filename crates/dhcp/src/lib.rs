//! DHCPv4 (RFC 2131, RFC 2132) as a client needs it: what it asks, as bytes; and what anybody on the wire answers, as a
//! [`Lease`] of which every part can be used.
//!
//! There is no I/O here, and nothing that can panic: the shipped programs abort on a panic, so one packet would end a
//! boot. The lints below hold that, the fuzz target `dhcp` tries it.
//!
//! Three kinds of mistakes are told apart ([`Unanswered`], [`Lease::ignored`]): a packet that is not for us is passed
//! over, an answer that cannot be used is refused as a whole, and what a good answer has besides the address is left out.
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
