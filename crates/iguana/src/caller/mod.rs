//! What the calling user has configured for containers' tools: logins, credential helpers, registries.conf.

mod helper;

use config::caller::{CallerLogins, registries_conf};
use config::trust::Trust;
use helper::HelperPrograms;
use oci_pull::{Logins, Registries};
use std::env;
use std::path::PathBuf;
use std::sync::Arc;

/// The registries.conf that the environment names.
pub(crate) fn registries() -> Option<PathBuf> {
    registries_conf(&variable)
}

/// The logins in the user's own files.
pub(crate) fn logins() -> Logins {
    CallerLogins::read(&variable, rustix::process::getuid().as_raw()).logins
}

/// The same logins, with the credential helpers of this workstation, in the order of registries.conf.
pub(crate) fn with_helpers(logins: Logins, registries: &Registries) -> Logins {
    logins.with_helpers(registries.credential_helpers(), Arc::new(HelperPrograms::default()))
}

/// A trust directory for this workstation: its logins come first, then the user's.
pub(crate) fn with_logins(mut trust: Trust) -> Trust {
    let mut all = std::mem::take(&mut trust.logins);
    all.then(logins());
    trust.logins = with_helpers(all, &trust.registries);
    trust
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
