//! Images in local files: containers-transports(5).

mod docker;
mod files;
mod layout;
mod members;

use super::source::ImageSource;
use docker::DockerArchive;
pub(super) use files::{Files, Packed};
pub(super) use layout::{Layout, name_of};
use oci_reference::reference::{Local, Transport};
use std::path::PathBuf;

/// An opened local image source.
pub(super) struct Opened {
    pub(super) source: Box<dyn ImageSource>,
    /// Its path with links resolved: of the open file, as the name may lead elsewhere meanwhile.
    pub(super) path: PathBuf,
}

/// Opens the image source that a name refers to.
pub(super) fn open(local: &Local) -> anyhow::Result<Opened> {
    let path = local.path();
    Ok(match local.transport() {
        Transport::Layout => {
            let files = Files::directory(path)?;
            Opened { path: files.resolved()?, source: Box::new(Layout::open(files)?) }
        }
        Transport::LayoutArchive => {
            let files = Files::Packed(Packed::open(path)?);
            Opened { path: files.resolved()?, source: Box::new(Layout::open(files)?) }
        }
        Transport::DockerArchive => {
            let packed = Packed::open(path)?;
            let path = packed.resolved()?;
            Opened { path, source: Box::new(DockerArchive::open(packed, local.name())?) }
        }
    })
}

/// The zero-based position in `@N`.
fn place(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_reference::Reference;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// The policy has rules for directories: it must judge the directory that was opened.
    #[test]
    fn an_opened_layout_is_unaffected_by_renames() {
        let room = tempfile::tempdir().unwrap();
        let room = room.path().canonicalize().unwrap();
        for (name, version) in [("trusted", "1.0.0"), ("planted", "1.0.1")] {
            fs::create_dir(room.join(name)).unwrap();
            fs::write(
                room.join(name).join("oci-layout"),
                format!("{{\"imageLayoutVersion\": \"{version}\"}}"),
            )
            .unwrap();
            fs::write(room.join(name).join("index.json"), "{\"schemaVersion\": 2, \"manifests\": []}")
                .unwrap();
        }
        symlink("planted", room.join("name")).unwrap();
        let reference: Reference = format!("oci:{}/name", room.display()).parse().unwrap();
        let Reference::Local(local) = reference else { unreachable!("it is a file's") };
        let opened = open(&local).unwrap();
        fs::remove_file(room.join("name")).unwrap();
        symlink("trusted", room.join("name")).unwrap();
        assert_eq!(opened.path, room.join("planted"));
    }
}
