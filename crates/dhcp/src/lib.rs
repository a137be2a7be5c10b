//! How a machine gets its addresses: DHCPv4, DHCPv6 ([`v6`]), and what IPv6 routers advertise ([`router`]). It encodes what
//! a client asks, and decodes what anybody on the network answers, into values of which every part can be used.
//!
//! Principles:
//!
//! 1. No I/O and no clock: packets are bytes, times are durations.
//! 2. Nothing panics: the shipped programs abort on a panic, so one packet would end a boot. The lints below enforce
//!    it, the fuzz target `dhcp` tests it.
//! 3. Only the address is required. Any other part of an answer that cannot be used is left out and noted
//!    ([`Lease::ignored`]).
//!
//! ```
//! use dhcp::{MachineKind, Question, Request, Unanswered};
//!
//! let request = Request {
//!     transaction: 7,
//!     hardware_address: [2, 0, 0, 0, 0, 1],
//!     question: Question::Discover,
//!     seconds: 0,
//!     machine: MachineKind::default(),
//! };
//! assert_eq!(request.encode()[..4], [1, 1, 6, 0]);
//! assert!(matches!(request.read_answer(b""), Err(Unanswered::NotForUs | Unanswered::Malformed(_))));
//! ```
//!
//! Errors: [`Unanswered`] distinguishes a packet for another client, which the caller skips, from an answer that is
//! malformed or cannot be used, which is refused as a whole.
//!
//! Specifications: RFC 2131, RFC 2132, RFC 3397 (search list), RFC 3442 (classless routes), RFC 4578 (kinds of machines),
//! RFC 4861 and RFC 8106 (routers), RFC 8415 (DHCPv6), RFC 5908 and RFC 5970 (its servers of time, its boot file), RFC 8910
//! (captive portals).
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
mod datagram;
mod lease;
mod message;
mod name;
mod options;
mod resolver;
pub mod router;
mod text;
pub mod v6;

pub use datagram::Datagram;
pub use lease::{Lease, Route};
pub use message::{
    Answer, CLIENT_PORT, LARGEST_MESSAGE, MachineKind, Question, Request, SERVER_PORT, Unanswered,
};
pub use resolver::{Given, Learned, Resolver};
