//! One entry of `volumes:`.

use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Something that a container shares with the machine or with other containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Volume {
    /// Where it comes from.
    pub source: VolumeSource,
    /// Where the container sees it; absolute.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// `/path`: a fresh folder of this container's own.
    Anonymous,
    /// `name:/path`: a folder shared by all containers that give the same name.
    Named(String),
    /// `/host:/path`: a path of the machine.
    Host(PathBuf),
}

/// Why a text is not a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeError(String);

impl fmt::Display for VolumeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for VolumeError {}

impl TryFrom<String> for Volume {
    type Error = VolumeError;

    fn try_from(text: String) -> Result<Self, VolumeError> {
        text.parse()
    }
}

impl FromStr for Volume {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let bad = |why: &str| VolumeError(format!("`{text}` is not a volume: {why}"));
        let fields: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match fields[..] {
            [target] => (None, target, "rw"),
            [source, mode @ ("ro" | "rw")] => (None, source, mode),
            [source, target] => (Some(source), target, "rw"),
            [source, target, mode] => (Some(source), target, mode),
            _ => return Err(bad("more than three fields")),
        };
        if !target.starts_with('/') {
            return Err(bad("the path in the container must begin with `/`"));
        }
        let target = PathBuf::from(target);
        if target.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(bad("the path in the container must not hold `..`"));
        }
        let source = match source {
            None => VolumeSource::Anonymous,
            Some(path) if path.starts_with('/') => VolumeSource::Host(path.into()),
            Some(name) if is_name(name) => VolumeSource::Named(name.into()),
            Some(_) => {
                return Err(bad("its source is neither an absolute path nor a name of [a-zA-Z0-9_.-]"));
            }
        };
        let read_only = match mode {
            "ro" => true,
            "rw" => false,
            _ => return Err(bad("its mode must be `ro` or `rw`")),
        };
        Ok(Self { source, target, read_only })
    }
}

/// podman's rule for volume names: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn is_name(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(text: &str) -> Volume {
        text.parse().unwrap()
    }

    #[test]
    fn the_three_forms_and_their_modes() {
        assert_eq!(volume("/data").source, VolumeSource::Anonymous);
        assert_eq!(volume("bus:/run/bus").source, VolumeSource::Named("bus".into()));
        let host = volume("/srv:/data:ro");
        assert_eq!(host.source, VolumeSource::Host("/srv".into()));
        assert_eq!(host.target, PathBuf::from("/data"));
        assert!(host.read_only);
        assert!(volume("/data:ro").read_only);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("data", "must begin with `/`"),
            ("a:b", "must begin with `/`"),
            ("a/b:/c", "neither an absolute path nor a name"),
            ("a:/b:rx", "`ro` or `rw`"),
            ("a:/b/../c", "`..`"),
            ("a:/b:ro:z", "more than three"),
        ] {
            let error = text.parse::<Volume>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{text}: {error}");
        }
    }
}
