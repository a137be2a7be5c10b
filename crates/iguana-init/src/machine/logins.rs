//! Who pulls from registries that demand to know: containers-auth.json(5).

use anyhow::Context as _;
use iguana_core::image::Logins;
use std::env;
use std::path::{Path, PathBuf};

/// Where `iguana build --auth` puts its file.
const BAKED_IN: &str = "/etc/containers/auth.json";

/// The logins that were baked into the initrd.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn baked_in() -> anyhow::Result<Logins> {
    first_to_last(&[BAKED_IN.into()])
}

/// Those of whoever calls, on a system that is up; after them those of the machine.
///
/// # Errors
/// When a file is there and cannot be read.
pub(crate) fn of_caller() -> anyhow::Result<Logins> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::getuid().as_raw();
    first_to_last(&places(variable, user))
}

/// The order of containers-auth.json(5): `REGISTRY_AUTH_FILE` is podman's, and alone where it is set.
fn places(variable: impl Fn(&str) -> Option<PathBuf>, user: u32) -> Vec<PathBuf> {
    if let Some(chosen) = variable("REGISTRY_AUTH_FILE") {
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
    vec![primary, own, docker, BAKED_IN.into()]
}

fn first_to_last(places: &[PathBuf]) -> anyhow::Result<Logins> {
    let mut logins = Logins::default();
    for path in places.iter().filter(|path| path.exists()) {
        logins.then(read(path).with_context(|| format!("cannot use the logins in `{}`", path.display()))?);
    }
    Ok(logins)
}

fn read(path: &Path) -> anyhow::Result<Logins> {
    Logins::parse(&std::fs::read_to_string(path)?)
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
    fn the_files_are_looked_through_in_the_manuals_order() {
        assert_eq!(
            listed(&[("HOME", "/h")]),
            [
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json",
                "/etc/containers/auth.json"
            ]
        );
        let set = [("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")];
        assert_eq!(
            listed(&set)[..3],
            ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"]
        );
        assert_eq!(listed(&[("REGISTRY_AUTH_FILE", "/x"), ("HOME", "/h")]), ["/x"]);
    }
}
