//! Names of images in files: `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:REFERENCE]`.

use super::ReferenceError;
use std::fmt;
use std::path::{Path, PathBuf};

/// An image in local files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Local {
    transport: Transport,
    path: PathBuf,
    name: String,
}

/// The format of local images: containers-transports(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `oci:`: an OCI image layout in a directory.
    Layout,
    /// `oci-archive:`: an OCI image layout packed as a tar.
    LayoutArchive,
    /// `docker-archive:`: what `docker save` writes.
    DockerArchive,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Layout, Self::LayoutArchive, Self::DockerArchive];

    /// Its name as in containers-transports(5) and containers-policy.json(5).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layout => "oci",
            Self::LayoutArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
        }
    }
}

impl Local {
    /// Parses a reference of these transports; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Result<Self, ReferenceError>> {
        let (transport, rest) = text.split_once(':')?;
        let transport = Transport::ALL.into_iter().find(|known| known.name() == transport)?;
        // As in containers/image, a path cannot contain a colon.
        let (path, name) = rest.split_once(':').unwrap_or((rest, ""));
        if path.is_empty() {
            let what = if transport == Transport::Layout { "a directory" } else { "a file" };
            let why = format!("`{}:` must be followed by the path of {what}", transport.name());
            return Some(Err(ReferenceError::of(text, &why)));
        }
        Some(Ok(Self { transport, path: path.into(), name: name.into() }))
    }

    /// The format of the files.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The directory or the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image if there are several: its name in the layout, `@N` for the index `N` from 0, or empty for the only
    /// one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Local {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.transport.name(), self.path.display())?;
        if self.name.is_empty() { Ok(()) } else { write!(out, ":{}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_name_are_separated_at_the_first_colon() {
        for (text, transport, path, name) in [
            ("oci:images", Transport::Layout, "images", ""),
            ("oci:/a/b:latest", Transport::Layout, "/a/b", "latest"),
            ("oci-archive:/a.tar:r.example/x:1", Transport::LayoutArchive, "/a.tar", "r.example/x:1"),
            ("docker-archive:/a.tar:@1", Transport::DockerArchive, "/a.tar", "@1"),
        ] {
            let local = Local::parse(text).unwrap().unwrap();
            let expected = Local { transport, path: path.into(), name: name.into() };
            assert_eq!((&local, local.to_string().as_str()), (&expected, text));
        }
        assert_eq!(Local::parse("oci/x:1"), None);
        let error = Local::parse("oci-archive:").unwrap().unwrap_err().to_string();
        assert!(error.ends_with("`oci-archive:` must be followed by the path of a file"), "{error}");
    }
}
