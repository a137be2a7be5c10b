//! An entry of `volumes:`.

use super::model::Image;
use std::path::{Component, Path, PathBuf};

/// A directory that a container shares with the machine or with other containers, or another mount in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Where it comes from.
    pub source: VolumeSource,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeSource {
    /// `/path`: a new directory for this container only.
    Anonymous,
    /// `name:/path`: a directory shared by all containers with the same name for it.
    Named(String),
    /// `/host:/path`: a path on the machine.
    Host(PathBuf),
    /// `type: tmpfs`: a new empty file system, with its size limit in bytes.
    Tmpfs(Option<u64>),
    /// `type: image`: the tree of another image, read-only.
    Image(Box<Image>),
}

impl Volume {
    /// The image that is mounted, if it is one.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        match &self.source {
            VolumeSource::Image(image) => Some(image),
            _ => None,
        }
    }

    /// [`Volume::image`], mutable.
    pub(super) fn image_mut(&mut self) -> Option<&mut Image> {
        match &mut self.source {
            VolumeSource::Image(image) => Some(image),
            _ => None,
        }
    }

    /// Parses the short form, `[SOURCE:]TARGET[:ro|rw]`.
    ///
    /// # Errors
    /// When the text is not a volume: the reason.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match fields[..] {
            [target] => (None, target, "rw"),
            [target, mode @ ("ro" | "rw")] => (None, target, mode),
            [source, target] => (Some(source), target, "rw"),
            [source, target, mode] => (Some(source), target, mode),
            _ => return Err("it has more than three fields".into()),
        };
        let read_only = match mode {
            "ro" => true,
            "rw" => false,
            _ => return Err(format!("its mode is `{mode}`, but must be `ro` or `rw`")),
        };
        let source = source.map_or(Ok(VolumeSource::Anonymous), VolumeSource::parse)?;
        Ok(Self { source, target: target_path(target)?, read_only })
    }
}

impl VolumeSource {
    /// Parses a path on the machine, or a name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            path if path.starts_with('/') => Ok(Self::Host(path.into())),
            name if is_name(name) => Ok(Self::Named(name.into())),
            _ => Err(format!("its source `{text}` is neither an absolute path nor a name of [a-zA-Z0-9_.-]")),
        }
    }
}

/// Parses an absolute path in the container. It must be below the root and have no `..`.
pub(super) fn target_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("its path in the container, `{text}`, does not begin with `/`"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("its path in the container, `{text}`, contains `..`"));
    }
    if path.components().count() == 1 {
        return Err("its path in the container is `/`".into());
    }
    if let Some(directory) = hidden_by(path) {
        let reason = format!("is in `{directory}`, which every container already has");
        return Err(format!("its path in the container, `{text}`, {reason}"));
    }
    Ok(path.components().collect())
}

/// The kernel's directory that a volume at this path would hide and that programs need. Volumes inside `/dev` are
/// allowed, because a socket or a file there can be useful.
fn hidden_by(path: &Path) -> Option<&'static str> {
    let holds_all = ["/proc", "/sys"].into_iter().find(|directory| path.starts_with(directory));
    holds_all.or((path == Path::new("/dev")).then_some("/dev"))
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
        Volume::parse(text).unwrap()
    }

    #[test]
    fn the_three_forms_of_volumes_and_their_modes() {
        assert_eq!(volume("/data").source, VolumeSource::Anonymous);
        assert_eq!(volume("bus:/run/bus").source, VolumeSource::Named("bus".into()));
        let host = volume("/srv:/data:ro");
        assert_eq!(host.source, VolumeSource::Host("/srv".into()));
        assert_eq!(host.target, PathBuf::from("/data"));
        assert!(host.read_only);
        assert!(volume("/data:ro").read_only);
        assert_eq!(volume("/data//x/").target, PathBuf::from("/data/x"));
        assert_eq!(volume("log:/dev/log").target, PathBuf::from("/dev/log"));
        assert_eq!(volume("/process").target, PathBuf::from("/process"));
    }

    #[test]
    fn invalid_volumes_are_explained() {
        for (text, why) in [
            ("data", "begin with `/`"),
            ("a:b", "begin with `/`"),
            ("a/b:/c", "neither an absolute path nor a name"),
            ("a:/b:rx", "`ro` or `rw`"),
            ("a:/b/../c", "`..`"),
            ("a:/", "is `/`"),
            ("a:/proc", "in `/proc`"),
            ("a:/sys//class/", "in `/sys`"),
            ("/dev/", "in `/dev`"),
            ("a:/b:ro:z", "more than three"),
        ] {
            let error = Volume::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
