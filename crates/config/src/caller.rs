//! The configuration of a calling user on a running system, where the environment of containers' tools says it is. A boot
//! has no calling user: words of the kernel command line become the environment of PID 1, so nothing of a boot uses this.

use super::trust;
use anyhow::Context as _;
use hint::hinted;
use oci_pull::Logins;
use std::path::{Path, PathBuf};

/// podman's variable for a file with logins; if it is set, only this file is used (podman-login(1)).
const AUTH_FILE: &str = "REGISTRY_AUTH_FILE";
/// podman's variables for the path of registries.conf (podman(1), and its former name), in the order of containers/image
/// (`pkg/cli/environment`).
const REGISTRIES: &[&str] = &["CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"];

/// The environment: a variable's value, unless it is empty.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// The logins of a calling user.
#[derive(Debug, Default)]
pub struct CallerLogins {
    /// The logins. A file that cannot be read is an error where a login is looked for in it.
    pub logins: Logins,
    /// Whether the user named the file.
    pub is_chosen: bool,
}

/// The format of a file with logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// containers-auth.json(5), and docker's config.json.
    Usual,
    /// docker's `.dockercfg`.
    Old,
}

impl CallerLogins {
    /// Reads the logins of the user with this ID: the file that `REGISTRY_AUTH_FILE` names, or else those of
    /// containers-auth.json(5) that exist.
    #[must_use]
    pub fn read(variable: Variable<'_>, user: u32) -> Self {
        if let Some(file) = variable(AUTH_FILE) {
            let missing = || Err(hinted("it does not exist", format!("`{AUTH_FILE}` names it")));
            let found = read(&file, Format::Usual).and_then(|found| found.map_or_else(missing, Ok));
            return Self { logins: or_unreadable(found, &file), is_chosen: true };
        }
        let mut logins = Logins::default();
        for (file, format) in files(variable, user) {
            if let Some(found) = read(&file, format).transpose() {
                logins.then(or_unreadable(found, &file));
            }
        }
        Self { logins, is_chosen: false }
    }
}

/// The registries.conf that the environment names.
#[must_use]
pub fn registries_conf(variable: Variable<'_>) -> Option<PathBuf> {
    REGISTRIES.iter().find_map(|name| variable(name))
}

/// The files in the order of containers-auth.json(5). `DOCKER_CONFIG` is docker's variable (docker(1)).
fn files(variable: Variable<'_>, user: u32) -> Vec<(PathBuf, Format)> {
    let home = variable("HOME").unwrap_or_else(|| "/root".into());
    let primary = match variable("XDG_RUNTIME_DIR") {
        Some(run) => run.join("containers/auth.json"),
        None => format!("/run/containers/{user}/auth.json").into(),
    };
    let own = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let docker = variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"));
    vec![
        (primary, Format::Usual),
        (own.join("containers/auth.json"), Format::Usual),
        (docker.join("config.json"), Format::Usual),
        (home.join(".dockercfg"), Format::Old),
    ]
}

/// `None` if the file does not exist.
fn read(path: &Path, format: Format) -> anyhow::Result<Option<Logins>> {
    let Some(text) = trust::text_of(path)? else { return Ok(None) };
    match format {
        Format::Usual => Logins::parse(&text).map(Some),
        Format::Old => Logins::parse_old(&text).map(Some),
    }
}

fn or_unreadable(read: anyhow::Result<Logins>, path: &Path) -> Logins {
    let read = read.with_context(|| format!("cannot use the logins in `{}`", path.display()));
    read.unwrap_or_else(Logins::unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn environment(variables: &[(&'static str, String)]) -> impl Fn(&str) -> Option<PathBuf> {
        let variables = variables.to_vec();
        move |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    fn listed(variables: &[(&'static str, &str)]) -> Vec<String> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let files = files(&environment(&variables), 7);
        files.iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn the_files_are_searched_in_the_order_of_the_manual() {
        assert_eq!(
            listed(&[("HOME", "/h")]),
            [
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json",
                "/h/.dockercfg"
            ]
        );
        let set = [("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")];
        assert_eq!(
            listed(&set),
            ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json", "/root/.dockercfg"]
        );
    }

    #[test]
    fn a_file_named_by_the_environment_is_the_only_one_and_must_exist() {
        let room = tempfile::tempdir().unwrap();
        let text = |password: &str| {
            format!("{{\"auths\": {{\"r.example\": {{\"username\": \"u\", \"password\": \"{password}\"}}}}}}")
        };
        let place = |name: &str| room.path().join(name).display().to_string();
        fs::create_dir(place(".docker")).unwrap();
        fs::write(place(".docker/config.json"), text("docker")).unwrap();
        fs::write(place("chosen.json"), text("chosen")).unwrap();
        fs::write(place(".dockercfg"), "{\"https://old.example/v1/\": {\"auth\": \"dTpw\"}}").unwrap();
        let find = |chosen: Option<&str>, repository: &str| {
            let mut variables = vec![("HOME", place("")), ("XDG_RUNTIME_DIR", place("none"))];
            variables.extend(chosen.map(|name| (AUTH_FILE, place(name))));
            let found = CallerLogins::read(&environment(&variables), 7);
            assert_eq!(found.is_chosen, chosen.is_some());
            found.logins.find(repository).map(|login| login.is_some())
        };
        assert!(find(None, "r.example/x").unwrap() && find(None, "old.example/x").unwrap());
        assert!(find(Some("chosen.json"), "r.example/x").unwrap());
        assert!(!find(Some("chosen.json"), "old.example/x").unwrap());
        let error = format!("{:#}", find(Some("missing.json"), "r.example/x").unwrap_err());
        assert!(error.contains("missing.json`") && error.contains("it does not exist"), "{error}");
        fs::write(place(".docker/config.json"), "secret").unwrap();
        let error = format!("{:#}", find(None, "r.example/x").unwrap_err());
        assert!(error.contains("config.json`") && !error.contains("secret"), "{error}");
        assert!(find(None, "old.example/x").unwrap());
    }

    #[test]
    fn the_newer_variable_for_registries_conf_has_precedence() {
        let (new, old) =
            (("CONTAINERS_REGISTRIES_CONF", "/n".to_owned()), ("REGISTRIES_CONFIG_PATH", "/o".to_owned()));
        for (variables, expected) in
            [(vec![old.clone(), new.clone()], Some("/n")), (vec![old], Some("/o")), (vec![], None)]
        {
            let found = registries_conf(&environment(&variables));
            assert_eq!(found, expected.map(PathBuf::from));
        }
    }
}
