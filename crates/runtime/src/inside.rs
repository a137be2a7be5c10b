//! PID 1 of a container: builds the root, starts programs, forwards signals, reaps.
//!
//! A loop in one thread: requests from the host side arrive on a socket, ends of children and signals on a signalfd. A
//! second thread waits for the end of the host side (`host_watch`).

use super::init_system::InitSystem;
use super::program::Rights;
use super::protocol;
use super::protocol::{Execution, Inbox, Order, ProgramReply, ProgramRequest, Refusal};
use super::rootfs::Entered;
use super::{host_watch, ipc, privileges, program, rootfs, terminal, zygote};
use anyhow::Context as _;
use hint::hinted;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpgid, getrlimit, kill_process, setrlimit, wait,
};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The end of a child, and the signals that are forwarded to the programs.
const WATCHED: &[i32] = &[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
/// Blocked, as it would stop this process when it configures the terminal from the background, between two programs.
const BLOCKED_SIGNALS: &[i32] = &[libc::SIGTTOU];
/// The usual umask: everybody may read and execute what a program creates.
const UMASK: Mode = Mode::from_raw_mode(0o022);
/// The limits of open files of a program, soft and hard: systemd's (systemd-system.conf(5), `DefaultLimitNOFILE=`).
const OPEN_FILES: (u64, u64) = (1024, 524_288);
/// The OOM score adjustment of this process in a container with a memory limit of its own. There the kernel kills all
/// other processes, and this one reports it and runs the next step (proc_pid_oom_score_adj(5); cgroup-v2.rst,
/// `memory.oom.group`). It cannot keep more memory than that limit. Elsewhere the kernel must be able to kill it, for
/// the machine's sake.
const NEVER_KILLED: &str = "-1000";
/// Time limit for the kernel to end killed processes. One that waits for a disk takes longer, and is left behind.
const END_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of the list of children that are read at once: each number in it ends with a space.
const CHILDREN_AT_ONCE: usize = 64 << 10;

/// The main function of the zygote, and of its copies, which are the PID 1 of containers. The exit status is not used.
pub fn init() -> ExitCode {
    match zygote::live().map_err(Into::into).and_then(Server::open) {
        Ok(mut server) => {
            server.serve();
            server.end();
            ExitCode::SUCCESS
        }
        // The host side got the error already, or is gone.
        Err(_) => ExitCode::FAILURE,
    }
}

struct Server {
    inbox: Inbox,
    signals: OwnedFd,
    rights: Rights,
    init_system: Option<InitSystem>,
    /// The standard input of programs without a terminal: `/dev/null`.
    no_input: File,
    programs: HashMap<Pid, RunningProgram>,
    /// The terminal of the last program that had one. This process leads its session, so the session outlives the
    /// program and the program's last output can still be sent.
    terminal: Option<File>,
    children: Arc<Children>,
}

struct RunningProgram {
    id: u64,
    /// It is in the foreground of this process's session.
    has_terminal: bool,
    is_init: bool,
}

impl Server {
    /// Builds the root that the first message describes, and reports the outcome.
    fn open(socket: OwnedFd) -> anyhow::Result<Self> {
        let mut inbox = Inbox::new(socket);
        let order = inbox.wait_for_next()?;
        let opened = prepare(&order, inbox.socket());
        let answer = opened
            .as_ref()
            .map_or_else(|error| ProgramReply::Refused(Refusal::of(error)), |_| ProgramReply::Ready);
        protocol::send(inbox.socket(), &answer, None)?;
        let Prepared { signals, children, no_input, shows_other_processes, init_system } = opened?;
        let (programs, terminal) = (HashMap::new(), None);
        // If this process is not PID 1 of a namespace, the programs of this container see the host's processes, too.
        let sees_others = shows_other_processes || !rustix::process::getpid().is_init();
        let rights = Rights { all: order.privileged, sees_others };
        Ok(Self { inbox, signals, rights, init_system, no_input, programs, terminal, children })
    }

    /// Handles requests until the host side is gone.
    fn serve(&mut self) {
        while self.take_requests().is_ok_and(|is_open| is_open) {}
    }

    /// Waits for an event and handles it; `false` when the host side is gone.
    fn take_requests(&mut self) -> anyhow::Result<bool> {
        let (requests, signals, console) = self.wait()?;
        if console && let Some(init_system) = &mut self.init_system {
            init_system.relay_console();
        }
        if signals {
            while let Some(signal) = sys::read_signal(&self.signals)? {
                self.take_signal(signal)?;
            }
        }
        if !requests {
            return Ok(true);
        }
        let is_open = self.inbox.receive()?;
        while let Some(request) = self.inbox.next() {
            match request? {
                ProgramRequest::Run(execution) => self.run(&execution)?,
                ProgramRequest::Signal { id, signal } => self.signal(id, signal),
                ProgramRequest::Ping => protocol::send(self.inbox.socket(), &ProgramReply::Pong, None)?,
            }
        }
        Ok(is_open)
    }

    /// Whether there are requests, signals, and output of the init system.
    fn wait(&self) -> io::Result<(bool, bool, bool)> {
        let console = self.init_system.as_ref().and_then(InitSystem::console).map(File::as_fd);
        let waited_for = [self.inbox.socket().as_fd(), self.signals.as_fd()].into_iter().chain(console);
        let mut waited_for: Vec<_> =
            waited_for.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
        rustix::io::retry_on_intr(|| poll(&mut waited_for, None))?;
        let is_ready = |number: usize| waited_for.get(number).is_some_and(|it| !it.revents().is_empty());
        Ok((is_ready(0), is_ready(1), is_ready(2)))
    }

    fn run(&mut self, execution: &Execution) -> io::Result<()> {
        let id = execution.id;
        let answer = match self.start(execution) {
            Ok(()) => ProgramReply::Started { id },
            Err(error) => ProgramReply::NotStarted { id, refusal: Refusal::of(&error) },
        };
        protocol::send(self.inbox.socket(), &answer, None)
    }

    fn start(&mut self, execution: &Execution) -> anyhow::Result<()> {
        let output = File::from(self.inbox.descriptor()?);
        // An init system takes its terminal itself.
        let has_terminal = execution.has_terminal && !execution.is_init;
        if has_terminal {
            self.lead_terminal(&output).context("cannot take the terminal")?;
        }
        // Opened for each program: a descriptor that is kept would keep a privileged one from `umount -a`.
        let own_null = (self.rights.all && !execution.has_terminal).then(privileges::find_null).flatten();
        let input =
            if execution.has_terminal { &output } else { own_null.as_ref().unwrap_or(&self.no_input) };
        let started = match &mut self.init_system {
            Some(init_system) => init_system.start(execution, input, &output, self.rights),
            None => program::start(execution, input, &output, self.rights),
        };
        match started {
            Ok(process) => {
                let program = RunningProgram { id: execution.id, has_terminal, is_init: execution.is_init };
                self.programs.insert(process, program);
                Ok(())
            }
            Err(error) => {
                if has_terminal {
                    self.take_terminal_back();
                }
                Err(error)
            }
        }
    }

    fn lead_terminal(&mut self, terminal: &File) -> anyhow::Result<()> {
        if self.programs.values().any(|program| program.has_terminal) {
            return Err(hinted(
                "another program of this container is using it",
                "use the terminal for one program at a time",
            ));
        }
        sys::control_by_terminal(terminal)?;
        self.terminal = Some(terminal.try_clone()?);
        Ok(())
    }

    fn signal(&self, id: u64, signal: i32) {
        for (process, _) in self.programs.iter().filter(|(_, program)| program.id == id) {
            send(*process, signal);
        }
    }

    fn take_signal(&mut self, signal: i32) -> io::Result<()> {
        if signal == libc::SIGCHLD {
            return self.reap();
        }
        for process in self.programs.keys() {
            send(*process, signal);
        }
        Ok(())
    }

    /// Reaps all children that have ended, and reports those that were requested.
    fn reap(&mut self) -> io::Result<()> {
        while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            if status.stopped() {
                self.go_on(process, status);
                continue;
            }
            let Some(program) = self.programs.remove(&process) else { continue };
            if program.has_terminal {
                self.take_terminal_back();
            }
            let answer = program.end(status);
            protocol::send(self.inbox.socket(), &answer, None)?;
        }
        Ok(())
    }

    /// Continues a program after Ctrl-Z: there is no shell that could put it into the foreground again.
    fn go_on(&self, process: Pid, status: WaitStatus) {
        if status.stopping_signal() == Some(libc::SIGTSTP) && self.programs.contains_key(&process) {
            // Ignored: it may have been killed meanwhile.
            let _ = sys::signal_group(process, libc::SIGCONT);
        }
    }

    /// A program that was left in the background must not read the input for the next one.
    fn take_terminal_back(&self) {
        if let Some(terminal) = &self.terminal {
            // Ignored: the terminal may be gone.
            let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp());
        }
    }

    /// Ends all remaining processes, and waits until the terminal has sent their last output.
    fn end(&mut self) {
        self.children.end();
        if let Some(terminal) = &self.terminal {
            terminal::drain(terminal);
        }
    }
}

impl RunningProgram {
    /// What is reported about its end.
    fn end(&self, status: WaitStatus) -> ProgramReply {
        let id = self.id;
        match status.terminating_signal() {
            // reboot(2) in a PID namespace; from inside, no other signal ends its PID 1.
            Some(signal @ (libc::SIGHUP | libc::SIGINT)) if self.is_init => {
                ProgramReply::Rebooted { id, signal }
            }
            _ => ProgramReply::ProgramExit { id, status: as_shells_count(status) },
        }
    }
}

/// What this process has before the first program.
struct Prepared {
    signals: OwnedFd,
    children: Arc<Children>,
    no_input: File,
    shows_other_processes: bool,
    init_system: Option<InitSystem>,
}

fn prepare(order: &Order, host: impl AsFd) -> anyhow::Result<Prepared> {
    sys::block_signals(&[WATCHED, BLOCKED_SIGNALS].concat())?;
    let signals = sys::signal_descriptor(WATCHED)?;
    // Leaves the session of the host, in order to lead that of the programs' terminal.
    rustix::process::setsid()?;
    sys::leave_keyring();
    ipc::enter(&order.ipc)?;
    let init_system = InitSystem::find(order)?;
    if init_system.is_none() {
        sys::make_own_cgroup_the_root().context("cannot create a cgroup namespace")?;
    }
    rustix::process::umask(UMASK);
    limit_open_files();
    let Entered { null: no_input, shows_other_processes } = rootfs::enter(order)?;
    let children = Children::adopt().context("cannot become the reaper of the container's orphans")?;
    let children = Arc::new(children);
    let killed = Arc::clone(&children);
    host_watch::begin(host.as_fd().try_clone_to_owned()?, move || killed.kill())
        .context("cannot watch for the end of Iguana")?;
    if order.spare_init {
        // Ignored: without CAP_SYS_RESOURCE it is killed together with the programs.
        let _ = fs::write(sys::OOM_SCORE, NEVER_KILLED);
    }
    Ok(Prepared { signals, children, no_input, shows_other_processes, init_system })
}

/// Without CAP_SYS_RESOURCE the limit cannot be raised, and the machine's stays.
fn limit_open_files() {
    let (soft, hard) = OPEN_FILES;
    let own = getrlimit(Resource::Nofile).maximum.unwrap_or(hard);
    let set = |hard: u64| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })
    };
    // A process may always lower its own limit.
    let _ = set(hard).or_else(|_| set(own));
}

/// Sends a signal to a program and the processes of its group. A program that has gone to the group of a child gets it all
/// the same. It is not reaped yet, so the number is its own.
fn send(program: Pid, signal: i32) {
    // Ignored: the program may have just ended, which SIGCHLD reports.
    let _ = sys::signal_group(program, signal);
    if getpgid(Some(program)) != Ok(program) {
        let _ = sys::signal_process(program, signal);
    }
}

fn as_shells_count(status: WaitStatus) -> u8 {
    let signal = || status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or_else(signal).map_or(u8::MAX, |status| status as u8)
}

/// All processes of the container but this one.
enum Children {
    /// This is PID 1 of a PID namespace: they are all processes in it.
    OfNamespace,
    /// This process is in the host's PID namespace. Orphaned descendants become its children, which this file of the
    /// kernel lists.
    OfProcess(File),
}

impl Children {
    fn adopt() -> io::Result<Self> {
        let process = rustix::process::getpid();
        if process.is_init() {
            return Ok(Self::OfNamespace);
        }
        rustix::process::set_child_subreaper(Some(process))?;
        Ok(Self::OfProcess(File::open(format!("/proc/self/task/{}/children", process.as_raw_pid()))?))
    }

    /// Kills them all. The children of a killed child become children of this process, and are killed in the next
    /// round.
    fn end(&self) {
        let start = Instant::now();
        while start.elapsed() < END_LIMIT {
            self.kill();
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn kill(&self) {
        match self {
            Self::OfNamespace => sys::kill_all_others(),
            Self::OfProcess(list) => {
                let mut text = vec![0; CHILDREN_AT_ONCE];
                // Ignored: if the list cannot be read, another process adopts them.
                let length = list.read_at(&mut text, 0).unwrap_or_default();
                let whole = text[..length].iter().rposition(|letter| *letter == b' ').unwrap_or_default();
                let text = String::from_utf8_lossy(&text[..whole]);
                for child in text.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?))
                {
                    // Ignored: it may have just ended.
                    let _ = kill_process(child, Signal::KILL);
                }
            }
        }
    }
}
