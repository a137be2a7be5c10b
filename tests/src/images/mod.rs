//! Images, their signatures, and whole systems to put into them.

pub mod bundle;
pub mod crafted_image;
pub mod equality;
pub mod escapes;
pub mod fulcio;
pub mod image;
pub mod payload;
pub mod signing;
pub mod skopeo;
pub mod tree;
