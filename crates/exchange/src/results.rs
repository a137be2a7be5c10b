//! The result files: what containers ask for after the last job.

use anyhow::Context as _;
use hint::WithHint as _;
use std::io::Write as _;
use std::sync::Arc;
use untrusted_fs::{Cause, Directory, Links};

/// A container writes this file to end the boot with something other than switch root.
pub const KERNEL_ACTION: &str = "/iguana/kernelAction";
/// A container writes this file to have the new system mounted.
pub const MOUNT_LIST: &str = "/iguana/mountlist";
const KERNEL_ACTION_NAME: &str = "kernelAction";
const MOUNT_LIST_NAME: &str = "mountlist";
/// Bytes of either file; a real one has a few hundred.
const LIMIT: u64 = 64 << 10;

/// The result files. Only the directory of containers that may hand over is read.
pub struct Results {
    shared: Arc<Directory>,
    of_others: Arc<Directory>,
}

impl Results {
    pub(super) fn new(shared: Arc<Directory>, of_others: Arc<Directory>) -> Self {
        Self { shared, of_others }
    }

    /// The kernel action, trimmed; `None` when there is none.
    pub fn kernel_action(&self) -> Option<anyhow::Result<String>> {
        read(&self.shared, KERNEL_ACTION_NAME, KERNEL_ACTION)
            .filter(|read| !read.as_ref().is_ok_and(String::is_empty))
    }

    /// The mount list, trimmed; `None` when there is none.
    pub fn mount_list(&self) -> Option<anyhow::Result<String>> {
        read(&self.shared, MOUNT_LIST_NAME, MOUNT_LIST)
    }

    /// A warning for each result file of a container that may not hand over: the author of the workflow may have
    /// forgotten to allow it.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.not_taken().into_iter().map(|path| {
            format!("ignoring `{path}` of a container without the right to hand over (`handover: true`)")
        })
    }

    fn not_taken(&self) -> Vec<&'static str> {
        let files = [(KERNEL_ACTION_NAME, KERNEL_ACTION), (MOUNT_LIST_NAME, MOUNT_LIST)];
        let is_there = |name: &str| self.of_others.stat(name, Links::Refuse).is_ok_and(|stat| stat.is_some());
        files.into_iter().filter(|(name, _)| is_there(name)).map(|(_, path)| path).collect()
    }
}

/// Writes the kernel action, in place of one that a container has written.
pub(super) fn ask_for(directory: &Directory, action: &str) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        directory.remove(KERNEL_ACTION_NAME)?;
        Ok(directory.create(KERNEL_ACTION_NAME, 0o644)?.write_all(action.as_bytes())?)
    };
    write()
        .with_context(|| format!("cannot write `{action}` to `{KERNEL_ACTION}`"))
        .hint("have the containers write less to `/iguana`, or raise `shared: {size: …}`")
}

fn read(directory: &Directory, name: &str, path: &str) -> Option<anyhow::Result<String>> {
    let error = match directory.read(name, Links::Refuse, LIMIT) {
        Ok(bytes) => return Some(Ok(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if error.is_not_found() => return None,
        Err(error) => error,
    };
    let hint = match error.cause() {
        Cause::TooLarge(_) => "have the job write only a few lines",
        _ => "have the job write a regular file",
    };
    Some(Err(error).with_context(|| format!("cannot read `{path}`")).hint(hint))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn results(home: &std::path::Path) -> Results {
        fs::create_dir_all(home.join("others")).unwrap();
        let open = |path| Arc::new(Directory::open(path).unwrap());
        Results::new(open(home.to_owned()), open(home.join("others")))
    }

    #[test]
    fn result_files_may_be_anything() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mountlist");
        let results = results(home.path());
        assert!(results.mount_list().is_none());
        let texts: [(&[u8], &str); 3] =
            [(b" reboot\r\n", "reboot"), (b" \n", ""), (&[0xff, b'x'], "\u{fffd}x")];
        for (text, expected) in texts {
            fs::write(&path, text).unwrap();
            assert_eq!(results.mount_list().unwrap().unwrap(), expected);
        }
        let makers: [(&dyn Fn(), &str); 6] = [
            (&|| fs::write(&path, vec![b'x'; 1 << 20]).unwrap(), "more than 65536 bytes"),
            (&|| fs::File::create(&path).unwrap().set_len(10 << 30).unwrap(), "more than 65536 bytes"),
            (&|| fs::create_dir(&path).unwrap(), "it is a directory"),
            (&|| mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(), "it is a FIFO"),
            (&|| symlink("/etc/hostname", &path).unwrap(), "symbolic link"),
            (&|| symlink("/dev/zero", &path).unwrap(), "symbolic link"),
        ];
        for (make, expected) in makers {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            make();
            let error = format!("{:#}", results.mount_list().unwrap().unwrap_err());
            assert!(error.contains(expected) && error.contains("/iguana/mountlist"), "{error}");
        }
    }

    #[test]
    fn an_action_that_was_asked_for_replaces_whatever_is_there() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kernelAction");
        let results = results(home.path());
        let plant: [&dyn Fn(); 4] = [
            &|| (),
            &|| fs::write(&path, "halt").unwrap(),
            &|| symlink("/etc/hostname", &path).unwrap(),
            &|| fs::create_dir_all(path.join("below")).unwrap(),
        ];
        for plant in plant {
            let _ = fs::remove_file(&path);
            plant();
            ask_for(&results.shared, "reboot").unwrap();
            assert_eq!(results.kernel_action().unwrap().unwrap(), "reboot");
        }
    }

    #[test]
    fn an_empty_action_is_none() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("kernelAction"), "\n").unwrap();
        assert!(results(home.path()).kernel_action().is_none());
    }

    #[test]
    fn result_files_of_other_containers_are_reported_and_not_read() {
        let home = tempfile::tempdir().unwrap();
        let results = results(home.path());
        assert!(results.not_taken().is_empty());
        fs::write(home.path().join("others/mountlist"), "/iguana/new /sysroot bind").unwrap();
        assert!(results.mount_list().is_none());
        assert_eq!(results.not_taken(), ["/iguana/mountlist"]);
    }
}
