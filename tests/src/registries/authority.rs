//! Certificate authorities, and server certificates that they sign.

use crate::process::{self, QUICK};
use crate::{HOST, cached};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Days for which a certificate is valid: longer than any checkout is used.
const DAYS: &str = "3650";

/// A CA with a server certificate for this host, with its names for the host and for guests.
#[derive(Clone, Debug)]
pub struct Authority {
    home: PathBuf,
}

impl Authority {
    /// The authority of that name; made once, cached under `target/lab/authority`.
    pub fn named(name: &str) -> Result<Authority> {
        Ok(Authority { home: cached("authority", name, |directory| make(name, directory))? })
    }

    /// The CA certificate that clients must trust.
    pub fn certificate(&self) -> PathBuf {
        self.home.join("ca.pem")
    }

    /// Makes a client certificate, `client.cert` and `client.key`, in the directory `into`.
    pub fn certify_client(&self, into: &Path) -> Result<()> {
        let (ca, key) = (self.certificate(), self.home.join("ca.key"));
        let mut command = request(into, "client");
        command.arg("-CA").arg(ca).arg("-CAkey").arg(key).args(["-subj", "/CN=client"]);
        command.args(extension("basicConstraints=critical,CA:FALSE"));
        process::run(command.args(extension("extendedKeyUsage=clientAuth")), QUICK)?;
        std::fs::rename(into.join("client.pem"), into.join("client.cert"))?;
        Ok(())
    }

    /// The certificate of its server.
    pub fn server_certificate(&self) -> PathBuf {
        self.home.join("server.pem")
    }

    /// The key of that certificate.
    pub fn server_key(&self) -> PathBuf {
        self.home.join("server.key")
    }
}

fn make(name: &str, home: &Path) -> Result<()> {
    let subject = format!("/CN=Iguana lab {name}");
    let names = format!("subjectAltName=IP:{HOST},IP:127.0.0.1,DNS:localhost");
    process::run(
        request(home, "ca").args(["-subj", &subject]).args(extension("keyUsage=critical,keyCertSign")),
        QUICK,
    )?;
    process::run(
        request(home, "server")
            .args(["-CA", "ca.pem", "-CAkey", "ca.key", "-subj", &format!("/CN={HOST}")])
            .args(extension("basicConstraints=critical,CA:FALSE"))
            .args(extension("extendedKeyUsage=serverAuth"))
            .args(extension(&names)),
        QUICK,
    )?;
    Ok(())
}

/// A new key and certificate, `NAME.key` and `NAME.pem`, self-signed unless the caller adds a CA.
fn request(home: &Path, name: &str) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(home).args(["req", "-x509", "-nodes", "-days", DAYS, "-newkey", "ec"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    command
}

fn extension(text: &str) -> [&str; 2] {
    ["-addext", text]
}
