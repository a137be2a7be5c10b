//! A server program on loopback, which is stopped when the value is dropped.

use crate::registries::port::Port;
use crate::{HOST, scratch_directory};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time limit for starting, which takes well under a second, or seconds for a Python program on busy cores.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server with a directory of its own.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: Port,
    home: TempDir,
}

impl Server {
    /// Runs the command that `command` returns for a port of `ports` and an empty directory, and waits until it
    /// listens there.
    ///
    /// # Errors
    /// With the server's log, if it ends or does not listen within a minute.
    pub fn start(ports: Range<u16>, command: impl FnOnce(u16, &Path) -> Result<Command>) -> Result<Server> {
        let port = Port::free(ports)?;
        let home = scratch_directory("server")?;
        let wanted = command(port.number(), home.path())?;
        let log = File::create(home.path().join("log"))?;
        let mut process = Command::new("setpriv");
        process.args(["--pdeathsig", "KILL"]).arg(wanted.get_program()).args(wanted.get_args());
        for (key, value) in wanted.get_envs() {
            match value {
                Some(value) => process.env(key, value),
                None => process.env_remove(key),
            };
        }
        let name = wanted.get_program().to_string_lossy();
        let process = process
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("`{name}` cannot be started"))?;
        let mut server = Server { process, port, home };
        server.await_start().with_context(|| format!("`{name}`"))?;
        Ok(server)
    }

    fn await_start(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.here()).is_err() {
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("it does not listen on {}:\n{}", self.here(), self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its log, for error messages.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Its directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its `host:port` for guests.
    pub fn address(&self) -> String {
        format!("{HOST}:{}", self.port.number())
    }

    /// Its `host:port` on this host.
    pub fn here(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
