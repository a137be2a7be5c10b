//! The files that this program writes for users. Apart from temporary files, only this module creates any.
//!
//! Others may be able to write to the directory of an output, for example in `/tmp`. So each output is created under
//! a random name (`O_EXCL`, `O_NOFOLLOW`) and gets its own name by rename(2) when it is complete. A planted link is
//! replaced and not followed, and nobody sees a partial file. Existing special files in `/dev`, and descriptors of this
//! program in `/proc`, are written to directly: `/dev/stdout`, or a disk that the user named on purpose.

#![allow(clippy::disallowed_methods, reason = "this is the one that does it")]

use anyhow::{Context, Result, bail, ensure};
use hint::{WithHint, hinted};
use rustix::fs::{FileType, fstat};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Component, Path, PathBuf};
use untrusted_fs::{Directory, Links, NewFile, open_in_place};

/// The mode of an output that everyone may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// The mode of one that has what not everyone may read.
pub(crate) const SECRET: u32 = 0o600;

/// Directories below `/dev` in which ordinary users can create files.
const NOT_SPECIAL: &[&str] = &["/dev/shm", "/dev/mqueue"];

/// An unfinished output. [`Output::finish`] gives it its name; without that, dropping it removes the file.
pub(crate) struct Output<'a> {
    place: &'a Destination,
    target: Target<'a>,
}

enum Target<'a> {
    New(NewFile<'a>),
    Open(File),
}

/// The place of an output.
pub(crate) struct Destination {
    directory: Directory,
    path: PathBuf,
}

/// Writes a complete file.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let place = Destination::of(path)?;
    let mut output = place.begin()?;
    output.stream().write_all(content).with_context(|| cannot(path))?;
    output.finish(mode)
}

impl Destination {
    /// Examines the path of an output.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let directory =
            path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let opened = Directory::open(directory).with_context(|| cannot(path));
        Ok(Self { directory: opened.hint("the directory must exist")?, path: path.to_owned() })
    }

    /// Creates the file, or opens a device or a descriptor of this program.
    pub(crate) fn begin(&self) -> Result<Output<'_>> {
        let target = if let Some(directory) = self.special()? {
            // By the open directory: another one may have taken its place. Nobody else can put a link into it.
            let place = handle(&directory).join(self.path.file_name().unwrap_or_default());
            Target::Open(open_in_place(place).with_context(|| cannot(&self.path))?)
        } else {
            self.new_file()?
        };
        Ok(Output { place: self, target })
    }

    /// The directory, if it has devices or the descriptors of this program.
    fn special(&self) -> Result<Option<Directory>> {
        let text = fs::read_link(handle(&self.directory)).with_context(|| cannot(&self.path))?;
        // Descriptors of other processes are what these choose.
        let own = Path::new("/proc").join(fs::read_link("/proc/self").with_context(|| cannot(&self.path))?);
        let is_special = text.starts_with("/dev") || text.starts_with(own);
        if !is_special || NOT_SPECIAL.iter().any(|place| text.starts_with(place)) {
            return Ok(None);
        }
        // In another mount namespace, which `/proc/PID/root` leads to, this path may be any directory.
        let below = text.strip_prefix("/")?;
        let found = Directory::open("/").and_then(|root| root.directory(below, Links::Refuse));
        let found = found.with_context(|| cannot(&self.path))?;
        let identity = |directory: &Directory| fstat(directory).map(|stat| (stat.st_dev, stat.st_ino));
        Ok((identity(&found)? == identity(&self.directory)?).then_some(found))
    }

    fn new_file(&self) -> Result<Target<'_>> {
        let name = self.path.file_name().unwrap_or_default();
        let found = self.directory.stat(name, Links::Refuse).with_context(|| cannot(&self.path))?;
        let kind = found.map(|found| FileType::from_raw_mode(found.st_mode));
        if kind.is_some_and(|kind| !matches!(kind, FileType::RegularFile | FileType::Symlink)) {
            return Err(hinted(
                format!("`{}` exists and is not a file", self.path.display()),
                "give a file, or one in `/dev`",
            ));
        }
        let begun = self.directory.begin().with_context(|| cannot(&self.path));
        Ok(Target::New(begun.hint("the directory must exist, be writable and have free space")?))
    }
}

impl Output<'_> {
    /// The file to write to.
    pub(crate) fn stream(&mut self) -> &mut File {
        match &mut self.target {
            Target::New(file) => file.file(),
            Target::Open(file) => file,
        }
    }

    /// Sets the mode of the file and gives it its name.
    pub(crate) fn finish(self, mode: u32) -> Result<()> {
        let path = &self.place.path;
        match self.target {
            Target::Open(mut file) => file.flush().with_context(|| cannot(path)),
            Target::New(file) => {
                let name =
                    path.file_name().with_context(|| format!("`{}` does not name a file", path.display()))?;
                file.place(name, mode).with_context(|| cannot(path))
            }
        }
    }
}

/// Opens a directory for outputs, or creates it and its parents. A link in its place is an error, and so is a directory of
/// another user, who could put there what he likes.
pub(crate) fn open_directory(path: &Path) -> Result<Directory> {
    let open = || -> Result<Directory> {
        let directory = match path.file_name() {
            Some(name) => new_or_existing(path, name)?,
            // `.`, or it ends in `..`.
            None => Directory::open(path)?,
        };
        let owner = rustix::fs::fstat(&directory)?.st_uid;
        ensure!(owner == rustix::process::geteuid().as_raw(), "it belongs to another user");
        Ok(directory)
    };
    open()
        .with_context(|| format!("cannot make or use the directory `{}`", path.display()))
        .hint("name a directory of your own, or one that is not there yet; a symbolic link is not followed")
}

fn new_or_existing(path: &Path, name: &OsStr) -> Result<Directory> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    Ok(Directory::open(parent)?.directory_or_new(name, 0o755)?)
}

/// A directory for several outputs, created if necessary. Links in its parent's path are followed, others are not.
pub(crate) struct OutputDirectory(Directory);

impl OutputDirectory {
    /// Opens the directory, or creates it and its parents.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(open_directory(path)?))
    }

    /// Whether the directory is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.names(0).is_ok()
    }

    /// Creates a subdirectory unless it exists.
    pub(crate) fn directory(&self, name: &str) -> Result<()> {
        self.0.directory_or_new(name, 0o755).map(drop).hint("it must be a directory, not a symbolic link")
    }

    /// Writes a file and creates its parent directories.
    pub(crate) fn write(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let write = || -> Result<()> {
            let mut names: Vec<_> = Path::new(path).components().collect();
            let Some(Component::Normal(name)) = names.pop() else { bail!("it is not the path of a file") };
            let mut directory = self.0.directory("", Links::Refuse)?;
            for part in names {
                directory = directory.directory_or_new(part, 0o755)?;
            }
            Ok(directory.replace(name, mode, content)?)
        };
        let shown = self.0.path().join(path);
        write()
            .with_context(|| format!("cannot write `{}`", shown.display()))
            .hint("symbolic links in it are not followed")
    }

    /// The content of a file in it, at most `limit` bytes; `None` if the file does not exist.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.0.read(path, Links::Refuse, limit) {
            Err(error) if error.is_not_found() => Ok(None),
            read => Ok(Some(read?)),
        }
    }
}

/// Moves the complete directory `made` from `room` to its place in `parent`, where nothing may exist: a link there is
/// an error and is not followed (rename(2)).
pub(crate) fn place_directory(room: &Directory, made: &str, parent: &Directory, output: &Path) -> Result<()> {
    let name =
        output.file_name().with_context(|| format!("`{}` does not name a directory", output.display()))?;
    let placed = room.move_to(made, parent, name).with_context(|| cannot(output));
    placed.hint("choose a directory that does not exist yet")
}

/// A path of an open directory, whatever has become of its name.
fn handle(directory: &Directory) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_fd().as_raw_fd().to_string())
}

fn cannot(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_whole_and_readable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("initrd");
        fs::write(&path, "old").unwrap();
        write(&path, 0o640, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = write(&directory.path().join("absent/initrd"), PUBLIC, b"").unwrap_err().to_string();
        assert!(error.starts_with("cannot write `"), "{error}");
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, victim) = (directory.path().join("out"), outside.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, &path).unwrap();
        write(&path, PUBLIC, b"new").unwrap();
        symlink(outside.path(), directory.path().join("grub")).unwrap();
        let several = OutputDirectory::open(directory.path()).unwrap();
        assert!(several.write("grub/grub.cfg", PUBLIC, b"new").is_err());
        symlink(&victim, directory.path().join("vmlinuz")).unwrap();
        several.write("vmlinuz", PUBLIC, b"new").unwrap();
        several.write("pxelinux.cfg/default", PUBLIC, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        for name in ["out", "vmlinuz", "pxelinux.cfg/default"] {
            assert_eq!(fs::read(directory.path().join(name)).unwrap(), b"new", "{name}");
        }
    }

    #[test]
    fn an_output_is_written_where_it_was_begun_even_if_the_directory_moves() {
        let home = tempfile::tempdir().unwrap();
        let [directory, moved] = ["directory", "moved"].map(|name| home.path().join(name));
        fs::create_dir(&directory).unwrap();
        let place = Destination::of(&directory.join("null")).unwrap();
        fs::rename(&directory, &moved).unwrap();
        symlink("/dev", &directory).unwrap();
        let mut output = place.begin().unwrap();
        output.stream().write_all(b"text").unwrap();
        output.finish(PUBLIC).unwrap();
        assert_eq!(fs::read(moved.join("null")).unwrap(), b"text");
    }

    #[test]
    fn a_link_in_another_mount_namespaces_dev_is_not_followed() {
        use std::io::Read as _;
        use std::process::{Command, Stdio};
        if !rustix::process::geteuid().is_root() {
            eprintln!("passed over: only root can mount");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let [victim, others] = ["victim", "others"].map(|name| home.path().join(name));
        fs::write(&victim, "untouched").unwrap();
        fs::create_dir(&others).unwrap();
        symlink(&victim, others.join("out")).unwrap();
        let script = "mount --bind \"$0\" /dev && echo && exec sleep 60";
        let mut namespace = Command::new("unshare");
        namespace.args(["-m", "sh", "-c", script]).arg(&others).stdout(Stdio::piped());
        let mut namespace = namespace.spawn().unwrap();
        namespace.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let written = write(Path::new(&format!("/proc/{}/root/dev/out", namespace.id())), PUBLIC, b"new");
        namespace.kill().unwrap();
        namespace.wait().unwrap();
        written.unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read(others.join("out")).unwrap(), b"new");
    }

    #[test]
    fn a_directory_for_outputs_is_ours_and_no_link() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = home.path().join("out");
        symlink(outside.path(), &link).unwrap();
        let error = format!("{:#}", open_directory(&link).unwrap_err());
        assert!(error.contains("symbolic link") && error.contains("/out`"), "{error}");
        open_directory(&home.path().join("new/below")).unwrap();
        open_directory(&home.path().join("new/below/")).unwrap();
        open_directory(Path::new(".")).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(home.path().join("new"), Some(1), None).unwrap();
            for path in ["new", "new/.", "new/below/.."] {
                let error = format!("{:#}", open_directory(&home.path().join(path)).unwrap_err());
                assert!(error.contains("another user"), "{path}: {error}");
            }
        }
    }

    #[test]
    fn sockets_and_directories_are_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        for name in ["socket", "directory"] {
            let error = write(&directory.path().join(name), PUBLIC, b"").unwrap_err().to_string();
            assert!(error.contains("is not a file"), "{error}");
        }
    }

    #[test]
    fn open_files_and_devices_are_written_to_directly() {
        write(Path::new("/dev/null"), PUBLIC, b"text").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file.as_file()));
        write(Path::new(&path), PUBLIC, b"text").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"text");
    }
}
