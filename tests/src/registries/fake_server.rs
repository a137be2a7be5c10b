//! Faulty TLS servers: openssl's, with certificates of every kind.

use crate::process::{self, QUICK};
use anyhow::{Result, ensure};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An authority that issues certificates with any dates, in a directory.
#[derive(Debug)]
pub struct DatedAuthority {
    directory: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Certified {
    certificate: PathBuf,
    key: PathBuf,
}

const NEW_KEY: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

impl DatedAuthority {
    /// Makes a new authority.
    pub fn new(directory: &Path) -> Result<DatedAuthority> {
        let dater = DatedAuthority { directory: directory.to_owned() };
        let home = directory.display();
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {home}/index\nnew_certs_dir = {home}\ncertificate = {home}/ca.crt\n\
             private_key = {home}/ca.key\ndefault_md = sha256\npolicy = any\nunique_subject = no\nrand_serial = yes\n\
             copy_extensions = copy\n[any]\ncommonName = supplied\n"
        );
        fs::write(directory.join("config"), config)?;
        fs::write(directory.join("index"), "")?;
        dater.self_signed("ca", "/CN=lab")?;
        Ok(dater)
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A self-signed certificate.
    pub fn self_signed(&self, name: &str, subject: &str) -> Result<Certified> {
        let certified = self.place(name);
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-subj", subject, "-days", "30"]).args(NEW_KEY);
        command.args(["-addext", "subjectAltName = IP:127.0.0.1"]);
        process::run(
            command.arg("-keyout").arg(&certified.key).arg("-out").arg(&certified.certificate),
            QUICK,
        )?;
        Ok(certified)
    }

    /// A certificate for `names` (as in `subjectAltName`), valid from one year to another.
    pub fn certify(&self, name: &str, names: &str, from: u32, to: u32) -> Result<Certified> {
        let (certified, request) = (self.place(name), self.directory.join(format!("{name}.csr")));
        let mut command = Command::new("openssl");
        command.args(["req", "-new", "-subj", "/CN=server", "-addext", &format!("subjectAltName = {names}")]);
        process::run(
            command.args(NEW_KEY).arg("-keyout").arg(&certified.key).arg("-out").arg(&request),
            QUICK,
        )?;
        let mut command = Command::new("openssl");
        command.args(["ca", "-batch", "-notext", "-config"]).arg(self.directory.join("config"));
        command.args(["-startdate", &format!("{from}0101000000Z"), "-enddate", &format!("{to}0101000000Z")]);
        process::run(command.arg("-in").arg(request).arg("-out").arg(&certified.certificate), QUICK)?;
        Ok(certified)
    }

    fn place(&self, name: &str) -> Certified {
        let file = |ending: &str| self.directory.join(format!("{name}.{ending}"));
        Certified { certificate: file("crt"), key: file("key") }
    }
}

/// A running server, which ends when the value is dropped.
#[derive(Debug)]
pub struct FakeServer {
    process: Child,
    /// Host and port.
    pub address: String,
}

impl FakeServer {
    /// Serves the complete HTTP answers in the files of `directory` with `openssl s_server` and additional `options`.
    pub fn start(certified: &Certified, directory: &Path, options: &[&str]) -> Result<FakeServer> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "openssl", "s_server", "-quiet", "-HTTP", "-accept", &address]);
        command.arg("-cert").arg(&certified.certificate).arg("-key").arg(&certified.key).args(options);
        let process = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let fake_server = FakeServer { process, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&fake_server.address).is_err() {
            ensure!(Instant::now() < deadline, "`openssl s_server` does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(fake_server)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
