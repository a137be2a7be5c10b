//! Salt from PyPI: what the minion's container has, and a real master on this host.

use super::payloads::Payload;
use crate::packages;
use crate::process::{self, LONG};
use crate::server::Server;
use crate::{cached, source_tree};
use anyhow::Result;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Salt and the only package that it needs and Debian does not have.
const REQUIREMENTS: [&str; 2] = ["salt==3008.0", "looseversion==1.3.0"];
/// The packages of Debian that it needs, as in the Containerfile.
const PYTHON: &[&str] = &[
    "python3-cryptography",
    "python3-distro",
    "python3-jinja2",
    "python3-msgpack",
    "python3-packaging",
    "python3-pip",
    "python3-psutil",
    "python3-requests",
    "python3-tornado",
    "python3-yaml",
    "python3-zmq",
];
/// The ports of masters: for requests, and 100 above for what they publish.
const PORTS: Range<u16> = 35700..35720;

/// The directory into which pip has installed Salt.
fn home() -> Result<PathBuf> {
    packages::ensure(PYTHON)?;
    let home = cached("installers", "salt-3008.0", |home| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--target"]);
        process::run(pip.arg(home.join("salt")).args(REQUIREMENTS), LONG)?;
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(home.join("salt")).args(["--numeric-owner", "-cf"]).arg(home.join("salt.tar"));
        process::run(tar.arg("."), LONG).map(drop)
    })?;
    Ok(home)
}

/// The content of that directory as an archive.
pub(super) fn packed() -> Result<PathBuf> {
    Ok(home()?.join("salt.tar"))
}

/// A master on this host that takes every minion, with the example's state and the Debian for it.
pub(super) fn master() -> Result<Server> {
    let salt = home()?.join("salt");
    let debian = Payload::Debian.file()?;
    Server::start(PORTS, |port, home| {
        let files = home.join("files");
        fs::create_dir(&files)?;
        fs::copy(source_tree().join("examples/installers/salt/saltboot.sls"), files.join("saltboot.sls"))?;
        fs::copy(&debian, files.join("debian.tar.zst"))?;
        fs::write(home.join("master"), configuration(port, home, &files))?;
        // In a PID namespace of its own, so that its processes end with it.
        let mut master = Command::new("unshare");
        master.args(["--pid", "--fork", "--mount-proc", "--kill-child=KILL", "/usr/bin/python3"]);
        master.arg(salt.join("bin/salt-master")).arg("--config-dir").arg(home).env("PYTHONPATH", &salt);
        Ok(master)
    })
}

fn configuration(port: u16, home: &Path, files: &Path) -> String {
    let (home, files, publish) = (home.display(), files.display(), port + 100);
    format!(
        "interface: 127.0.0.1\nret_port: {port}\npublish_port: {publish}\nuser: root\nroot_dir: {home}\n\
         pki_dir: {home}/pki\nauto_accept: true\nworker_threads: 3\nfile_roots: {{base: [{files}]}}\n"
    )
}
