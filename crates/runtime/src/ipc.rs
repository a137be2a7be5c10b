//! IPC namespaces: System V IPC, POSIX message queues, and the shared memory in `/dev/shm` (ipc_namespaces(7), shm_overview(7)).
//!
//! Containers of a job may share one, as those of a pod do: udev answers programs of device-mapper by semaphores. The
//! caller decides which containers do, as each can replace what the others read there and execute. A file and a
//! directory of the host keep the namespace and its `/dev/shm`.

use super::plan::Ipc;
use anyhow::Context as _;
use rustix::fd::AsFd as _;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// The IPC namespace of the thread that opens it.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/ipc";
/// The file that the namespace is mounted on.
const NAMESPACE: &str = "namespace";
/// The directory that containers see as `/dev/shm`.
const SHARED_MEMORY: &str = "shm";

/// An IPC namespace and its `/dev/shm`, for containers of a job. Dropping it unmounts both; they stay with the
/// containers that use them.
#[derive(Debug)]
pub struct SharedIpc {
    directory: PathBuf,
}

impl SharedIpc {
    /// Makes both, in a new directory. `size` is that of `/dev/shm` in bytes; by default the kernel's limit: half of all
    /// memory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make(directory: &Path, size: Option<u64>) -> anyhow::Result<Self> {
        Self::make_in(directory, size)
            .with_context(|| format!("cannot create an IPC namespace in `{}`", directory.display()))
    }

    fn make_in(directory: &Path, size: Option<u64>) -> anyhow::Result<Self> {
        let shared = Self { directory: directory.to_owned() };
        let memory = shared_memory(directory);
        fs::create_dir_all(&memory)?;
        let options = size.map(|size| format!(",size={size}")).unwrap_or_default();
        let options = CString::new(format!("mode=1777{options}"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("shm", &memory, "tmpfs", flags, options.as_c_str()).context("cannot create a tmpfs")?;
        let file = directory.join(NAMESPACE);
        File::create(&file)?;
        keep_new_namespace(&file)?;
        Ok(shared)
    }

    /// What a [`super::Plan`] names it by.
    pub fn share(&self) -> Ipc {
        Ipc::Shared(self.directory.clone())
    }
}

impl Drop for SharedIpc {
    fn drop(&mut self) {
        // Ignored: what was not mounted cannot be unmounted, and the rest is only memory.
        for name in [NAMESPACE, SHARED_MEMORY] {
            let _ = unmount(self.directory.join(name), UnmountFlags::DETACH);
        }
        let _ = fs::remove_file(self.directory.join(NAMESPACE));
        let _ = fs::remove_dir(shared_memory(&self.directory)).and_then(|()| fs::remove_dir(&self.directory));
    }
}

/// The `/dev/shm` of the namespace in this directory.
pub(super) fn shared_memory(directory: &Path) -> PathBuf {
    directory.join(SHARED_MEMORY)
}

/// Mounts a new namespace on a file. A thread makes it and ends, so that this process stays in its own.
fn keep_new_namespace(file: &Path) -> io::Result<()> {
    let make = || sys::leave_ipc_of_others().and_then(|()| Ok(mount_bind(OWN_NAMESPACE, file)?));
    thread::scope(|scope| scope.spawn(make).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that makes it has panicked")))
}

/// Moves this process, the PID 1 of a container, to its IPC namespace. Only while it sees the host's files.
pub(super) fn enter(ipc: &Ipc) -> anyhow::Result<()> {
    match ipc {
        Ipc::Machine => Ok(()),
        Ipc::Private => sys::leave_ipc_of_others().context("cannot create an IPC namespace"),
        Ipc::Shared(directory) => {
            join(&directory.join(NAMESPACE)).context("cannot enter the IPC namespace of the job")
        }
    }
}

fn join(file: &Path) -> io::Result<()> {
    let namespace = open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::InterProcessCommunication))?)
}
