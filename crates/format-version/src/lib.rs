//! Checks whether this program can read a document, by the version of the format that the document needs.
//!
//! An initrd is built and signed once and used for years, so it receives documents that were written for newer
//! releases.
//!
//! Principles:
//!
//! 1. A document states the version of the format that it needs. One that states none needs [`FIRST`].
//! 2. The version is checked before anything else in the document: in a newer document an unknown key is not a
//!    mistake.
//! 3. A version is raised only when older programs would misread or refuse a new feature.
//!
//! ```
//! use format_version::Format;
//!
//! let format = Format { document: "the recipe", newest: 2 };
//! assert!(format.check(2).is_ok());
//! let error = format.check(3).unwrap_err();
//! assert!(error.to_string().starts_with("the recipe needs version `3` of its format"));
//! ```
//!
//! Errors: a version that is newer than the newest known one, and version 0, which does not exist; each with a
//! [`hint`].
//!
//! Specification: docs/versions.md.
#![forbid(unsafe_code)]

use hint::hinted;

/// The version of a document that does not state one.
pub const FIRST: u64 = 1;

/// The release of Iguana that this program is part of.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The format of one kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What messages call such a document: `the lock file`.
    pub document: &'static str,
    /// The newest version that this program reads.
    pub newest: u64,
}

impl Format {
    /// Checks that this program reads documents that need this version. If it no longer reads older versions, the
    /// reader of the document has to check that.
    ///
    /// # Errors
    /// When the version is newer than [`Format::newest`], or 0.
    pub fn check(&self, needed: u64) -> anyhow::Result<()> {
        let Self { document, newest } = self;
        if needed < FIRST {
            return Err(hinted(
                format!(
                    "{document} states version `{needed}` of its format, but the first version is \
                         {FIRST}"
                ),
                "correct or remove it: the default is version 1",
            ));
        }
        if needed > *newest {
            return Err(hinted(
                format!(
                    "{document} needs version `{needed}` of its format, but Iguana {RELEASE} reads only \
                     versions up to {newest}"
                ),
                format!(
                    "use a newer release of Iguana (on a machine, a newer initrd), or write it for version \
                     {newest}"
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_refused_with_both_versions_and_a_hint() {
        let format = Format { document: "the lock file", newest: 2 };
        for version in [FIRST, 2] {
            format.check(version).unwrap();
        }
        let error = format.check(3).unwrap_err();
        let expected = format!(
            "the lock file needs version `3` of its format, but Iguana {RELEASE} reads only versions up to 2"
        );
        assert_eq!(error.to_string(), expected);
        assert!(hint::of(&error).unwrap().contains("a newer initrd"));
        assert!(format.check(u64::MAX).is_err());
    }

    #[test]
    fn there_is_no_version_0() {
        let format = Format { document: "the lock file", newest: 2 };
        assert!(format.check(0).unwrap_err().to_string().contains("version `0`"));
    }
}
