//! Images: their names, the registries that have them, and the store that holds them unpacked.

mod digest;
mod layer;
mod pull;
mod reference;
mod registries;
mod registry;
mod store;

pub use digest::{Digest, Hasher};
pub use layer::unpack;
pub use pull::{PullEvent, VerifiedImage, pull};
pub use reference::Reference;
pub use registries::{Endpoint, Registries};
pub use registry::Credentials;
pub use store::{Layer, Store};
