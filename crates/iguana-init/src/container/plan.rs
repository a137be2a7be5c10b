//! What a container is to be, as data.

use iguana_core::workflow::{Env, Volume, VolumeSource};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The new system's root, told to every container.
const NEWROOT: &str = "/sysroot";
/// What every container shares with the machine.
const ALWAYS: &[(&str, &str)] = &[
    ("/dev", "/dev"),
    ("/sys", "/sys"),
    ("/iguana", "/iguana"),
    ("/etc/resolv.conf", "/etc/resolv.conf"),
    ("/etc/hosts", "/etc/hosts"),
    ("/etc/hostname", "/etc/hostname"),
];

/// Everything about one container besides its image.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A folder of its own in the store's file system, for what it writes.
    pub(crate) scratch: PathBuf,
    /// What is bound into its root, in order.
    pub(crate) binds: Vec<Bind>,
    /// Variables after those of the image.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdio: Stdio,
}

/// Where a container's program reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stdio {
    /// The terminal at this path, which it controls.
    Terminal(PathBuf),
    /// Writes to the console, reads nothing: there is no terminal.
    Console,
    /// Writes to this file, reads nothing.
    Log(PathBuf),
}

/// A path of the machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

impl Plan {
    /// The plan for a container called `name` among those that run at the same time.
    pub(crate) fn new(
        store: &Path,
        name: &str,
        volumes: &[Volume],
        workflow_env: &Env,
        container_env: &Env,
        stdio: Stdio,
    ) -> Self {
        let scratch = store.join("containers").join(name);
        let mut env = contract_env(&stdio, &hostname());
        env.extend([workflow_env, container_env].into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        Self { binds: binds(store, &scratch, volumes), scratch, env, stdio }
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn contract_env(stdio: &Stdio, hostname: &str) -> Vec<(String, String)> {
    let mut env = vec![("HOSTNAME", hostname), ("IGUANA", "true"), ("iguana", "true"), ("NEWROOT", NEWROOT)];
    if let Stdio::Terminal(path) = stdio {
        env.push(("TERM", terminal_type(path)));
    }
    env.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// systemd's rule: `linux` on the machine's own screen, `vt220` on anything that may be far away.
fn terminal_type(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_screen = name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    if is_screen { "linux" } else { "vt220" }
}

fn binds(store: &Path, scratch: &Path, volumes: &[Volume]) -> Vec<Bind> {
    let always = ALWAYS.iter().map(|(source, target)| Bind {
        source: source.into(),
        target: target.into(),
        read_only: false,
    });
    let asked = volumes.iter().enumerate().map(|(number, volume)| Bind {
        source: match &volume.source {
            VolumeSource::Anonymous => scratch.join(format!("volume-{number}")),
            VolumeSource::Named(name) => store.join("volumes").join(name),
            VolumeSource::Host(path) => path.clone(),
        },
        target: volume.target.clone(),
        read_only: volume.read_only,
    });
    always.chain(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(volumes: &[&str], workflow: &[(&str, &str)], container: &[(&str, &str)]) -> Plan {
        let volumes: Vec<Volume> = volumes.iter().map(|text| text.parse().unwrap()).collect();
        let env =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Env>();
        Plan::new(Path::new("/store"), "job", &volumes, &env(workflow), &env(container), Stdio::Console)
    }

    #[test]
    fn later_variables_come_later() {
        let plan = plan(&[], &[("A", "workflow"), ("NEWROOT", "/mnt")], &[("A", "container")]);
        let text: Vec<String> = plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert!(text[0].starts_with("HOSTNAME="), "{}", text[0]);
        let expected =
            ["IGUANA=true", "iguana=true", "NEWROOT=/sysroot", "A=workflow", "NEWROOT=/mnt", "A=container"];
        assert_eq!(text[1..], expected);
    }

    #[test]
    fn volumes_come_from_where_they_say() {
        let plan = plan(&["/own", "bus:/run/bus", "/srv:/data:ro"], &[], &[]);
        let sources: Vec<&Path> =
            plan.binds[ALWAYS.len()..].iter().map(|bind| bind.source.as_path()).collect();
        let expected = ["/store/containers/job/volume-0", "/store/volumes/bus", "/srv"].map(Path::new);
        assert_eq!(sources, expected);
        assert!(plan.binds.last().unwrap().read_only);
    }

    #[test]
    fn terminals_far_away_are_plain() {
        assert_eq!(terminal_type(Path::new("/dev/tty1")), "linux");
        assert_eq!(terminal_type(Path::new("/dev/ttyS0")), "vt220");
        assert_eq!(terminal_type(Path::new("/dev/hvc0")), "vt220");
    }
}
