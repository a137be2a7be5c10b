//! Images: their names, the registries that have them, and the store that holds them unpacked.

mod ambiguity;
mod auth;
pub mod bundle;
mod capacity;
mod digest;
mod layer;
mod local;
mod patience;
mod platform;
mod pull;
mod reference;
mod refusal;
mod registries;
mod registry;
mod rootfs;
mod source;
mod store;

pub use auth::{Login, Logins};
pub use capacity::{Capacity, Unlimited};
pub use digest::{Digest, Hasher};
pub use layer::{Ties, take_after, unpack, unpack_all};
pub use platform::Machine;
pub use pull::{Artifact, Finder, LayerProgress, Need, PullEvent, Puller, VerifiedImage};
pub(crate) use reference::canonical_scope;
pub use reference::{Local, Named, Reference, ReferenceError, Transport};
pub use registries::{Endpoint, Registries};
pub use registry::Credentials;
pub use rootfs::{flatten, settle};
pub use store::{Layer, Store};
