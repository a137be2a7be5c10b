//! `iguana pull`: images made with third-party tools, in a directory of a workstation.

use anyhow::{Context as _, Result};
use iguana_lab::fault_proxy::{Action, FaultProxy, Impairment};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::puller::{fails, here, insecure, mirror, says, text};
use iguana_lab::registry::{CREDENTIALS, Registry};
use iguana_lab::{program, scratch_directory, tree};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A workstation: a directory to pull to, and files for the options.
struct Workstation(TempDir);

impl Workstation {
    fn new() -> Result<Workstation> {
        Ok(Workstation(scratch_directory("pull")?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pull(&self, image: &str, options: &[&str]) -> Result<Output> {
        self.pull_with(image, options, &[])
    }

    /// Pulls with a user's environment.
    fn pull_with(&self, image: &str, options: &[&str], environment: &[(&str, &Path)]) -> Result<Output> {
        let mut command = Command::new(program("iguana"));
        command.args(["pull", image]).arg(self.path("root")).args(options);
        command.envs(environment.iter().copied()).output().context("`iguana` cannot be started")
    }

    /// An executable file of the user's.
    fn script(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text)?;
        Ok(fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755))?)
    }

    /// Pulls from a registry without TLS.
    fn pull_from(&self, registry: &str, image: &str, options: &[&str]) -> Result<Output> {
        let conf = self.path("registries.conf");
        fs::write(&conf, insecure(registry))?;
        let conf = conf.display().to_string();
        self.pull(&format!("{registry}/{image}"), &[&["--registries", &conf], options].concat())
    }
}

/// Layers that hide files of lower layers: by a file, a whiteout, and an opaque directory.
fn layered() -> Result<Image> {
    Recipe::busybox()?
        .file("/etc/motd", 0o644, "first")?
        .file("/opt/a/old", 0o600, "old")?
        .file("/etc/motd", 0o640, "second")?
        .file("/bin/.wh.ls", 0o644, "")?
        .file("/opt/a/.wh..wh..opq", 0o644, "")?
        .file("/opt/a/new", 0o755, "new")?
        .link("/opt/link", "a/new")?
        .make(Maker::Spec)
}

#[test]
fn a_directory_gets_the_tree_that_the_layers_make() -> Result<()> {
    let (registry, image) = (Registry::plain()?, layered()?);
    registry.push(&image, "tool")?;
    let workstation = Workstation::new()?;
    let file = workstation.path("digest");
    let output =
        workstation.pull_from(&here(&registry), "tool", &["--digest-file", &file.display().to_string()])?;
    says(&output, 0, &["layers, ", "MB"]);
    assert_eq!(
        tree::listing(&workstation.path("root"))?,
        tree::unpacked_by_umoci(&image, workstation.0.path())?
    );
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    let digest = process::run(skopeo.arg(format!("docker://{}/tool", here(&registry))), QUICK)?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), digest.trim());
    assert_eq!(fs::read_to_string(file)?, digest.trim());
    let again = workstation.pull_from(&here(&registry), "tool", &[])?;
    fails(&again, &["is not empty: it contains `", "choose a directory that is empty"]);
    Ok(())
}

#[test]
fn another_platform_is_pulled_when_it_is_named() -> Result<()> {
    let registry = Registry::plain()?;
    let marked = |mark: &str| Recipe::busybox()?.file("/mark", 0o644, mark)?.make(Maker::Spec);
    let other = marked("arm64")?;
    registry.push_all(&marked("amd64")?.beside_arm64(&other)?, "tool")?;
    let own = Workstation::new()?;
    says(&own.pull_from(&here(&registry), "tool", &[])?, 0, &[]);
    assert_eq!(fs::read_to_string(own.path("root/mark"))?, "amd64");
    let other = Workstation::new()?;
    let output = other.pull_from(&here(&registry), "tool", &["--platform", "linux/riscv64"])?;
    fails(&output, &["not available for `linux/riscv64`", "`linux/arm64`"]);
    assert!(fs::read_dir(other.path("root"))?.next().is_none(), "a pull that failed leaves something");
    says(&other.pull_from(&here(&registry), "tool", &["--platform", "arm64"])?, 2, &["write `linux/"]);
    Ok(())
}

#[test]
fn a_login_and_an_archive_are_accepted() -> Result<()> {
    let (registry, image) = (Registry::demanding_a_password()?, layered()?);
    registry.push(&image, "tool")?;
    let workstation = Workstation::new()?;
    let refused = workstation.pull_from(&here(&registry), "tool", &[])?;
    fails(&refused, &["cannot pull the image", "requires a name and a password"]);
    let auth = workstation.path("auth.json").display().to_string();
    let mut login = Command::new("skopeo");
    login.args(["login", "--tls-verify=false", "--authfile", &auth, "-u", CREDENTIALS.0, "-p"]);
    process::run(login.args([CREDENTIALS.1, &here(&registry)]), QUICK)?;
    says(&workstation.pull_from(&here(&registry), "tool", &["--auth", &auth])?, 0, &[]);
    let archived = Workstation::new()?;
    let archive = format!("docker-archive:{}", archived.path("image.tar").display());
    let source = format!("oci:{}:latest", image.layout().display());
    let target = format!("{archive}:r.example/tool:1");
    process::run(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source, &target]), LONG)?;
    says(&archived.pull(&archive, &[])?, 0, &[]);
    assert_eq!(tree::listing(&archived.path("root"))?, tree::listing(&workstation.path("root"))?);
    Ok(())
}

#[test]
fn variables_of_containers_tools_and_credential_helpers_are_respected() -> Result<()> {
    let (registry, image) = (Registry::demanding_a_password()?, layered()?);
    registry.push(&image, "tool")?;
    let workstation = Workstation::new()?;
    let (conf, config) = (workstation.path("registries.conf"), workstation.path("config.json"));
    fs::write(&conf, insecure(&here(&registry)))?;
    let helpers = format!("{{\"credHelpers\": {{\"{}\": \"lab\", \"gcr.io\": \"none\"}}}}", here(&registry));
    fs::write(&config, helpers)?;
    let (name, password) = CREDENTIALS;
    let home = workstation.path("");
    let registries = [("CONTAINERS_REGISTRIES_CONF", conf.as_path())];
    let path = format!("{}:{}", home.display(), std::env::var("PATH")?);
    let user = [registries[0], ("DOCKER_CONFIG", &home), ("HOME", &home), ("PATH", Path::new(&path))];
    let tool = format!("{}/tool", here(&registry));
    let missing = workstation.pull_with(&tool, &[], &user)?;
    fails(
        &missing,
        &["the credential helper `docker-credential-lab` is not on the PATH", "hint: install it"],
    );
    workstation.script(
        "docker-credential-lab",
        "#!/bin/sh\necho credentials not found in native keychain; exit 1\n",
    )?;
    fails(&workstation.pull_with(&tool, &[], &user)?, &["requires a name and a password", "`--auth FILE`"]);
    workstation.script(
        "docker-credential-lab",
        &format!(
            "#!/bin/sh\nread -r server\n[ $1 = get ] && [ $server = {} ] && \
             echo '{{\"ServerURL\":\"x\",\"Username\":\"{name}\",\"Secret\":\"{password}\"}}'\n",
            here(&registry)
        ),
    )?;
    let output = workstation.pull_with(&tool, &[], &user)?;
    says(&output, 0, &[]);
    assert!(!text(&output).contains(password));
    // A file that cannot be used concerns no image in local files.
    let (local, missing) = (Workstation::new()?, workstation.path("missing.json"));
    let layout = format!("oci:{}:latest", image.layout().display());
    let named = [registries[0], ("REGISTRY_AUTH_FILE", missing.as_path())];
    says(&local.pull_with(&layout, &[], &named)?, 0, &[]);
    fails(&Workstation::new()?.pull_with(&tool, &[], &named)?, &["missing.json`", "it does not exist"]);
    Ok(())
}

#[test]
fn a_full_disk_is_reported_as_that() -> Result<()> {
    let image = Recipe::busybox()?.file("/data", 0o644, vec![7; 8 << 20])?.make(Maker::Spec)?;
    let workstation = Workstation::new()?;
    let root = workstation.path("root").display().to_string();
    fs::create_dir(&root)?;
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o size=4M small \"$1\" && exec \"$2\" pull \"$3\" \"$1\"",
        "sh",
    ]);
    command.arg(&root).arg(program("iguana")).arg(format!("oci:{}:latest", image.layout().display()));
    let output = command.output().context("`unshare` cannot be started")?;
    fails(&output, &["the disk is full", "hint: make room on it"]);
    assert!(!text(&output).contains("memory"), "{}", text(&output));
    Ok(())
}

#[test]
fn failures_are_reported_in_plain_lines() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&Recipe::busybox()?.file("/data", 0o644, vec![1; 1 << 20])?.make(Maker::Spec)?, "tool")?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| match request.before {
        0 if request.target.contains("/blobs/") => Action::Impaired(Impairment::Cut(100_000)),
        _ => Action::Pass,
    })?;
    let workstation = Workstation::new()?;
    let output = workstation.pull_from(&fault_proxy.address(), "tool", &[])?;
    says(&output, 0, &["the connection was lost after", "retrying in", "(1 of 5)"]);
    assert!(!text(&output).contains('\u{1b}'), "{}", text(&output));
    Ok(())
}

#[test]
fn content_refused_by_a_mirror_is_fetched_from_the_registry() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&layered()?, "tool")?;
    let without_blobs = FaultProxy::before(&registry.address(), |request| {
        if request.target.contains("/blobs/") {
            return Action::Answer("403 Forbidden", Vec::new(), Vec::new());
        }
        Action::Pass
    })?;
    let workstation = Workstation::new()?;
    let conf = workstation.path("mirrored.conf");
    fs::write(&conf, insecure(&here(&registry)) + &mirror(&without_blobs.address()))?;
    let options = ["--registries", &conf.display().to_string()];
    let output = workstation.pull(&format!("{}/tool", here(&registry)), &options)?;
    says(&output, 0, &[&format!("cannot use `{}/tool`", without_blobs.address()), "403 Forbidden"]);
    Ok(())
}
