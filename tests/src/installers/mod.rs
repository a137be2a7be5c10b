//! Real installers, unmodified, each from an empty disk to the login prompt of the system that it has installed. What
//! they are is in `examples/installers`: a Containerfile, the installer's own configuration, and a script around it.

mod containerfile;
mod page;
mod payloads;
mod rows;
mod salt;

pub use page::{Row, glue, table, write};
pub use rows::INSTALLERS;

use crate::disk::Disk;
use crate::firmware;
use crate::image::{Maker, Recipe};
use crate::initrd::Initrd;
use crate::kernel::Flavour;
use crate::layout::Firmware;
use crate::packages;
use crate::registry::Registry;
use crate::scenario::{Boot, Scenario};
use crate::server::Server;
use crate::source_tree;
use crate::web_server::WebServer;
use anyhow::{Context, Result};
use containerfile::Containerfile;
use payloads::Payload;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The registry in the examples, which is replaced by the scenario's.
const EXAMPLE_REGISTRY: &str = "registry.example.com";
/// The web server in the examples, which is replaced by one of the host.
const EXAMPLE_SERVER: &str = "https://images.example.com";
/// The Salt master in the examples, which is replaced by one on the host.
const EXAMPLE_MASTER: &str = "salt.example.com";
/// Size of the empty disk in MiB.
const DISK_MIB: u64 = 1024;
/// Memory in MiB: the container with its tools, the packed system, and a page cache.
const MEMORY_MIB: u32 = 1536;
/// Time limit for each step of a machine, as for the disk layouts: whole systems boot on two busy cores without KVM.
const LIMIT: Duration = Duration::from_secs(600);
/// The most lines that a script around an installer may have.
pub const MOST_GLUE: usize = 30;

/// An installer of another maker, and how it is tried.
#[derive(Debug)]
pub struct Installer {
    /// What the table calls it.
    pub name: &'static str,
    /// Its directory below `examples`.
    pub example: &'static str,
    /// Who makes it.
    pub maker: &'static str,
    /// Where its version is found.
    pub version: Version,
    /// The firmware of the machine.
    pub firmware: Firmware,
    /// The files that are beside the Containerfile.
    pub beside: &'static [(&'static str, Payload)],
    /// The files that the web server has.
    pub served: &'static [(&'static str, Payload)],
    /// Whether a Salt master runs on the host.
    pub has_master: bool,
    /// What the console must show before the login prompt, in this order.
    pub says: &'static [&'static str],
    /// The name of the new system, which is in its login prompt.
    pub hostname: &'static str,
    /// How the installed system is started in the end.
    pub start: Start,
}

/// Where the version of an installer is found.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    /// That of this Debian package in the container.
    Package(&'static str),
    /// This one, which the Containerfile names.
    Pinned(&'static str),
}

/// How the installed system is started in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Iguana hands the machine over.
    Handover,
    /// Iguana hands the machine over; then the firmware starts the disk by itself.
    HandoverAndFirmware,
    /// The machine restarts, and the firmware starts the disk.
    Firmware,
}

/// What became of an installer.
#[derive(Debug)]
pub struct Outcome {
    /// Its version.
    pub version: String,
    /// Seconds from the machine's start to the last login prompt.
    pub seconds: f64,
    /// How the new system was started, and what root found there.
    pub result: String,
}

impl Installer {
    /// The script around the installer.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn glue(&self) -> Result<String> {
        self.file("install.sh")
    }

    /// `9 lines`, or a link for an example of ours.
    fn size_of_glue(&self) -> String {
        let lines = self.glue().map_or(0, |glue| glue.lines().count());
        match self.is_of_another_maker() {
            true => format!("{lines} lines"),
            false => format!(
                "[the example](https://github.com/iguana-initrd/iguana/tree/main/examples/{})",
                self.example
            ),
        }
    }

    /// Whether it is more than an example of ours, whose script is the installer.
    pub fn is_of_another_maker(&self) -> bool {
        self.example.starts_with("installers/")
    }

    fn directory(&self) -> PathBuf {
        source_tree().join("examples").join(self.example)
    }

    fn file(&self, name: &str) -> Result<String> {
        let path = self.directory().join(name);
        fs::read_to_string(&path).with_context(|| format!("`{}`", path.display()))
    }

    /// Runs it in a machine with an empty disk, up to the login prompt of the new system.
    ///
    /// # Errors
    /// When the system is not installed or does not start.
    pub fn try_out(&self) -> Result<Outcome> {
        packages::ensure(&[packages::SCENARIOS, packages::DEBIAN, &["ovmf"]].concat())?;
        let containerfile = Containerfile::parse(&self.file("Containerfile")?)?;
        let (recipe, versions) = containerfile.recipe(&self.directory(), self.beside)?;
        let version = match self.version {
            Version::Package(name) => versions.of(name)?,
            Version::Pinned(version) => version.to_owned(),
        };
        let (disk, machine) = (Disk::empty(DISK_MIB)?, PlainOrUefi::new(self.firmware)?);
        let web_server = WebServer::plain()?;
        let master = if self.has_master { Some(salt::master()?) } else { None };
        let mut boot = self.machine(recipe, &disk, &machine, &web_server, master.as_ref())?;
        let start = Instant::now();
        boot.expect_all(self.says)?;
        let (mut started, mut facts) = (vec!["switch root"], String::new());
        if self.start != Start::Firmware {
            boot.expect("handover: switch root")?;
            facts = self.log_in(&mut boot)?;
        }
        if self.start != Start::Handover {
            if self.start == Start::HandoverAndFirmware {
                boot.types("systemctl poweroff\n")?;
            } else {
                started.clear();
            }
            boot.ends()?;
            started.push("started by the firmware");
            boot = machine.fits(Scenario::from_disk(&disk).memory(MEMORY_MIB).limit(LIMIT)).boot()?;
            facts = self.log_in(&mut boot)?;
        }
        let result = format!("login prompt ({}): {facts}", started.join(", then "));
        Ok(Outcome { version, seconds: start.elapsed().as_secs_f64(), result })
    }

    fn machine(
        &self,
        recipe: Recipe,
        disk: &Disk,
        machine: &PlainOrUefi,
        web_server: &WebServer,
        master: Option<&Server>,
    ) -> Result<Boot> {
        let mut workflow = self.file("workflow.yaml")?;
        if let Some(master) = master {
            workflow = workflow.replace(EXAMPLE_MASTER, &master.address());
        }
        for (name, payload) in self.served {
            let url = web_server.serve(&format!("/{name}"), fs::read(payload.file()?)?);
            workflow = workflow.replace(&format!("{EXAMPLE_SERVER}/{name}"), &url);
        }
        let image = workflow.split(EXAMPLE_REGISTRY).nth(1).context("the workflow names no image")?;
        let image = image.trim_start_matches('/').lines().next().unwrap_or_default().to_owned();
        let registry = Registry::plain()?;
        registry.push(&recipe.make(Maker::Spec)?, &image)?;
        let scenario = Scenario::with(&Initrd::standard(Flavour::Cloud)?)
            .registry(registry)
            .memory(MEMORY_MIB)
            .limit(LIMIT)
            .disk(disk)
            .workflow(workflow.replace(EXAMPLE_REGISTRY, "REGISTRY"))
            .append("rd.iguana.on_failure=poweroff");
        machine.fits(scenario).boot()
    }

    /// Logs in as root, and returns what the new system is.
    fn log_in(&self, boot: &mut Boot) -> Result<String> {
        boot.expect(&format!("{} login: ", self.hostname))?;
        boot.types("root\n")?;
        boot.expect("# ")?;
        boot.types(LOOK)?;
        boot.expect("facts: end")?;
        let said = boot.said();
        let found = said.lines().rev().find_map(|line| line.split_once("facts: init "));
        let found = found.with_context(|| format!("the new system tells nothing of itself:\n{said}"))?.1;
        Ok(found.trim().to_owned())
    }
}

/// The container of an example that needs no files beside its own.
///
/// # Errors
/// When it cannot be made.
pub fn container(example: &str) -> Result<Recipe> {
    let directory = source_tree().join("examples").join(example);
    let text = fs::read_to_string(directory.join("Containerfile")).with_context(|| format!("`{example}`"))?;
    Ok(Containerfile::parse(&text)?.recipe(&directory, &[])?.0)
}

/// What root types: it shows the init and the root of the new system. The typed line itself does not look like a result.
const LOOK: &str = "f=facts; echo \"$f: init $(cat /proc/1/comm), kernel $(uname -r), $(findmnt -no FSTYPE /) on \
    $(findmnt -no SOURCE /)\"; echo \"$f: end\"\n";

/// A machine with a BIOS, or with UEFI and variables that last from boot to boot.
enum PlainOrUefi {
    Plain,
    Uefi(firmware::Firmware),
}

impl PlainOrUefi {
    fn new(firmware: Firmware) -> Result<Self> {
        Ok(match firmware {
            Firmware::SeaBios => Self::Plain,
            Firmware::Ovmf => Self::Uefi(firmware::Firmware::lenient()?),
        })
    }

    fn fits(&self, scenario: Scenario) -> Scenario {
        match self {
            Self::Plain => scenario,
            Self::Uefi(firmware) => scenario.extra(firmware.arguments().iter().map(String::as_str)),
        }
    }
}
