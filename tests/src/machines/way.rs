//! The boot methods of Iguana, each as a boot from the start of the machine to a container.

use crate::firmware::Firmware;
use crate::image::Image;
use crate::initrd;
use crate::kernel::{Flavour, Kernel};
use crate::process::{self, LONG};
use crate::registry::Registry;
use crate::segment::Segment;
use crate::web_server::WebServer;
use crate::{lab_directory, scratch_directory};
use anyhow::{Context, Result};
use iguana_vm::{Console, Echo, Line, Machine, Network, Qemu};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The console is the serial line, and every failure ends the machine.
const CMDLINE: &str = "console=ttyS0 panic=-1 rd.iguana.on_failure=poweroff";

/// The MAC address of the interface.
const MAC: &str = "52:54:00:12:34:56";

/// The machine's serial number in its firmware tables: a hostile vendor could use characters with a meaning in URLs.
/// The server must receive exactly this text.
const SERIAL: &str = "../a b?c=${uuid}";
const SERIAL_IN_A_URL: &str = "..%2Fa%20b%3Fc%3D%24%7Buuid%7D";

/// Memory in MiB: enough for the firmware, the content of the medium and the initrd.
const MEMORY_MIB: u32 = 1024;

/// Time limit of each step of a boot: firmware is slow without KVM.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A boot method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// QEMU's own loader, without firmware.
    Kernel,
    /// An optical disc, BIOS.
    IsoBios,
    /// An optical disc, UEFI.
    IsoUefi,
    /// The ISO image written to a stick, BIOS.
    IsoStickBios,
    /// The ISO image written to a stick, UEFI.
    IsoStickUefi,
    /// The `usb` image, BIOS.
    UsbBios,
    /// The `usb` image, UEFI.
    UsbUefi,
    /// The unified kernel image on a disk's EFI system partition.
    Uki,
    /// The interface's iPXE loads kernel and initrd by TFTP, BIOS.
    PxeBios,
    /// UEFI's PXE loads the unified kernel image by TFTP.
    PxeUefi,
    /// UEFI loads the unified kernel image by HTTP.
    HttpUefi,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 11] = [
        Way::Kernel,
        Way::IsoBios,
        Way::IsoUefi,
        Way::IsoStickBios,
        Way::IsoStickUefi,
        Way::UsbBios,
        Way::UsbUefi,
        Way::Uki,
        Way::PxeBios,
        Way::PxeUefi,
        Way::HttpUefi,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Kernel => "kernel and initrd from QEMU",
            Way::IsoBios => "ISO as a disc, BIOS",
            Way::IsoUefi => "ISO as a disc, UEFI",
            Way::IsoStickBios => "ISO on a stick, BIOS",
            Way::IsoStickUefi => "ISO on a stick, UEFI",
            Way::UsbBios => "USB image, BIOS",
            Way::UsbUefi => "USB image, UEFI",
            Way::Uki => "UKI on an ESP, UEFI",
            Way::PxeBios => "PXE: iPXE by TFTP, BIOS",
            Way::PxeUefi => "PXE: UKI by TFTP, UEFI",
            Way::HttpUefi => "HTTP boot: UKI, UEFI",
        }
    }

    fn format(self) -> &'static str {
        match self {
            Way::Kernel => "initrd",
            Way::IsoBios | Way::IsoUefi | Way::IsoStickBios | Way::IsoStickUefi => "iso",
            Way::UsbBios | Way::UsbUefi => "usb",
            Way::Uki => "uki",
            Way::PxeBios | Way::PxeUefi | Way::HttpUefi => "pxe",
        }
    }

    fn has_uefi(self) -> bool {
        use Way::{HttpUefi, IsoStickUefi, IsoUefi, PxeUefi, Uki, UsbUefi};
        matches!(self, IsoUefi | IsoStickUefi | UsbUefi | Uki | PxeUefi | HttpUefi)
    }

    fn is_network(self) -> bool {
        self.format() == "pxe"
    }

    /// Starts a machine with this boot method that runs `image` as its only job. The log is
    /// `target/lab/logs/LOG.log`. A network boot moves this thread into a network namespace of its own.
    pub fn start(self, image: &Image, log: &str) -> Result<BootRun> {
        let mut segment = if self.is_network() { Some(Segment::enter()?) } else { None };
        let (registry, web_server, home) =
            (Registry::plain()?, WebServer::plain()?, scratch_directory("way")?);
        registry.push(image, "job")?;
        let workflow = format!("jobs: {{job: {{container: {{image: {}/job}}}}}}", registry.address());
        let own = format!("{MAC}-{SERIAL_IN_A_URL}");
        let page = if self == Way::PxeBios { &own } else { "any" };
        let url = web_server.serve(&format!("/{page}.yaml"), workflow);
        // iPXE expands the MAC address itself, and leaves the serial number to Iguana.
        let url = if self == Way::PxeBios { url.replace(&own, "${mac}-${serial}") } else { url };
        let built = self.build(&url, home.path())?;
        if let Some(segment) = &mut segment {
            for address in [registry.address(), web_server.url("")] {
                segment.offer(address.rsplit(':').next().unwrap_or_default())?;
            }
            segment.serve(&built, &self.dnsmasq(&built, &web_server)?)?;
        }
        let firmware = if self.has_uefi() { Some(Firmware::lenient()?) } else { None };
        let machine = self.machine(&built, &url, firmware.as_ref())?;
        let log = lab_directory("logs")?.join(log).with_extension("log");
        let console = Qemu::find()?.start(&machine, &log, Echo::Silent)?;
        Ok(BootRun { console, _kept: (segment, registry, web_server, home, firmware) })
    }

    /// Runs `iguana build` for this boot method.
    fn build(self, url: &str, home: &Path) -> Result<PathBuf> {
        let output = match self {
            // QEMU makes a whole disk from a directory.
            Way::Uki => home.join("esp/EFI/BOOT/BOOTX64.EFI"),
            _ => home.join("built"),
        };
        fs::create_dir_all(output.parent().context("a directory")?)?;
        build(self.format(), &format!("{CMDLINE} rd.iguana.control_url={url}"), &output, &[])?;
        Ok(output)
    }

    /// Options of dnsmasq: which client gets which file.
    fn dnsmasq(self, built: &Path, web_server: &WebServer) -> Result<Vec<String>> {
        let options = match self {
            Way::PxeBios => vec!["--dhcp-boot=boot.ipxe".to_owned()],
            // Option 93 is the client's architecture (RFC 4578); 16 is UEFI HTTP boot on x86-64.
            Way::HttpUefi => {
                let url = web_server.serve("/iguana.efi", fs::read(built.join("iguana.efi"))?);
                vec![
                    "--dhcp-match=set:http,option:client-arch,16".to_owned(),
                    "--dhcp-option-force=tag:http,option:vendor-class,HTTPClient".to_owned(),
                    format!("--dhcp-boot=tag:http,{url}"),
                ]
            }
            _ => vec!["--dhcp-boot=iguana.efi".to_owned()],
        };
        Ok(options)
    }

    fn machine(self, built: &Path, url: &str, firmware: Option<&Firmware>) -> Result<Machine> {
        let kernel = Kernel::debian(Flavour::Cloud)?.image;
        let mut machine = match self {
            Way::Kernel => Machine {
                initrd: Some(built.to_owned()),
                append: format!("{CMDLINE} rd.iguana.control_url={url}"),
                ..Machine::new(kernel)
            },
            _ => Machine::from_disks(Vec::new()),
        };
        machine.memory_mib = MEMORY_MIB;
        let mut extra = match self {
            Way::IsoBios | Way::IsoUefi => disc(built),
            Way::IsoStickBios | Way::IsoStickUefi | Way::UsbBios | Way::UsbUefi => stick(built),
            Way::Uki => esp(built),
            _ => Vec::new(),
        };
        if self.is_network() {
            machine.network = Network::Absent;
            // UEFI has its own driver and PXE client. With a BIOS the interface's ROM is used: iPXE.
            let rom = if self.has_uefi() { ",romfile=" } else { "" };
            let interface = format!("virtio-net-pci,netdev=net0,mac={MAC},bootindex=0{rom}");
            extra.extend(["-netdev".into(), Segment::interface(), "-device".into(), interface]);
        }
        extra.extend(["-smbios".into(), format!("type=1,serial={SERIAL}")]);
        extra.extend(firmware.map(Firmware::arguments).unwrap_or_default());
        machine.extra = extra.into_iter().map(Into::into).collect();
        Ok(machine)
    }
}

/// QEMU's arguments for an optical disc.
pub fn disc(image: &Path) -> Vec<String> {
    let drive = format!("if=none,id=disc,format=raw,media=cdrom,readonly=on,file={}", image.display());
    ["-drive", &drive, "-device", "ide-cd,drive=disc"].map(str::to_owned).to_vec()
}

fn stick(image: &Path) -> Vec<String> {
    let drive = format!("if=none,id=stick,format=raw,file={}", image.display());
    let controller = ["-device", "qemu-xhci"];
    [&controller[..], &["-drive", &drive, "-device", "usb-storage,drive=stick"]]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// A disk with one FAT partition, which QEMU makes from the directory three levels above `program`.
fn esp(program: &Path) -> Vec<String> {
    let directory = program.ancestors().nth(3).unwrap_or(program);
    let drive = format!("if=none,id=esp,format=raw,readonly=on,file=fat:{}", directory.display());
    ["-drive", &drive, "-device", "virtio-blk-pci,drive=esp"].map(str::to_owned).to_vec()
}

/// Runs `iguana build` for the lab's cloud kernel with additional `options`.
pub fn build(format: &str, cmdline: &str, output: &Path, options: &[OsString]) -> Result<()> {
    let mut command = initrd::command(&Kernel::debian(Flavour::Cloud)?, output);
    command.args(initrd::lab_trust()?).args(["--format", format]);
    if format != "initrd" {
        command.args(["--cmdline", cmdline]);
    }
    process::run(command.args(options), LONG).map(drop)
}

/// A booting machine, which ends when the value is dropped.
pub struct BootRun {
    console: Console,
    _kept: (Option<Segment>, Registry, WebServer, TempDir, Option<Firmware>),
}

impl BootRun {
    /// Waits until the console prints `text` after the last match.
    pub fn expect(&mut self, text: &str) -> Result<Line> {
        self.console.expect(text, LIMIT)
    }

    /// Waits for the machine's end; returns all lines.
    pub fn ends(&mut self) -> Result<Vec<Line>> {
        self.console.wait_exit(LIMIT)?;
        Ok(self.console.lines())
    }
}
