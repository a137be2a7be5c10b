//! Credentials for registries: containers-auth.json(5).

use config::trust;
use oci_pull::Logins;
use std::env;
use std::path::PathBuf;

/// The calling user's credentials on a running system; those of the trust directory come after them.
///
/// # Errors
/// When a file exists and cannot be read.
pub(crate) fn of_caller(of_trust: Logins) -> anyhow::Result<Logins> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::getuid().as_raw();
    let is_chosen = variable(CHOSEN).is_some();
    let mut logins = Logins::default();
    for path in places(variable, user) {
        logins.then(trust::logins(&path)?);
    }
    if !is_chosen {
        logins.then(of_trust);
    }
    Ok(logins)
}

/// podman's variable: if it is set, only this file is used.
const CHOSEN: &str = "REGISTRY_AUTH_FILE";

/// The files in the order of containers-auth.json(5).
fn places(variable: impl Fn(&str) -> Option<PathBuf>, user: u32) -> Vec<PathBuf> {
    if let Some(chosen) = variable(CHOSEN) {
        return vec![chosen];
    }
    let home = variable("HOME").unwrap_or_else(|| "/root".into());
    let run = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/containers/{user}").into());
    let primary = match variable("XDG_RUNTIME_DIR") {
        Some(_) => run.join("containers/auth.json"),
        None => run.join("auth.json"),
    };
    let own =
        variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("containers/auth.json");
    let docker = variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
    vec![primary, own, docker]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(variables: &[(&str, &str)]) -> Vec<String> {
        let value =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        places(value, 7).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn the_files_are_searched_in_the_order_of_the_manual() {
        assert_eq!(
            listed(&[("HOME", "/h")]),
            ["/run/containers/7/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        let set = [("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")];
        assert_eq!(
            listed(&set)[..3],
            ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"]
        );
        assert_eq!(listed(&[("REGISTRY_AUTH_FILE", "/x"), ("HOME", "/h")]), ["/x"]);
    }
}
