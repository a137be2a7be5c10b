//! What a seed makes of a boot: its fault.

use crate::soak::faults::{Fault, OF_REQUESTS, Stage};
use crate::soak::random::Random;
use std::time::Duration;

/// Faults of requests that stay for longer than this are left to the campaign of pulls.
const LONGEST_BOUND: Duration = Duration::from_secs(100);

/// Lines of a boot at which something happens to the machine.
const LINES: &[&str] = &["Iguana", "network: ", "workflow: ", "image ", "job check: "];

/// Sectors of the disk.
const SECTORS: u64 = 16 << 11;

/// The boot of a seed.
pub(super) struct Plan {
    seed: u64,
    pub(super) injected: Injected,
}

/// The fault of a boot.
pub(super) enum Injected {
    Request(Box<Fault>),
    /// Something happens when the console says this.
    Event(&'static str, Event),
    /// The worker gets this signal after some time.
    Signal(&'static str, Duration),
    /// A job fills the memory.
    Memory,
    /// The machine's clock says this date.
    Clock(&'static str),
    Disk(DiskFault),
}

/// What happens to a machine.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// The network interface is unplugged.
    Unplug,
    /// Its link is lost, for ever or for some time.
    LinkLoss(Option<Duration>),
    /// The serial line stops our output.
    Xoff,
}

/// Reads that fail.
#[derive(Clone, Copy)]
pub(super) struct DiskFault {
    /// The sector, or all of them.
    sector: Option<u64>,
    is_once: bool,
}

impl DiskFault {
    /// The configuration of QEMU's blkdebug.
    pub(super) fn text(self) -> String {
        let sector = self.sector.map(|sector| format!("sector = \"{sector}\"\n")).unwrap_or_default();
        let once = if self.is_once { "on" } else { "off" };
        format!("[inject-error]\niotype = \"read\"\nerrno = \"5\"\nonce = \"{once}\"\n{sector}")
    }
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn draw(seed: u64) -> Plan {
        let mut random = Random::from_seed(seed);
        let injected = match random.between(0, 9) {
            0..4 => Injected::Request(Box::new(request(&mut random))),
            4 => Injected::Event(random.pick(LINES), Event::Xoff),
            5 => Injected::Event(random.pick(LINES), link(&mut random)),
            6 => {
                let after = Duration::from_millis(random.between(0, 2000));
                Injected::Signal(random.pick(&["KILL", "STOP", "TERM"]), after)
            }
            7 => Injected::Memory,
            8 => Injected::Clock(random.pick(&["1980-01-02", "2001-02-03", "2037-12-31"])),
            _ => {
                let sector = (!random.one_in(4)).then(|| random.between(0, SECTORS - 1));
                Injected::Disk(DiskFault { sector, is_once: random.one_in(2) })
            }
        };
        Plan { seed, injected }
    }

    /// One line about the plan, for reports.
    pub(super) fn text(&self) -> String {
        format!("seed {}: {}", self.seed, self.injected.name())
    }
}

fn request(random: &mut Random) -> Fault {
    let stages = [Stage::ControlFile, Stage::Manifest, Stage::Configuration, Stage::Layer];
    loop {
        let fault = Fault::among(OF_REQUESTS, &stages, random);
        if !fault.stays || fault.bound < LONGEST_BOUND {
            return fault;
        }
    }
}

fn link(random: &mut Random) -> Event {
    match random.between(0, 3) {
        0 => Event::Unplug,
        1 => Event::LinkLoss(None),
        _ => Event::LinkLoss(Some(Duration::from_millis(random.between(100, 15_000)))),
    }
}

impl Injected {
    pub(super) fn of_requests(&self) -> Option<&Fault> {
        match self {
            Self::Request(fault) => Some(fault),
            _ => None,
        }
    }

    /// What happens, and at which line.
    pub(super) fn event(&self) -> Option<(&'static str, Event)> {
        match self {
            Self::Event(line, event) => Some((line, *event)),
            _ => None,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Request(fault) => format!("{}: {}", fault.stage.word(), fault.name),
            Self::Event(_, Event::Unplug) => "interface: unplugged".into(),
            Self::Event(_, Event::LinkLoss(None)) => "interface: link lost".into(),
            Self::Event(_, Event::LinkLoss(Some(_))) => "interface: link lost for some time".into(),
            Self::Event(_, Event::Xoff) => "console: XOFF".into(),
            Self::Signal(signal, _) => format!("worker: SIG{signal}"),
            Self::Memory => "memory: filled".into(),
            Self::Clock(_) => "clock: wrong".into(),
            Self::Disk(DiskFault { sector: None, .. }) => "disk: reads fail".into(),
            Self::Disk(_) => "disk: a sector fails".into(),
        }
    }

    /// The words of which a failure block must have one; `None` when the boot must end right.
    pub(super) fn causes(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Request(fault) => fault.may_be_fatal().then_some(fault.words),
            Self::Event(_, Event::Unplug | Event::LinkLoss(None)) => Some(&[
                "network interface",
                "carrier",
                "no address",
                "DHCP",
                "no connection within",
                "no data received for",
                "no response within",
                "unreachable",
                "No route to host",
            ]),
            Self::Event(..) | Self::Memory | Self::Clock(_) => None,
            Self::Signal("KILL", _) => Some(&["killed by signal 9"]),
            Self::Signal("STOP", _) => Some(&["stopped by signal 19"]),
            Self::Signal(..) => Some(&["signal 15"]),
            Self::Disk(_) => {
                Some(&["I/O error", "Input/output error", "cannot mount `/dev/vda`", "cannot read"])
            }
        }
    }
}
