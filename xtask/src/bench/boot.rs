//! Time from the kernel's start to the first process of a container: Iguana and the peer, or an earlier Iguana, in the
//! same VM.

use super::figures::Figures;
use super::marker::{self, Size};
use super::peer;
use super::result;
use crate::dist;
use anyhow::{Context, Result, bail};
use iguana_lab::initrd::Initrd;
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::{lab_directory, packages, program};
use iguana_vm::{Echo, Machine, Qemu};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Memory of the VM when times are measured: enough for both, also with the large image.
const AMPLE_MIB: u32 = 4096;

/// Memory sizes to try with the tiny image, in MiB, up to the first that works.
const OURS_MIB: &[u32] = &[96, 112, 128, 160, 192, 256];
const PEER_MIB: &[u32] = &[512, 640, 768, 1024];

/// Time limit of one boot; the peer with the large image takes two minutes on two cores without KVM.
const LIMIT: Duration = Duration::from_secs(420);

/// Prefix of the line that the container's first process prints; the seconds since the kernel's start follow.
const MARK: &str = "@@MARK container ";

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boots of each kind.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Images to boot with.
    #[arg(long, value_delimiter = ',', default_value = "tiny,large")]
    images: Vec<String>,
    /// Leave out the search for the smallest memory.
    #[arg(long)]
    no_floor: bool,
    /// An earlier `iguana-init` to compare with, instead of the peer; only times are measured.
    #[arg(long, value_name = "FILE")]
    earlier: Option<PathBuf>,
}

/// Measures, prints the tables, and writes them to `bench/results`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN].concat())?;
    dist::run()?;
    let bench = Bench::prepare(options.earlier.as_deref())?;
    let mut report = bench.header(options)?;
    if options.earlier.is_none() {
        report += &bench.sizes()?;
    }
    for name in &options.images {
        report += &bench.times(size_named(name)?, name, options.runs)?;
    }
    if !options.no_floor && options.earlier.is_none() {
        report += &bench.floors()?;
    }
    result::keep(if options.earlier.is_some() { "boot-earlier" } else { "boot" }, &report)
}

/// The initrd that boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Ours,
    /// Iguana's initrd with another program.
    Earlier,
    Peer,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Earlier => "earlier",
            Self::Peer => "peer",
        }
    }
}

/// The inputs of all measurements.
struct Bench {
    qemu: Qemu,
    registry: Registry,
    ours: Initrd,
    /// What ours is compared with, and its initrd.
    other: Who,
    peer: Initrd,
}

/// The measurements of one boot.
struct Sample {
    /// Seconds from the kernel's start to the first process of the container, on the guest's clock.
    container: f64,
    /// Processor seconds that QEMU had used at that time.
    cpu: f64,
    /// Peak memory usage in MiB.
    peak: f64,
}

impl Bench {
    fn prepare(earlier: Option<&Path>) -> Result<Bench> {
        let ours = Initrd::bare(Flavour::Cloud)?;
        let (other, peer) = match earlier {
            None => (Who::Peer, peer::initrd(&ours.kernel)?),
            Some(init) => {
                let init =
                    init.canonicalize().with_context(|| format!("cannot find `{}`", init.display()))?;
                (Who::Earlier, Initrd::bare_with(&init, Flavour::Cloud)?)
            }
        };
        Ok(Bench { qemu: Qemu::find()?, registry: Registry::plain()?, ours, other, peer })
    }

    fn header(&self, options: &Options) -> Result<String> {
        let version = process::run(Command::new(&self.qemu.program).arg("--version"), QUICK)?;
        let (what, about) = match &options.earlier {
            None => (
                "its peer",
                "The peer is Debian's dracut initrd with NetworkManager, podman and crun, and the hook in `bench/peer`."
                    .to_owned(),
            ),
            Some(init) => {
                let (now, then) = (program("iguana-init").metadata()?.len(), init.metadata()?.len());
                let sizes = format!("`iguana-init` has {now} bytes, the earlier one {then}.");
                ("an earlier one", format!("Both initrds differ in `iguana-init` only. {sizes}"))
            }
        };
        Ok(format!(
            "# Boot: Iguana and {what}\n\n\
             `{}`, {}. Medians `[least-most]` of {} boots each, in turn, in a VM of \
             {AMPLE_MIB} MiB and 2 processors.\n\n\
             Host: {}, {} processors; {}, accelerator {:?}. Kernel {}.\n\n\
             {about}\n\n",
            result::command_line(),
            result::today()?,
            options.runs,
            result::processor()?,
            std::thread::available_parallelism()?,
            version.lines().next().unwrap_or_default(),
            self.qemu.accelerator,
            self.ours.kernel.release,
        ))
    }

    fn sizes(&self) -> Result<String> {
        let full = Initrd::bare(Flavour::Full)?;
        let full_peer = peer::initrd(&Kernel::debian(Flavour::Full)?)?;
        let mut table = String::from("| MB | ours | peer | ratio |\n| --- | --- | --- | --- |\n");
        writeln!(table, "| `iguana-init` | {:.2} | | |", megabytes(&program("iguana-init"))?)?;
        let pairs = [("cloud", &self.ours, &self.peer), ("hardware", &full, &full_peer)];
        for (name, ours, peer) in pairs {
            let (ours, peer) = (megabytes(&ours.image)?, megabytes(&peer.image)?);
            writeln!(table, "| initrd for the {name} kernel | {ours:.2} | {peer:.2} | {:.1} |", peer / ours)?;
        }
        Ok(table + "\n")
    }

    fn times(&self, size: Size, name: &str, runs: usize) -> Result<String> {
        let reference = self.registry.push(&marker::image(size)?, name)?;
        let mut ours = Collected::default();
        let mut peer = Collected::default();
        for run in 1..=runs {
            ours.add(&self.boot(Who::Ours, &reference, AMPLE_MIB)?);
            peer.add(&self.boot(self.other, &reference, AMPLE_MIB)?);
            let other = self.other.name();
            eprintln!("{name} {run}/{runs}: ours {}, {other} {} s", ours.container, peer.container);
        }
        let mut table =
            format!("| {name} image | ours | {} | ratio |\n| --- | --- | --- | --- |\n", self.other.name());
        let rows = [
            ("kernel start to the container's first process, s", &ours.container, &peer.container),
            ("host processor seconds to that moment", &ours.cpu, &peer.cpu),
            ("peak memory in use, MiB", &ours.peak, &peer.peak),
        ];
        for (what, ours, peer) in rows {
            writeln!(table, "| {what} | {ours} | {peer} | {:.2} |", ours.ratio_of(peer))?;
        }
        Ok(table + "\n")
    }

    fn floors(&self) -> Result<String> {
        let reference = self.registry.push(&marker::image(Size::Tiny)?, "tiny")?;
        let mut table =
            String::from("| smallest memory with the tiny image | works | fails |\n| --- | --- | --- |\n");
        for (who, sizes) in [(Who::Ours, OURS_MIB), (Who::Peer, PEER_MIB)] {
            let floor = sizes.iter().position(|mib| self.boot(who, &reference, *mib).is_ok());
            let works = floor.map_or("none tried".into(), |index| format!("{} MiB", sizes[index]));
            let fails = match floor.unwrap_or(sizes.len()) {
                0 => "none tried".into(),
                index => format!("{} MiB", sizes[index - 1]),
            };
            writeln!(table, "| {} | {works} | {fails} |", who.name())?;
        }
        Ok(table)
    }

    fn boot(&self, who: Who, reference: &str, memory_mib: u32) -> Result<Sample> {
        let of_iguana = || format!("rd.iguana.on_failure=poweroff rd.iguana.containers={reference}");
        let (initrd, append) = match who {
            Who::Ours => (&self.ours, of_iguana()),
            Who::Earlier => (&self.peer, of_iguana()),
            Who::Peer => (&self.peer, format!("rd.neednet=1 ip=dhcp rd.shell=0 peer.image={reference}")),
        };
        let machine = Machine {
            initrd: Some(initrd.image.clone()),
            append: format!("console=ttyS0 panic=-1 {append}"),
            memory_mib,
            ..Machine::new(&initrd.kernel.image)
        };
        let log = lab_directory("logs")?.join(format!("bench-{who:?}.log"));
        let mut console = self.qemu.start(&machine, &log, Echo::Silent)?;
        let cpu = console.expect(MARK, LIMIT)?.cpu;
        console.wait_exit(LIMIT)?;
        let said = console.lines();
        let texts = || said.iter().map(|line| line.text.as_str());
        let peak = match who {
            Who::Ours | Who::Earlier => texts().rev().find_map(|text| number_after(text, "memory: peak ")),
            Who::Peer => texts().rev().find_map(|text| number_after(text, "@@PEAK ")).map(|kib| kib / 1024.0),
        };
        Ok(Sample {
            container: texts().find_map(|text| number_after(text, MARK)).context("the mark has no time")?,
            cpu,
            peak: peak.with_context(|| format!("peak memory is not in `{}`", log.display()))?,
        })
    }
}

/// The samples of one kind of boot.
#[derive(Default)]
struct Collected {
    container: Figures,
    cpu: Figures,
    peak: Figures,
}

impl Collected {
    fn add(&mut self, sample: &Sample) {
        self.container.add(sample.container);
        self.cpu.add(sample.cpu);
        self.peak.add(sample.peak);
    }
}

fn size_named(name: &str) -> Result<Size> {
    Ok(match name {
        "tiny" => Size::Tiny,
        "medium" => Size::Medium,
        "large" => Size::Large,
        _ => bail!("there is no image `{name}`\n  hint: tiny, medium or large"),
    })
}

fn number_after(text: &str, words: &str) -> Option<f64> {
    let (_, rest) = text.split_once(words)?;
    rest.split_whitespace().next()?.parse().ok()
}

fn megabytes(file: &Path) -> Result<f64> {
    Ok(file.metadata().with_context(|| format!("`{}`", file.display()))?.len() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_lines() {
        assert_eq!(number_after("[ 1.0] @@MARK container 4.25", MARK), Some(4.25));
        assert_eq!(number_after("iguana: memory: peak 61 MiB of 118 MiB", "memory: peak "), Some(61.0));
        assert_eq!(number_after("memory: peak unknown", "memory: peak "), None);
    }
}
