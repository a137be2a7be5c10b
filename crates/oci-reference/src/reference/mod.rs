//! References to images: `TRANSPORT:DETAILS` as in containers-transports(5). Without a transport it is a name in a
//! registry.

mod domain;
mod local;
mod named;

pub use domain::canonical_scope;
pub use local::{Local, Transport};
pub use named::Named;

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// Transports of podman that are not supported here.
const OTHER_TRANSPORTS: &[&str] =
    &["dir:", "docker-daemon:", "containers-storage:", "ostree:", "sif:", "tarball:"];

/// A reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Reference {
    /// `[docker://]REGISTRY/REPOSITORY[:TAG][@DIGEST]`: in a registry.
    Registry(Named),
    /// `oci:`, `oci-archive:` and `docker-archive:`: in local files.
    Local(Local),
}

impl Reference {
    /// The name in a registry, if it is one.
    #[must_use]
    pub fn named(&self) -> Option<&Named> {
        match self {
            Self::Registry(named) => Some(named),
            Self::Local(_) => None,
        }
    }
}

impl From<Named> for Reference {
    fn from(named: Named) -> Self {
        Self::Registry(named)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(named) => named.fmt(out),
            Self::Local(local) => local.fmt(out),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some(local) = Local::parse(text) {
            return local.map(Self::Local);
        }
        if let Some(other) = OTHER_TRANSPORTS.iter().find(|other| text.starts_with(**other)) {
            let why = format!(
                "the transport `{other}` is not supported; convert the image to `oci-archive:` with \
                         `skopeo copy`"
            );
            return Err(ReferenceError::of(text, &why));
        }
        text.parse().map(Self::Registry)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError(String);

impl ReferenceError {
    fn of(text: &str, why: &str) -> Self {
        Self(format!("`{text}` is not a valid image name: {why}"))
    }
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ReferenceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_says_where_the_image_is() {
        for (text, is_local) in
            [("oci:/a", true), ("docker-archive:/a.tar:x:1", true), ("docker://r.example/a", false)]
        {
            assert_eq!(text.parse::<Reference>().unwrap().named().is_none(), is_local, "{text}");
        }
        let refused = "dir:/a".parse::<Reference>().unwrap_err().to_string();
        assert!(refused.contains("`dir:` is not supported"), "{refused}");
    }
}
