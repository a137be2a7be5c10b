//! One boot, described in a few lines: which workflow, which disks, which machine.

use crate::disk::Disk;
use crate::initrd::Initrd;
use crate::kernel::Flavour;
use crate::room;
use crate::site::Site;
use anyhow::Result;
use iguana_vm::{Console, Echo, Line, Machine, Network, Qemu};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything expected may take: boots take seconds, but two machines may share one slow core.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The console is the serial line, and a kernel that panics ends the machine at once.
const APPEND: &str = "console=ttyS0 panic=-1";

/// A boot to be.
#[derive(Debug)]
pub struct Scenario {
    machine: Machine,
    append: Vec<String>,
    workflow: Option<String>,
}

impl Scenario {
    /// The cloud kernel with the standard initrd in 512 MiB, a network card, no disk.
    pub fn new() -> Result<Scenario> {
        Ok(Scenario::with(&Initrd::standard(Flavour::Cloud)?))
    }

    /// The same with the full kernel.
    pub fn hardware() -> Result<Scenario> {
        Ok(Scenario::with(&Initrd::standard(Flavour::Full)?))
    }

    /// The same with another initrd and its kernel.
    pub fn with(initrd: &Initrd) -> Scenario {
        let machine = Machine {
            initrd: Some(initrd.image.clone()),
            memory_mib: 512,
            ..Machine::new(&initrd.kernel.image)
        };
        Scenario { machine, append: vec![APPEND.to_owned()], workflow: None }
    }

    /// The workflow, served by http to the machine.
    pub fn workflow(mut self, text: impl Into<String>) -> Scenario {
        self.workflow = Some(text.into());
        self
    }

    /// More of the kernel's command line.
    pub fn append(mut self, text: impl Into<String>) -> Scenario {
        self.append.push(text.into());
        self
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: u32) -> Scenario {
        self.machine.memory_mib = mib;
        self
    }

    /// One more virtio disk.
    pub fn disk(mut self, disk: &Disk) -> Scenario {
        self.machine.disks.push(iguana_vm::Disk::raw(disk.image()).throw_away());
        self
    }

    /// No network card.
    pub fn no_network(mut self) -> Scenario {
        self.machine.network = Network::Absent;
        self
    }

    /// Another network card than virtio's, in the same network.
    pub fn network_card(mut self, model: &str) -> Scenario {
        self.machine.network = Network::Absent;
        self.extra(["-netdev", "user,id=net1", "-device", &format!("{model},netdev=net1")])
    }

    /// More of QEMU's command line.
    pub fn extra<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Scenario {
        self.machine.extra.extend(arguments.into_iter().map(OsString::from));
        self
    }

    /// Starts the machine.
    pub fn boot(mut self) -> Result<Boot> {
        let site = self.workflow.take().map(serving).transpose()?;
        if let Some(site) = &site {
            self.append.push(format!("rd.iguana.control_url={}", site.url(WORKFLOW)));
        }
        self.machine.append = self.append.join(" ");
        let log = log_of_this_test()?;
        let console = Qemu::find()?.start(&self.machine, &log, Echo::Silent)?;
        Ok(Boot { console, start: Instant::now(), _site: site })
    }
}

const WORKFLOW: &str = "/workflow.yaml";

fn serving(workflow: String) -> Result<Site> {
    let site = Site::plain()?;
    site.serve(WORKFLOW, workflow);
    Ok(site)
}

/// `target/lab/logs/NAME-OF-THE-TEST.log`: the test harness names its threads so.
fn log_of_this_test() -> Result<PathBuf> {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("boot").replace("::", "-");
    Ok(room("logs")?.join(name).with_extension("log"))
}

/// A machine that boots; it ends with the value.
pub struct Boot {
    console: Console,
    start: Instant,
    _site: Option<Site>,
}

impl Boot {
    /// Waits until the console says `text` after what was last expected.
    pub fn expect(&mut self, text: &str) -> Result<Line> {
        self.console.expect(text, LIMIT)
    }

    /// Waits for each of `texts`, in this order.
    pub fn expect_all(&mut self, texts: &[&str]) -> Result<()> {
        texts.iter().try_for_each(|text| self.expect(text).map(drop))
    }

    /// Types `keys` on the console.
    pub fn types(&mut self, keys: &str) -> Result<()> {
        self.console.send(keys)
    }

    /// Waits for the machine's end, a power-off or a reset; all that its console said.
    pub fn ends(&mut self) -> Result<String> {
        self.console.wait_exit(LIMIT)?;
        Ok(self.said())
    }

    /// All that the console has said so far.
    pub fn said(&self) -> String {
        self.console.lines().iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// How long ago the machine was started.
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }
}
