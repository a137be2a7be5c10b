//! Disk layouts, and how a machine starts the system installed on each. A container in a VM makes the layout; the
//! test ends in the new system or in a refusal.

mod rows;

pub use rows::LAYOUTS;

use crate::disk::Disk;
use crate::image::{Maker, Recipe, busybox_root, put};
use crate::initrd::Initrd;
use crate::kernel::{Flavour, Kernel};
use crate::payload::{self, SYSTEM, UNIFIED};
use crate::process::{self, QUICK};
use crate::registry::Registry;
use crate::web_server::WebServer;
use crate::{cached, lab_directory, packages};
use anyhow::{Context, Result};
use iguana_vm::{Console, Echo, Machine, Qemu};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Time limit for each step of a machine: installing a Debian on two busy cores without KVM.
const LIMIT: Duration = Duration::from_secs(400);
/// Memory in MiB: the container with its tools, the packed system, and a page cache.
const MEMORY_MIB: u32 = 1536;
/// UEFI for QEMU, from the package `ovmf`.
const OVMF: &str = "/usr/share/ovmf/OVMF.fd";
/// The job's script; the name of a layout follows it.
const INSTALL: &str = include_str!("install.sh");
/// Size of an empty disk in MiB: room for a Debian and further partitions.
const DISK_MIB: u64 = 2048;

/// A disk layout, the machine, and the expected result.
#[derive(Debug)]
pub struct Layout {
    /// Its name in the table.
    pub name: &'static str,
    /// The function of `install.sh` that makes it.
    pub script: &'static str,
    /// Number of empty disks.
    pub disks: usize,
    /// The system to install.
    pub system: System,
    /// The kernel of Iguana's initrd. All installed systems that have a kernel have the cloud one.
    pub kernel: Flavour,
    /// The machine's firmware.
    pub firmware: Firmware,
    /// Additional options of Iguana's command line.
    pub append: &'static str,
    /// Additional arguments of QEMU.
    pub extra: &'static [&'static str],
    /// The expected steps, in order.
    pub steps: &'static [Step],
}

/// The system to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Debian with systemd and tools for all kinds of disks.
    Systemd,
    /// Debian with OpenRC, without a kernel.
    OpenRc,
    /// Debian with sysvinit, without a kernel.
    SysVinit,
    /// Nothing but busybox.
    Busybox,
}

/// The firmware that starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS: QEMU's own SeaBIOS.
    SeaBios,
    /// UEFI.
    Ovmf,
}

/// An expected step.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// This text on the console.
    Says(&'static str),
    /// This input is typed.
    Types(&'static str),
    /// The new system's login prompt; then each of these facts, which are printed by
    /// `tests/src/disks/layout/facts.sh`.
    Login(&'static [&'static str]),
    /// An error block with these texts, then the end of the machine.
    Refusal(&'static [&'static str]),
    /// The machine restarts, and its firmware boots from the disk.
    FirmwareStarts,
    /// The machine ends, and Iguana is started again to make this layout as well.
    InstallsAgain(&'static str),
    /// The machine ends, and Iguana is started again with these options on its command line.
    BootsWith(&'static str),
}

/// The result of a layout.
#[derive(Debug)]
pub struct Outcome {
    /// Iguana's messages about the handover.
    pub way: Vec<String>,
    /// The end: the login prompt with the facts, or the refusal.
    pub end: String,
    /// Seconds from the machine's start to its end.
    pub seconds: f64,
}

/// Everything that is needed to test layouts.
pub struct Lab {
    qemu: Qemu,
    _registry: Registry,
    web_server: WebServer,
    initrds: [Initrd; 2],
    images: BTreeMap<System, String>,
}

impl Lab {
    /// Makes, or takes from the cache, the initrds and systems that `layouts` need.
    pub fn prepare(layouts: &[&Layout]) -> Result<Lab> {
        packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN, &["ovmf"]].concat())?;
        let (registry, web_server) = (Registry::plain()?, WebServer::plain()?);
        let initrds = [Initrd::standard(Flavour::Cloud)?, Initrd::standard(Flavour::Full)?];
        let systems: BTreeSet<System> = layouts.iter().map(|layout| layout.system).collect();
        let push = |system: System| -> Result<(System, String)> {
            let name = format!("{system:?}").to_lowercase();
            Ok((system, registry.push(&installer(system)?.make(Maker::Spec)?, &name)?))
        };
        let images = systems.into_iter().map(push).collect::<Result<_>>()?;
        Ok(Lab { qemu: Qemu::find()?, _registry: registry, web_server, initrds, images })
    }

    /// Makes the layout in a machine and checks the result.
    pub fn try_out(&self, layout: &Layout) -> Result<Outcome> {
        let disks = (0..layout.disks).map(|_| Disk::empty(DISK_MIB)).collect::<Result<Vec<_>>>()?;
        let mut run = Run { lab: self, layout, disks, boots: 0, way: Vec::new(), end: String::new() };
        let start = Instant::now();
        let mut console = run.install(layout.script)?;
        for step in layout.steps {
            run.take(*step, &mut console).with_context(|| format!("layout `{}`", layout.name))?;
        }
        run.remember_way(&console);
        Ok(Outcome { way: run.way, end: run.end, seconds: start.elapsed().as_secs_f64() })
    }
}

/// The test of one layout.
struct Run<'a> {
    lab: &'a Lab,
    layout: &'a Layout,
    disks: Vec<Disk>,
    boots: usize,
    way: Vec<String>,
    end: String,
}

impl Run<'_> {
    fn take(&mut self, step: Step, console: &mut Console) -> Result<()> {
        match step {
            Step::Says(text) => console.expect(text, LIMIT).map(drop),
            Step::Types(keys) => console.send(keys),
            Step::Login(facts) => self.log_in(facts, console),
            Step::Refusal(words) => self.refusal(words, console),
            Step::FirmwareStarts => {
                console.wait_exit(LIMIT)?;
                self.remember_way(console);
                self.way.push("the firmware starts the disk".into());
                *console = self.firmware()?;
                Ok(())
            }
            Step::InstallsAgain(script) => {
                console.wait_exit(LIMIT)?;
                *console = self.install(script)?;
                Ok(())
            }
            Step::BootsWith(append) => {
                console.wait_exit(LIMIT)?;
                *console = self.iguana(append)?;
                Ok(())
            }
        }
    }

    fn log_in(&mut self, facts: &[&str], console: &mut Console) -> Result<()> {
        console.expect("login: ", LIMIT)?;
        console.send("root\n")?;
        console.expect("# ", LIMIT)?;
        console.send("/facts\n")?;
        console.expect("facts: end", LIMIT)?;
        let said = console.lines();
        let found =
            said.iter().filter_map(|line| line.text.split_once("facts: ").map(|(_, fact)| fact.trim()));
        let found: Vec<&str> = found.filter(|fact| *fact != "end").collect();
        for fact in facts {
            anyhow::ensure!(
                found.contains(fact),
                "the system does not say `{fact}`, it says: {}",
                found.join("; ")
            );
        }
        self.end = format!("login prompt; {}", found.join("; "));
        Ok(())
    }

    fn refusal(&mut self, words: &[&str], console: &mut Console) -> Result<()> {
        console.expect("iguana: error: ", LIMIT)?;
        console.expect("iguana: on failure: ", LIMIT)?;
        let said = console.lines();
        let block = said.iter().skip_while(|line| !line.text.contains("iguana: error: "));
        let block: Vec<&str> = block.map(|line| after_name(&line.text)).collect();
        let block = block.join(" ");
        for word in words {
            anyhow::ensure!(block.contains(word), "the refusal does not say `{word}`: {block}");
        }
        let end = block.find("log: ").unwrap_or(block.len());
        self.end = format!("refused: {}", block[..end].trim_start_matches("error: ").trim());
        console.wait_exit(LIMIT).map(drop)
    }

    /// Stores Iguana's messages about the handover.
    fn remember_way(&mut self, console: &Console) {
        let said = console.lines();
        let way = said.iter().filter_map(|line| line.text.split_once("iguana: handover: "));
        self.way.extend(way.map(|(_, words)| words.to_owned()));
    }

    fn install(&mut self, script: &str) -> Result<Console> {
        let image = &self.lab.images[&self.layout.system];
        let workflow = format!(
            "jobs: {{install: {{container: {{image: '{image}', command: [/install.sh, {script}]}}}}}}"
        );
        let url = self.lab.web_server.serve(&format!("/{:?}-{script}.yaml", self.layout.system), workflow);
        self.iguana(&format!("rd.iguana.control_url={url}"))
    }

    fn iguana(&mut self, append: &str) -> Result<Console> {
        let initrd = &self.lab.initrds[usize::from(self.layout.kernel == Flavour::Full)];
        let append =
            format!("console=ttyS0 panic=-1 rd.iguana.on_failure=poweroff {append} {}", self.layout.append);
        let machine = Machine {
            initrd: Some(initrd.image.clone()),
            append,
            ..self.machine(Some(&initrd.kernel.image))
        };
        self.start(&machine)
    }

    fn firmware(&mut self) -> Result<Console> {
        self.start(&self.machine(None))
    }

    fn machine(&self, kernel: Option<&Path>) -> Machine {
        let disks = self.disks.iter().map(|disk| iguana_vm::Disk::raw(disk.image()).throw_away()).collect();
        let mut machine = Machine::from_disks(disks);
        machine.kernel = kernel.map(Into::into);
        machine.memory_mib = MEMORY_MIB;
        if self.layout.firmware == Firmware::Ovmf {
            machine.extra.extend(["-bios", OVMF].map(Into::into));
        }
        machine.extra.extend(self.layout.extra.iter().map(Into::into));
        machine
    }

    fn start(&mut self, machine: &Machine) -> Result<Console> {
        self.boots += 1;
        let name: String =
            self.layout.name.chars().map(|it| if it.is_alphanumeric() { it } else { '-' }).collect();
        let log = lab_directory("logs")?.join(format!("layout-{name}-{}.log", self.boots));
        self.lab.qemu.start(machine, &log, Echo::Silent)
    }
}

fn after_name(line: &str) -> &str {
    line.split_once("iguana: ").map_or(line, |(_, words)| words).trim()
}

/// The container that makes the layouts, with the system to install.
fn installer(system: System) -> Result<Recipe> {
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let recipe = Recipe::empty()?.tar(&payload::disk_tools()?).file("/install.sh", 0o755, INSTALL)?;
    let packed = match system {
        System::Systemd => {
            let home = payload::system_for_any_disk(&kernel)?;
            return recipe
                .copy(&home.join(SYSTEM), "/system.tar.zst")?
                .copy(&home.join(UNIFIED), "/debian.efi");
        }
        System::OpenRc => payload::other_init("openrc")?,
        System::SysVinit => payload::other_init("sysvinit-core")?,
        System::Busybox => busybox_system()?,
    };
    recipe.copy(&packed, "/system.tar.zst")
}

/// A system that consists of busybox: its init, getty and login.
fn busybox_system() -> Result<PathBuf> {
    let home = cached("debian", "busybox-1", |home| {
        let root = tempfile::tempdir()?;
        busybox_root(root.path())?;
        std::os::unix::fs::symlink("../bin/busybox", root.path().join("sbin/init"))?;
        put(root.path(), "/etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n")?;
        put(root.path(), "/etc/machine-id", 0o444, b"")?;
        put(root.path(), "/etc/hostname", 0o644, b"lab\n")?;
        let inittab =
            "::sysinit:/bin/mount -o remount,rw /\nttyS0::respawn:/bin/getty -L 115200 ttyS0 vt100\n";
        put(root.path(), "/etc/inittab", 0o644, inittab.as_bytes())?;
        put(root.path(), "/var/log/.keep", 0o644, b"")?;
        put(root.path(), "/facts", 0o755, payload::FACTS.as_bytes())?;
        let mut tar = Command::new("tar");
        tar.args(["--zstd", "--numeric-owner", "-C"]).arg(root.path()).arg("-cf");
        process::run(tar.arg(home.join("system.tar.zst")).arg("."), QUICK).map(drop)
    })?;
    Ok(home.join("system.tar.zst"))
}
