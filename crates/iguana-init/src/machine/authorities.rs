//! Whose certificates are believed.

use anyhow::Context as _;
use iguana_core::http;
use iguana_core::trust::tls::{RegistryCertificates, Roots};
use std::path::Path;

/// The authorities that were baked into the initrd. Where this folder is, nobody else is believed.
const BAKED_IN: &str = "/etc/containers/ca";
/// Those of a system that is up: Debian and its kin, Fedora and its kin, SUSE.
const OF_SYSTEMS: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What single registries add: containers-certs.d(5).
const OF_REGISTRIES: &str = "/etc/containers/certs.d";

/// A client that believes the trusted authorities, and for single registries those of certs.d, too.
///
/// # Errors
/// When one of them cannot be read.
pub(crate) fn client() -> anyhow::Result<http::Client> {
    let certificates = RegistryCertificates::from_folder(Path::new(OF_REGISTRIES))?;
    Ok(http::Client::new(&trusted()?).with_certificates(certificates))
}

/// The trusted authorities; none when there are none.
///
/// # Errors
/// When one of them cannot be read.
fn trusted() -> anyhow::Result<Roots> {
    let baked_in = Path::new(BAKED_IN);
    match OF_SYSTEMS.iter().find(|path| Path::new(path).exists()) {
        Some(path) if !baked_in.exists() => {
            let pem = std::fs::read(path).with_context(|| format!("cannot read `{path}`"))?;
            Roots::from_pem(&pem).with_context(|| format!("cannot use `{path}`"))
        }
        _ => Roots::from_folder(baked_in),
    }
}
