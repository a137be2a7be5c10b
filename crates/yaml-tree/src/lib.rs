//! YAML as a tree that knows where each value stands, and findings about such a document.
//!
//! Principles:
//!
//! 1. A reader notes everything that is wrong, with its place, instead of stopping at the first mistake.
//! 2. Size, depth, number of entries and the weight of aliases are bounded before memory is taken.
//! 3. Parsing does no I/O.
//!
//! ```
//! let root = yaml_tree::reader::read("name: install").unwrap();
//! assert_eq!(root.span, 0..13);
//! assert!(yaml_tree::reader::read("a: [1").is_err());
//! ```
//!
//! Errors: findings with their positions ([`finding::Findings`]); a document that is no YAML has no tree.
//!
//! Specification: YAML 1.2.2.
#![forbid(unsafe_code)]

pub mod document;
pub mod finding;
pub mod reader;
