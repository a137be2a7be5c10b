//! Opens files by trusted paths whose content may be untrusted.

use crate::{Cause, Directory, Error, Links, Regions, Result, kind_name, read_bounded, reopen};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::fs::File;
use std::path::Path;

/// Opens a regular file for reading by a trusted path: its links are followed. The file itself may be of an untrusted
/// party.
///
/// # Errors
/// When there is nothing, or what is there is not a regular file.
pub fn open_file(path: impl AsRef<Path>) -> Result<File> {
    open_kind(path.as_ref(), FileType::RegularFile, Cause::NotRegular)
}

/// Opens a block device for reading by a trusted path: its links are followed. A drive without a medium does not block.
///
/// # Errors
/// When there is nothing, or what is there is not a block device.
pub fn open_block_device(path: impl AsRef<Path>) -> Result<File> {
    open_kind(path.as_ref(), FileType::BlockDevice, Cause::NotABlockDevice)
}

/// Reads a regular file, whole, by a trusted path.
///
/// # Errors
/// As [`open_file`], and when the file has more than `limit` bytes.
pub fn read_file(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    read_bounded(open_file(path)?, limit).map_err(|cause| Error::new(path, cause))
}

/// Opens a regular file for reading in a directory that others can write to, which is at a trusted path: a link in its place
/// must stay in the directory. `None` when there is nothing, not even a link that leads nowhere.
///
/// # Errors
/// When it is something else, or is a link that leads out or nowhere.
pub fn open_in_its_directory(path: impl AsRef<Path>) -> Result<Option<File>> {
    let path = path.as_ref();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| Error::new(path, Cause::NotAName))?;
    match Directory::open(parent).and_then(|directory| directory.file(name, Links::Inside)) {
        Err(error) if error.is_not_found() && path.symlink_metadata().is_err() => Ok(None),
        opened => opened.map(Some),
    }
}

/// Opens a regular file or a block device, to read and to change its content, by a path on which other users may have
/// put links: those are refused.
///
/// # Errors
/// When there is nothing, what is there is neither, a link on the path belongs to another user, or the file cannot be
/// written to.
pub fn open_to_change(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let whole = std::path::absolute(path).map_err(|error| Error::new(path, Cause::Io(error)))?;
    let found = Regions::without_links_of_others().locate(whole)?.handle;
    let of_path = |errno| Error::new(path, errno);
    match FileType::from_raw_mode(fstat(&found).map_err(of_path)?.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => reopen(&found, OFlags::RDWR).map_err(of_path),
        other => Err(Error::new(path, Cause::NotRegular(kind_name(other)))),
    }
}

/// Opens an existing device, pipe, file or descriptor in `/proc`, to write to it in place. A disk in use is an error
/// (`O_EXCL`); writes to a file append.
///
/// # Errors
/// When there is nothing, or it cannot be written to.
pub fn open_in_place(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let of_path = |errno| Error::new(path, errno);
    let stat = rustix::fs::stat(path).map_err(of_path)?;
    let is_disk = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    let how = if is_disk { OFlags::EXCL } else { OFlags::APPEND };
    open(path, OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC | how, Mode::empty())
        .map(File::from)
        .map_err(of_path)
}

fn open_kind(path: &Path, kind: FileType, refused: fn(&'static str) -> Cause) -> Result<File> {
    let found: OwnedFd =
        open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| Error::new(path, errno))?;
    let stat = fstat(&found).map_err(|errno| Error::new(path, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        found_kind if found_kind == kind => {
            reopen(&found, OFlags::RDONLY).map_err(|errno| Error::new(path, errno))
        }
        other => Err(Error::new(path, refused(kind_name(other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_of_another_user_is_not_followed_to_change_a_file() {
        let scratch = tempfile::tempdir().unwrap();
        let [file, link, directory] = ["file", "link", "directory"].map(|name| scratch.path().join(name));
        std::fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        symlink(scratch.path(), &directory).unwrap();
        for path in [&file, &link, &directory.join("file")] {
            assert_eq!(open_to_change(path).unwrap().metadata().unwrap().len(), 4);
        }
        assert!(open_to_change(scratch.path()).is_err());
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for link in [&link, &directory] {
            std::os::unix::fs::lchown(link, Some(65534), Some(65534)).unwrap();
        }
        for path in [&link, &directory.join("file")] {
            let error = open_to_change(path).unwrap_err();
            assert!(matches!(error.cause(), Cause::LinkOfOther), "{error}");
        }
    }

    #[test]
    fn only_regular_files_and_directories_are_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let (fifo, link, file) =
            (scratch.path().join("fifo"), scratch.path().join("link"), scratch.path().join("file"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(read_file(&link, 4).unwrap(), b"text");
        assert!(matches!(read_file(&link, 3).unwrap_err().cause(), Cause::TooLarge(3)));
        for (path, kind) in [(fifo.as_path(), "a FIFO"), (Path::new("/dev/zero"), "a character device")] {
            let error = read_file(path, 4).unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
            let error = open_block_device(path).unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
        }
        let error = open_block_device(&file).unwrap_err().to_string();
        assert!(error.ends_with("it is a regular file, not a block device"), "{error}");
    }
}
