//! Initrds for the scenarios, made by `iguana build`. There are few of them, because each takes seconds to build.

use crate::authority::Authority;
use crate::kernel::{Flavour, Kernel};
use crate::process;
use crate::registry::{INSECURE_PORTS, REPLACED_REGISTRIES, REPLACEMENT_PORT};
use crate::signing::Key;
use crate::tools::cache::{cached, lock};
use crate::{HOST, lab_directory, program};
use anyhow::{Context as _, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time limit of a build on two busy cores: the modules of the full kernel take longest.
const BUILD_LIMIT: Duration = Duration::from_secs(300);

/// A kernel with its initrd.
#[derive(Clone, Debug)]
pub struct Initrd {
    /// The kernel of the initrd.
    pub kernel: Kernel,
    /// The initrd's file.
    pub image: PathBuf,
}

impl Initrd {
    /// The initrd of nearly all scenarios: trusts the lab's authority and its insecure ports, and has a shell.
    pub fn standard(flavour: Flavour) -> Result<Initrd> {
        Initrd::build("standard", flavour, &Trust::lab()?, &["--shell".into()])
    }

    /// The smallest initrd, without a shell.
    pub fn bare(flavour: Flavour) -> Result<Initrd> {
        Initrd::build("bare", flavour, &Trust::lab()?, &[])
    }

    /// The smallest initrd with another `iguana-init`.
    pub fn bare_with(init: &Path, flavour: Flavour) -> Result<Initrd> {
        Initrd::build("bare-with", flavour, &Trust::lab()?, &["--init".into(), init.into()])
    }

    /// The standard initrd with `workflow` bundled.
    pub fn bundling(workflow: &str) -> Result<Initrd> {
        let file = lab_directory("initrd")?.join("bundled.yaml");
        fs::write(&file, workflow)?;
        Initrd::build("bundling", Flavour::Cloud, &Trust::lab()?, &["--workflow".into(), file.into()])
    }

    /// An initrd that trusts `authority` only, and no registry without TLS.
    pub fn trusting(authority: &Authority) -> Result<Initrd> {
        let trust = Trust { authority: authority.clone(), registries: None };
        Initrd::build("trusting", Flavour::Cloud, &trust, &[])
    }

    /// An initrd that runs only workflows and images signed by the returned key, gives no shell, and accepts two
    /// options of the command line.
    pub fn strict() -> Result<(Initrd, Key)> {
        let directory = cached("trust", "strict-by-name", |directory| {
            let (trust, keys) = (directory.join("trust"), directory.join("trust/keys"));
            fs::create_dir_all(&keys)?;
            let key = Key::usual(directory, "key")?;
            fs::copy(&key.public, keys.join("workflow.pub"))?;
            let policy = r#"{"default": [{"type": "reject"}], "transports": {"docker": {"": [
                {"type": "sigstoreSigned", "keyPath": "keys/workflow.pub"}]}}}"#;
            fs::write(trust.join("policy.json"), policy)?;
            fs::create_dir_all(trust.join("registries.d"))?;
            let attachments = "default-docker:\n  use-sigstore-attachments: true\n";
            fs::write(trust.join("registries.d/all.yaml"), attachments)?;
            fs::copy(Trust::lab()?.registries.context("none")?, trust.join("registries.conf"))?;
            Ok(fs::write(trust.join("iguana.conf"), strict_rules())?)
        })?;
        let options = ["--shell".into(), "--trust".into(), directory.join("trust").into()];
        let initrd = Initrd::build_by("strict", Flavour::Cloud, &options)?;
        Ok((initrd, Key::cached(&directory, "key")))
    }

    /// An initrd that runs any workflow and image, and accepts two options of the command line.
    pub fn with_allowed_options() -> Result<Initrd> {
        let directory = cached("trust", "allowed-options", |directory| {
            let trust = directory.join("trust");
            fs::create_dir_all(&trust)?;
            fs::write(trust.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
            fs::copy(Trust::lab()?.registries.context("none")?, trust.join("registries.conf"))?;
            let rules =
                "[command-line]\nallow = ['rd.iguana.control_url', 'rd.iguana.on_failure=poweroff']\n";
            Ok(fs::write(trust.join("iguana.conf"), rules)?)
        })?;
        let options = ["--trust".into(), directory.join("trust").into()];
        Initrd::build_by("allowed-options", Flavour::Cloud, &options)
    }

    /// Builds the initrd, or takes it from the cache if programs, files and options are the same.
    fn build(name: &str, flavour: Flavour, trust: &Trust, options: &[OsString]) -> Result<Initrd> {
        Initrd::build_by(name, flavour, &[&trust.arguments(), options].concat())
    }

    fn build_by(name: &str, flavour: Flavour, arguments: &[OsString]) -> Result<Initrd> {
        let kernel = Kernel::debian(flavour)?;
        let key = key(&kernel, arguments)?;
        let home = lab_directory("initrd")?;
        let image = home.join(format!("{name}-{flavour:?}-{key:016x}.img"));
        let _one_at_a_time = lock(&home, &format!("{name}-{flavour:?}"))?;
        if !image.exists() {
            let fresh = image.with_extension("new");
            process::run(command(&kernel, &fresh).args(arguments), BUILD_LIMIT)?;
            remove_older(&home, &format!("{name}-{flavour:?}-"))?;
            fs::rename(fresh, &image)?;
        }
        Ok(Initrd { kernel, image })
    }
}

/// `iguana build` for `kernel`; the caller may add options.
pub fn command(kernel: &Kernel, output: &Path) -> Command {
    let mut command = Command::new(program("iguana"));
    command.arg("build").args(kernel_options(kernel)).arg("--output").arg(output);
    command
}

/// Options of `iguana build` and `iguana try` for `kernel` and the lab.
pub fn options(kernel: &Kernel) -> Result<Vec<OsString>> {
    let mut options = kernel_options(kernel).to_vec();
    options.extend(Trust::lab()?.arguments());
    Ok(options)
}

/// Options of `iguana build` with the trust of the lab's initrds.
pub fn lab_trust() -> Result<Vec<OsString>> {
    Ok(Trust::lab()?.arguments())
}

fn kernel_options(kernel: &Kernel) -> [OsString; 4] {
    ["--kernel".into(), kernel.image.clone().into(), "--modules".into(), kernel.modules.clone().into()]
}

/// The trust of an initrd.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) authority: Authority,
    pub(crate) registries: Option<PathBuf>,
}

impl Trust {
    pub(crate) fn lab() -> Result<Trust> {
        let registries = lab_directory("initrd")?.join("registries.conf");
        let insecure = INSECURE_PORTS
            .map(|port| format!("[[registry]]\nlocation = \"{HOST}:{port}\"\ninsecure = true\n\n"));
        let elsewhere = REPLACED_REGISTRIES.iter().map(|(name, directory)| {
            let location = format!("{HOST}:{REPLACEMENT_PORT}/{directory}");
            format!("[[registry]]\nprefix = \"{name}\"\nlocation = \"{location}\"\ninsecure = true\n\n")
        });
        let text: String = insecure.chain(elsewhere).collect();
        if fs::read_to_string(&registries).ok().as_deref() != Some(text.as_str()) {
            fs::write(&registries, text)?;
        }
        Ok(Trust { authority: Authority::named("lab")?, registries: Some(registries) })
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["--ca".into(), self.authority.certificate().into()];
        if let Some(file) = &self.registries {
            arguments.extend(["--registries".into(), file.into()]);
        }
        arguments
    }
}

/// The iguana.conf of the strict initrd: it accepts the workflow `install` by its signature, and `one` as a signed
/// artifact.
fn strict_rules() -> String {
    let artifacts = INSECURE_PORTS.map(|port| format!("'oci://{HOST}:{port}/flows/one'")).collect::<Vec<_>>();
    format!(
        "[workflow]\nkeys = ['keys/workflow.pub']\n[[workflow.accept]]\nname = 'install'\n\
         [[workflow.accept]]\nname = 'one'\nfrom = [{}]\n[command-line]\nshell = false\n\
         allow = ['rd.iguana.control_url', 'rd.iguana.on_failure=poweroff', 'rd.iguana.on_failure=shell']\n",
        artifacts.join(", ")
    )
}

/// A hash of everything that the initrd is made of.
fn key(kernel: &Kernel, arguments: &[OsString]) -> Result<u64> {
    let mut key = DefaultHasher::new();
    (&kernel.release, arguments).hash(&mut key);
    for name in ["iguana", "iguana-init"] {
        let Ok(bytes) = fs::read(program(name)) else {
            bail!("`{}` is not there\n  hint: `cargo xtask dist` makes it", program(name).display());
        };
        bytes.hash(&mut key);
    }
    for file in arguments.iter().map(Path::new).filter(|argument| argument.is_file()) {
        fs::read(file)?.hash(&mut key);
    }
    Ok(key.finish())
}

fn remove_older(home: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(".img") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
