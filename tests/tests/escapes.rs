//! Attempts to escape from a container with `privileged: false`, with `iguana-init run` on a running system. It must
//! be run by root. The same in an initrd: `scenarios::containers::an_unprivileged_container_cannot_gain_rights_in_an_initrd`.

use anyhow::{Context, Result, ensure};
use iguana_lab::live::LiveSystem;
use iguana_lab::registry::Registry;
use iguana_lab::{escapes, packages, program};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Properties of the host that must not change.
const CANARIES: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/sys/kernel/uevent_helper",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
];

#[test]
fn every_escape_from_an_unprivileged_container_is_blocked() -> Result<()> {
    packages::ensure(packages::ORACLE)?;
    let registry = Registry::plain()?;
    registry.push_recipe(escapes::recipe()?, "escapes")?;
    registry.push_recipe(escapes::recipe()?.set("WorkingDir", json!("/proc/1/root")), "working-directory")?;
    let system = LiveSystem::new(registry)?;
    let victim = system.room().join("victim");
    fs::create_dir(&victim)?;
    fs::write(victim.join("secret"), "secret")?;
    let workflow = json!({"jobs": {
        "own": job("escapes", &victim, &json!({})),
        "all-processes": job("escapes", &victim, &json!({"pid": "host"})),
        "image": job("working-directory", &victim, &json!({"pid": "host"})),
        "workdir": job("escapes", &victim, &json!({"pid": "host", "workdir": "/proc/self/cwd/../.."})),
        "descriptor": job("escapes", &victim, &json!({"pid": "host", "workdir": "/proc/self/fd/3"})),
        "program": job("escapes", &victim, &json!({"entrypoint": ["/proc/self/exe"], "command": ["--version"]})),
    }});
    let canaries =
        || [canaries(CANARIES), canary(&program("iguana-init")), canary(&victim.join("secret"))].concat();
    let before = canaries();
    let file = system.workflow(&workflow.to_string())?;
    // Uses the host's own files instead of an overlay, so that writes to them are detected.
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    escapes::assert_all_shut(&said, 2).with_context(|| log.clone())?;
    for job in ["image", "workdir", "descriptor"] {
        let end = log.lines().find(|line| line.contains(&format!("job {job}: failed"))).unwrap_or_default();
        ensure!(end.contains("cannot use the working directory"), "job {job}: `{end}`\n{log}");
    }
    ensure!(canaries() == before, "{before:#?} are now {:#?}", canaries());
    ensure!(fs::read_dir(&victim)?.count() == 1, "something was made in `{}`", victim.display());
    Ok(())
}

fn job(image: &str, victim: &Path, options: &serde_json::Value) -> serde_json::Value {
    let mut container = json!({
        "image": format!("REGISTRY/{image}"), "privileged": false, "env": {"VICTIM": victim},
    });
    for (key, value) in options.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    json!({"container": container, "continue-on-error": true})
}

fn canaries(paths: &[&str]) -> Vec<String> {
    paths.iter().flat_map(|path| canary(Path::new(path))).collect()
}

/// Content, mode and owner of a file.
fn canary(path: &Path) -> Vec<String> {
    let Ok(stat) = fs::metadata(path) else { return vec![format!("no {}", path.display())] };
    let content = fs::read(path).map(|content| crc(&content)).unwrap_or_default();
    vec![format!("{} {:o} {}:{} {content:x}", path.display(), stat.mode(), stat.uid(), stat.gid())]
}

fn crc(content: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
