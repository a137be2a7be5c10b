//! YAML as a tree in which every value has its position, and findings about such a document.
//!
//! Principles:
//!
//! 1. A reader reports every mistake with its position, instead of stopping at the first.
//! 2. Size, depth, number of entries and the weight of aliases are checked before memory is allocated.
//! 3. Parsing does no I/O.
//!
//! ```
//! let root = yaml_tree::reader::read("name: install").unwrap();
//! assert_eq!(root.span, 0..13);
//! assert!(yaml_tree::reader::read("a: [1").is_err());
//! ```
//!
//! Errors: findings with their positions ([`finding::Findings`]). A document that is not YAML has no tree.
//!
//! Specification: YAML 1.2.2.
#![forbid(unsafe_code)]

pub mod document;
pub mod finding;
pub mod reader;
