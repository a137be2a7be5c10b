//! A boot, described in a few lines: its workflow, its disks, its machine.

use crate::disk::Disk;
use crate::image::{Image, Maker, Recipe};
use crate::initrd::Initrd;
use crate::kernel::Flavour;
use crate::lab_directory;
use crate::monitor::Monitor;
use crate::registry::Registry;
use crate::web_server::WebServer;
use anyhow::Result;
use iguana_vm::{Console, Echo, Line, Machine, Network, Qemu};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Time limit for anything that is expected. Boots take seconds, but two machines may share one slow core.
pub const LIMIT: Duration = Duration::from_secs(240);

/// The console is the serial line. Informational messages of the kernel are off, because they would break other lines
/// in two. A kernel panic ends the machine at once. A busy host may delay the timer by more than the kernel's own test of
/// it tolerates, which would be a panic.
const APPEND: &str = "console=ttyS0 loglevel=5 panic=-1 no_timer_check";

/// Placeholder in a workflow for the address of the scenario's registry.
const REGISTRY: &str = "REGISTRY";

/// A boot to be started.
#[derive(Debug)]
pub struct Scenario {
    machine: Machine,
    append: Vec<String>,
    workflow: Option<String>,
    /// Files served beside the workflow: extension and content.
    beside: Vec<(String, Vec<u8>)>,
    registry: Option<Registry>,
    monitor: Option<Monitor>,
    /// Whether keys are pressed on a keyboard, and not typed on the serial line.
    has_screen: bool,
    /// Time limit for anything that is expected.
    limit: Duration,
}

impl Scenario {
    /// The cloud kernel with the standard initrd in 512 MiB, a network interface, no disk.
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
        Scenario { machine, append: vec![APPEND.to_owned()], ..Scenario::empty() }
    }

    fn empty() -> Scenario {
        Scenario {
            machine: Machine::from_disks(Vec::new()),
            append: Vec::new(),
            workflow: None,
            beside: Vec::new(),
            registry: None,
            monitor: None,
            has_screen: false,
            limit: LIMIT,
        }
    }

    /// Sets another time limit than [`LIMIT`] for anything that is expected.
    pub fn limit(mut self, limit: Duration) -> Scenario {
        self.limit = limit;
        self
    }

    /// A machine whose firmware starts the system on a disk, without an initrd of ours.
    pub fn from_disk(disk: &Disk) -> Scenario {
        let machine = Machine::from_disks(vec![iguana_vm::Disk::raw(disk.image()).throw_away()]);
        Scenario { machine, ..Scenario::empty() }
    }

    /// Uses this registry instead of the scenario's own.
    pub fn registry(mut self, registry: Registry) -> Scenario {
        self.registry = Some(registry);
        self
    }

    /// Adds an image to the registry.
    pub fn image(self, name: &str, recipe: Recipe) -> Result<Scenario> {
        self.made_image(name, &recipe.make(Maker::Spec)?)
    }

    /// Adds a finished image to the registry.
    pub fn made_image(mut self, name: &str, image: &Image) -> Result<Scenario> {
        let registry = self.registry.take().map_or_else(Registry::plain, Ok)?;
        registry.push_all(image, name)?;
        self.registry = Some(registry);
        Ok(self)
    }

    /// Sets the workflow, which is served to the machine by HTTP; `REGISTRY` in it is replaced by the registry's
    /// address.
    pub fn workflow(mut self, text: impl Into<String>) -> Scenario {
        self.workflow = Some(text.into());
        self
    }

    /// Serves a file beside the workflow, with the workflow's name and `ending`.
    pub fn beside_workflow(mut self, ending: &str, content: impl Into<Vec<u8>>) -> Scenario {
        self.beside.push((ending.to_owned(), content.into()));
        self
    }

    /// Sets a workflow with one job, named `job`, that runs the image `job` made from `recipe`.
    pub fn job(self, recipe: Recipe) -> Result<Scenario> {
        Ok(self.image("job", recipe)?.workflow("jobs: {job: {container: {image: REGISTRY/job}}}"))
    }

    /// Adds options to the kernel's command line.
    pub fn append(mut self, text: impl Into<String>) -> Scenario {
        self.append.push(text.into());
        self
    }

    /// Sets the memory in MiB.
    pub fn memory(mut self, mib: u32) -> Scenario {
        self.machine.memory_mib = mib;
        self
    }

    /// Adds a virtio disk.
    pub fn disk(mut self, disk: &Disk) -> Scenario {
        self.machine.disks.push(iguana_vm::Disk::raw(disk.image()).throw_away());
        self
    }

    /// Adds a screen, which becomes the main console, and a keyboard, whose keys [`Boot::types`] presses. The serial
    /// line still shows messages, but containers have the screen.
    pub fn screen(self) -> Result<Scenario> {
        let monitor = Monitor::new()?;
        let scenario = self.append("console=tty0").extra(["-device", "VGA", "-qmp", &monitor.argument()]);
        Ok(Scenario { monitor: Some(monitor), has_screen: true, ..scenario })
    }

    /// Gives the machine a network interface named `nic` that can be disconnected and unplugged ([`Boot::monitor`]).
    pub fn monitored(self) -> Result<Scenario> {
        let monitor = Monitor::new()?;
        let scenario =
            self.network_interface("virtio-net-pci,id=nic,romfile=").extra(["-qmp", &monitor.argument()]);
        Ok(Scenario { monitor: Some(monitor), has_screen: false, ..scenario })
    }

    /// Removes the network interface.
    pub fn no_network(mut self) -> Scenario {
        self.machine.network = Network::Absent;
        self
    }

    /// Uses another model of network interface than virtio, in the same network.
    pub fn network_interface(mut self, model: &str) -> Scenario {
        self.machine.network = Network::Absent;
        self.extra(["-netdev", "user,id=net1", "-device", &format!("{model},netdev=net1")])
    }

    /// Removes all sources of random numbers: the device and the processor's instruction.
    pub fn no_random_source(mut self) -> Scenario {
        self.machine.has_random_source = false;
        self.extra(["-cpu", "qemu64"])
    }

    /// Adds arguments of QEMU.
    pub fn extra<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Scenario {
        self.machine.extra.extend(arguments.into_iter().map(OsString::from));
        self
    }

    /// Starts the machine.
    pub fn boot(mut self) -> Result<Boot> {
        let address = self.registry.as_ref().map(Registry::address).unwrap_or_default();
        let web_server = WebServer::plain()?;
        if let Some(workflow) = &self.workflow {
            for (ending, content) in &self.beside {
                web_server.serve(&format!("/workflow.yaml{ending}"), content.clone());
            }
            let url = web_server.serve("/workflow.yaml", workflow.replace(REGISTRY, &address));
            self.append.push(format!("rd.iguana.control_url={url}"));
        }
        self.machine.append = self.append.join(" ").replace(REGISTRY, &address);
        let console = Qemu::find()?.start(&self.machine, &log_of_this_test()?, Echo::Silent)?;
        let (has_screen, limit) = (self.has_screen, self.limit);
        Ok(Boot {
            console,
            monitor: self.monitor,
            has_screen,
            limit,
            _site: web_server,
            _registry: self.registry,
        })
    }
}

/// `target/lab/logs/NAME-OF-THE-TEST.log`: the test harness names the threads after the tests.
fn log_of_this_test() -> Result<PathBuf> {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("boot").replace("::", "-");
    Ok(lab_directory("logs")?.join(name).with_extension("log"))
}

/// A booting machine, which ends when the value is dropped.
pub struct Boot {
    console: Console,
    monitor: Option<Monitor>,
    has_screen: bool,
    limit: Duration,
    _site: WebServer,
    _registry: Option<Registry>,
}

impl Boot {
    /// Waits until the console prints `text` after the last match.
    pub fn expect(&mut self, text: &str) -> Result<Line> {
        self.console.expect(text, self.limit)
    }

    /// Waits for each of `texts`, in this order.
    pub fn expect_all(&mut self, texts: &[&str]) -> Result<()> {
        texts.iter().try_for_each(|text| self.expect(text).map(drop))
    }

    /// Waits for a complete error block that names `stage`, and for the reaction to it; returns the block.
    pub fn fails_in(&mut self, stage: &str) -> Result<String> {
        let stage = format!("iguana:   stage: {stage}");
        self.expect_all(&[
            "iguana: error: ",
            &stage,
            "iguana:   hint: ",
            "iguana:   log: ",
            "iguana: on failure: ",
        ])?;
        let said = self.said();
        let block = said.lines().skip_while(|line| !line.contains("iguana: error: "));
        let block = block.take_while(|line| !line.contains("iguana: on failure: "));
        Ok(block.collect::<Vec<_>>().join("\n"))
    }

    /// The monitor of a machine that has one.
    pub fn monitor(&self) -> Option<&Monitor> {
        self.monitor.as_ref()
    }

    /// The lines of the console so far, with their times.
    pub fn lines(&self) -> Vec<Line> {
        self.console.lines()
    }

    /// Types `keys` on the main console: control characters are keys with Ctrl.
    pub fn types(&mut self, keys: &str) -> Result<()> {
        match &self.monitor {
            Some(monitor) if self.has_screen => monitor.types(keys),
            _ => self.console.send(keys),
        }
    }

    /// Waits for the machine's end, a power-off or a reset; returns the whole console output.
    pub fn ends(&mut self) -> Result<String> {
        self.console.wait_exit(self.limit)?;
        Ok(self.said())
    }

    /// The console output so far.
    pub fn said(&self) -> String {
        self.console.lines().iter().map(|line| format!("{}\n", line.text)).collect()
    }
}
