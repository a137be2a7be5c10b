//! The tools that the lab uses: installed, run within a time limit, and their products cached.

pub(crate) mod cache;
pub mod packages;
pub mod process;
