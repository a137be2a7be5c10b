//! The lab's tools: installing them, running them with a time limit, and caching their results.

pub(crate) mod cache;
pub(crate) mod debian_13;
pub mod packages;
pub mod process;
pub mod python;
pub mod test_names;
