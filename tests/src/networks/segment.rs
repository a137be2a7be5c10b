//! A private network with a machine's interface at one end and dnsmasq at the other.

use crate::process::{self, QUICK};
use crate::scratch_directory;
use crate::{HOST, lab_directory};
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The TAP device that QEMU opens for the interface.
const TAP: &str = "tap0";

/// The bridge on the host's end, with the address [`HOST`].
const BRIDGE: &str = "br0";

/// Time limit for starting dnsmasq, which takes well under a second.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A network segment in its own namespace. It belongs to the thread that made it, and to all processes that the
/// thread starts later. It is isolated from all other networks.
#[derive(Debug)]
pub struct Segment {
    helpers: Vec<Child>,
    home: TempDir,
}

impl Segment {
    /// Moves this thread into a new network namespace, which has a bridge and a place for one interface.
    pub fn enter() -> Result<Segment> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network of our own (are we root?)")?;
        for line in [
            "link set lo up".to_owned(),
            format!("link add {BRIDGE} type bridge forward_delay 0"),
            format!("address add {HOST}/24 dev {BRIDGE}"),
            format!("tuntap add {TAP} mode tap"),
            format!("link set {TAP} master {BRIDGE} up"),
            format!("link set {BRIDGE} up"),
        ] {
            process::run(Command::new("ip").args(line.split(' ')), QUICK)?;
        }
        Ok(Segment { helpers: Vec::new(), home: scratch_directory("segment")? })
    }

    /// QEMU's `-netdev` options for the interface.
    pub fn interface() -> String {
        format!("tap,id=net0,ifname={TAP},script=no,downscript=no")
    }

    /// Makes a service on this thread's loopback at `port` available to machines.
    pub fn offer(&mut self, port: &str) -> Result<()> {
        let listen = format!("TCP-LISTEN:{port},bind={HOST},fork,reuseaddr");
        self.start(Command::new("socat").args([listen, format!("TCP:127.0.0.1:{port}")]), "socat")
    }

    /// Runs dnsmasq: DHCP, and TFTP for the files of `directory`, with additional `options`.
    pub fn serve(&mut self, directory: &Path, options: &[String]) -> Result<()> {
        let mut dnsmasq = Command::new("/usr/sbin/dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file=",
        ]);
        dnsmasq.args([
            "--log-facility=-",
            "--log-dhcp",
            "--bind-interfaces",
            "--enable-tftp",
            "--dhcp-no-override",
        ]);
        dnsmasq.arg(format!("--interface={BRIDGE}")).arg("--dhcp-range=10.0.2.50,10.0.2.99,1h");
        dnsmasq.arg(format!("--dhcp-leasefile={}", self.home.path().join("leases").display()));
        dnsmasq.arg(format!("--tftp-root={}", directory.display())).args(options);
        self.start(&mut dnsmasq, "dnsmasq")?;
        self.await_log("dnsmasq", "TFTP root is")
    }

    fn start(&mut self, command: &mut Command, name: &str) -> Result<()> {
        let log = File::create(self.log(name)).context("a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.helpers.push(command.spawn().with_context(|| format!("`{name}` cannot be started"))?);
        Ok(())
    }

    fn await_log(&self, name: &str, words: &str) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let said = || fs::read_to_string(self.log(name)).unwrap_or_default();
        while !said().contains(words) {
            anyhow::ensure!(Instant::now() < deadline, "`{name}` does not start:\n{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name).with_extension("log")
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            helper.kill().ok();
            helper.wait().ok();
        }
        // Kept for the analysis of failures.
        if let Ok(logs) = lab_directory("logs") {
            fs::copy(self.log("dnsmasq"), logs.join("dnsmasq.log")).ok();
        }
    }
}
