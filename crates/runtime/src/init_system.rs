//! Containers whose own program is systemd or another init system: what podman's `--systemd=true` gives them
//! (podman-run(1)), and what systemd asks for (its Container Interface, <https://systemd.io/CONTAINER_INTERFACE/>).
//!
//! The init system is PID 1 of a PID namespace below that of the container's PID 1, which is this program: so it is the
//! first process of all that it sees, and this one still starts programs, and reports their end. The other programs of the
//! container are started in that namespace. Its cgroup is the root of its cgroup namespace, and writable.

use super::image::RTMIN;
use super::plan::{Mount, MountSource};
use super::privileges;
use super::program::{self, Rights};
use super::protocol::{Execution, Order, Refusal};
use anyhow::Context as _;
use hint::hinted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fstat, major, minor, open, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::mount_bind;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process;
use untrusted_fs::{Directory, Links};

/// The directories that are in memory; podman's.
pub(super) const DIRECTORIES: &[&str] = &["/run", "/run/lock", "/tmp", "/var/log/journal"];
/// `SIGRTMIN+3`: systemd(1) halts; podman's default.
pub(super) const STOP_SIGNAL: i32 = RTMIN + 3;

/// Where systemd looks for units that hold until the next boot (systemd.unit(5)).
const RUNTIME_UNITS: &str = "run/systemd/system";
/// Units that would take the machine's consoles, which others use. podman hides the virtual ones.
const LOGINS_ON_CONSOLES: &[&str] = &["getty@.service", "serial-getty@.service"];
/// The unit that offers a login at `/dev/console`: only for a person.
const LOGIN_ON_TERMINAL: &str = "console-getty.service";

/// Where udev looks for its rules about network interfaces, the first of which counts (systemd.link(5)).
const RUNTIME_LINKS: &str = "run/systemd/network";
const FIRST_LINK: &str = "00-iguana.link";
/// They keep the names by which the machine has configured them.
const KEEP_NAMES: &[u8] = b"[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=keep\n";

const CONSOLE: &str = "/dev/console";
/// The first major number of pseudo-terminals; each has 256 of them (Documentation/admin-guide/devices.txt).
const PSEUDO_TERMINALS: u32 = 136;
/// Bytes of its console's output at a time: what a pipe that is not full takes at once (pipe(7), `PIPE_BUF`).
const BLOCK: usize = 4096;

/// The cgroups that a program joins, the first that it can. systemd's own processes are in the first one; once it has given
/// controllers to cgroups below its root, no process can join that.
const CGROUPS: &[&str] = &["init.scope/cgroup.procs", "cgroup.procs"];
const CGROUP_OF_INIT: &str = "cgroup.procs";

/// Bytes of a refusal.
const REFUSAL_LIMIT: u64 = 64 << 10;

/// The init system of a container, as seen by the container's PID 1.
pub(super) struct InitSystem {
    /// The directory of the cgroup that is its root.
    cgroup: OwnedFd,
    /// Nothing of the host is at `/run`.
    has_own_run: bool,
    /// Its process, once it was started.
    leader: Option<OwnedFd>,
    console: Option<Console>,
}

/// The pseudo-terminal at `/dev/console` of an init system without a terminal.
struct Console {
    master: File,
    /// Held so that the terminal lives while nobody has it open.
    _slave: File,
    output: File,
}

impl InitSystem {
    /// Takes hold of its cgroup. Only while this process sees the host's files.
    pub(super) fn find(order: &Order) -> anyhow::Result<Option<Self>> {
        let Some(directory) = &order.cgroup_of_init else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cgroup = open(directory, flags, Mode::empty()).context("cannot open its cgroup")?;
        let has_own_run = has_own_run(&order.mounts);
        Ok(Some(Self { cgroup, has_own_run, leader: None, console: None }))
    }

    /// Starts the init system, or another program beside it.
    pub(super) fn start(
        &mut self,
        program: &Execution,
        input: &File,
        output: &File,
        rights: Rights,
    ) -> anyhow::Result<Pid> {
        match (program.is_init, &self.leader) {
            (true, None) => self.prepare(program, output, rights)?,
            (false, Some(_)) => {}
            (true, Some(_)) => return Err(hinted("its init system runs already", "start it once")),
            (false, None) => return Err(hinted("its init system does not run yet", "start it first")),
        }
        let (reader, writer) = io::pipe()?;
        let copied = sys::copy().map_err(explain_copy)?;
        let Some(process) = copied else {
            drop(reader);
            let error = self.execute(program, input, output, rights);
            // Ignored: without an answer, the program counts as started, and as ended with this status.
            let _ = serde_json::to_writer(&writer, &Refusal::of(&error));
            process::exit(127)
        };
        drop(writer);
        refusal(reader)?;
        if program.is_init {
            self.leader = Some(pidfd_open(process, PidfdFlags::empty())?);
        }
        Ok(process)
    }

    /// Makes what it finds when it starts.
    fn prepare(&mut self, program: &Execution, output: &File, rights: Rights) -> anyhow::Result<()> {
        if self.has_own_run {
            protect_machine(program.has_terminal)
                .context("cannot keep it from the machine's consoles and network")?;
        }
        self.console = show_console(program, output, rights)
            .with_context(|| format!("cannot make its console `{CONSOLE}`"))?;
        sys::put_children_into_new_pid_namespace().context("cannot create a PID namespace")
    }

    /// In the child: executes the program; returns only if that fails.
    fn execute(&self, program: &Execution, input: &File, output: &File, rights: Rights) -> anyhow::Error {
        let entered = if program.is_init { self.enter_first(rights) } else { self.enter_later() };
        match entered.and_then(|()| program::command(program, input, output, rights)) {
            Ok(mut command) => program::explain(command.exec(), &program.arguments[0]),
            Err(error) => error,
        }
    }

    fn enter_first(&self, rights: Rights) -> anyhow::Result<()> {
        self.join(CGROUP_OF_INIT).context("cannot join its cgroup")?;
        sys::make_own_cgroup_the_root().context("cannot create a cgroup namespace")?;
        let root = Directory::open("/").context("cannot open the container's root")?;
        privileges::show_namespaces_of_init(&root, rights.all)
    }

    fn enter_later(&self) -> anyhow::Result<()> {
        // Otherwise it stays in the cgroup of this process, which has the same limits.
        let _ = CGROUPS.iter().any(|file| self.join(file).is_ok());
        let leader = self.leader.as_ref().context("its init system has ended")?;
        move_into_thread_name_spaces(leader.as_fd(), ThreadNameSpaceType::CONTROL_GROUP)
            .context("cannot enter the cgroup namespace of its init system")
    }

    /// Moves this process to a cgroup (cgroups(7)).
    fn join(&self, file: &str) -> io::Result<()> {
        let file = openat(&self.cgroup, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        File::from(file).write_all(b"0")
    }

    /// Readable when there is output on its console.
    pub(super) fn console(&self) -> Option<&File> {
        self.console.as_ref().map(|console| &console.master)
    }

    /// Relays output of its console.
    pub(super) fn relay_console(&mut self) {
        // One that was hung up is read no more.
        self.console = self.console.take().filter(|console| console.relay().is_ok());
    }
}

impl Console {
    /// Never waits: output that cannot be written is lost.
    fn relay(&self) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let count = (&self.master).read(&mut block)?;
        let mut waited_for = [PollFd::new(&self.output, PollFlags::OUT)];
        if poll(&mut waited_for, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
            (&self.output).write_all(&block[..count])?;
        }
        Ok(())
    }
}

/// Why a program was not executed, if it was not.
fn refusal(answer: PipeReader) -> anyhow::Result<()> {
    let mut text = Vec::new();
    answer.take(REFUSAL_LIMIT).read_to_end(&mut text)?;
    match serde_json::from_slice::<Refusal>(&text) {
        Ok(refusal) => Err(refusal.into_error()),
        Err(_) if text.is_empty() => Ok(()),
        Err(error) => Err(error).context("cannot read why the program was not started"),
    }
}

/// A namespace whose PID 1 has ended takes no more processes (pid_namespaces(7)).
fn explain_copy(error: io::Error) -> anyhow::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOMEM) => hinted("its init system has ended", "check its messages above"),
        _ => anyhow::Error::from(error).context("cannot fork"),
    }
}

/// Whether the last mount at `/run` is a tmpfs, and systemd's directory in it is no volume, which may be the machine's.
fn has_own_run(mounts: &[Mount]) -> bool {
    let last = mounts.iter().rfind(|mount| mount.target == Path::new("/run"));
    last.is_some_and(|mount| matches!(mount.source, MountSource::Tmpfs { .. }))
        && !mounts.iter().any(|mount| mount.target.starts_with("/run/systemd"))
}

/// Keeps systemd from offering logins on the consoles of the machine (systemctl(1), `mask --runtime`), and its udev from
/// renaming the machine's interfaces.
fn protect_machine(has_terminal: bool) -> anyhow::Result<()> {
    let root = Directory::open("/")?;
    let units = root.make_directories(RUNTIME_UNITS, 0o755, Links::Refuse)?;
    let on_terminal = (!has_terminal).then_some(LOGIN_ON_TERMINAL);
    for unit in LOGINS_ON_CONSOLES.iter().copied().chain(on_terminal) {
        symlinkat("/dev/null", &units, unit)?;
    }
    let links = root.make_directories(RUNTIME_LINKS, 0o755, Links::Refuse)?;
    Ok(links.create(FIRST_LINK, 0o644)?.write_all(KEEP_NAMES)?)
}

/// Puts the terminal of the init system at `/dev/console`, or a new pseudo-terminal whose output goes to its log.
fn show_console(program: &Execution, output: &File, rights: Rights) -> anyhow::Result<Option<Console>> {
    if program.has_terminal {
        put_at_console(output, rights)?;
        return Ok(None);
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = File::from(ioctl_tiocgptpeer(&master, flags)?);
    put_at_console(&slave, rights)?;
    Ok(Some(Console { master: master.into(), _slave: slave, output: output.try_clone()? }))
}

fn put_at_console(terminal: impl AsFd, rights: Rights) -> anyhow::Result<()> {
    let device = fstat(terminal)?.st_rdev;
    let number = major(device).saturating_sub(PSEUDO_TERMINALS) << 8 | minor(device);
    if !rights.all {
        // In its own `/dev`, where no program has run yet. A privileged container has the machine's, which has one.
        openat(CWD, CONSOLE, OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
    }
    Ok(mount_bind(format!("/dev/pts/{number}"), CONSOLE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_path_counts() {
        let memory =
            Mount { source: MountSource::Tmpfs { size: None }, target: "/run".into(), read_only: false };
        let volume = Mount::bind("/run", "/run");
        assert!(has_own_run(&[volume.clone(), memory.clone()]));
        assert!(!has_own_run(&[memory.clone(), volume]));
        assert!(!has_own_run(&[]));
        assert!(!has_own_run(&[memory, Mount::bind("/srv", "/run/systemd/system")]));
    }
}
