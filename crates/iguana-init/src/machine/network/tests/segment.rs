//! A network for tests: this thread's end of a cable, and another namespace with real servers at the other end.

use super::interfaces::Interface;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The servers' end. Its servers end with it.
pub(super) struct Segment {
    namespace: Child,
    servers: Vec<Child>,
    home: tempfile::TempDir,
}

impl Segment {
    /// Moves this thread into a namespace with the interface `v0`, which is down; its other end is `v1` in the servers'
    /// namespace, which is up. `None` unless run as root.
    pub(super) fn enter() -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let namespace = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap();
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        let id = namespace.id().to_string();
        while of(&id) == of("thread-self") {
            thread::sleep(Duration::from_millis(5));
        }
        run(&format!("ip link add v0 type veth peer name v1 netns {id}"));
        run("ip link set lo up");
        let segment = Self { namespace, servers: Vec::new(), home: tempfile::tempdir().unwrap() };
        segment.run("ip link set lo up");
        segment.run("ip link set v1 up");
        Some(segment)
    }

    /// This thread's end of the cable.
    pub(super) fn interface(&self) -> Interface {
        let line = run("ip -o link show v0");
        let index = line.split(':').next().unwrap().parse().unwrap();
        let address = line.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        let bytes: Vec<u8> = address.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        Interface { index, name: "v0".into(), hardware_address: bytes.try_into().unwrap(), has_carrier: true }
    }

    /// Runs a command at the servers' end.
    pub(super) fn run(&self, line: &str) -> String {
        run(&format!("nsenter --net=/proc/{}/ns/net {line}", self.namespace.id()))
    }

    /// Gives the servers' end an IPv6 address that can be used at once.
    pub(super) fn address(&self, address: &str) {
        self.run(&format!("ip address add {address} dev v1 nodad"));
    }

    /// Starts a server.
    pub(super) fn start(&mut self, line: &str) {
        let line = format!("--net=/proc/{}/ns/net {line}", self.namespace.id());
        let log = fs::File::create(self.home.path().join("log")).unwrap();
        let mut command = Command::new("nsenter");
        command
            .args(line.split_ascii_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.servers.push(command.spawn().unwrap());
    }

    /// Starts dnsmasq with these options.
    pub(super) fn dnsmasq(&mut self, options: &str) {
        let leases = self.home().join("leases");
        self.start(&format!(
            "dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --log-facility=- --log-dhcp \
             --no-resolv --no-hosts --interface=v1 --bind-dynamic --dhcp-leasefile={} {options}",
            leases.display()
        ));
    }

    /// A directory for the servers' files.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// What the server that was started last has said.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Waits until that server has said something.
    pub(super) fn await_log(&self, words: &str) {
        let begin = Instant::now();
        while !self.log().contains(words) {
            assert!(begin.elapsed() < Duration::from_secs(20), "no `{words}`:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().chain([&mut self.namespace]) {
            server.kill().ok();
            server.wait().ok();
        }
    }
}

/// Runs a command in this thread's namespace.
pub(super) fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
