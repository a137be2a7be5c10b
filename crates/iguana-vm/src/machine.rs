//! A virtual machine as a value, and QEMU's arguments for it.

use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A virtual PC.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel to start; without one the firmware boots from the first disk.
    pub kernel: Option<PathBuf>,
    /// The initrd of that kernel.
    pub initrd: Option<PathBuf>,
    /// The command line of that kernel.
    pub append: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// The virtio disks, `vda` first.
    pub disks: Vec<Disk>,
    /// The network interface.
    pub network: Network,
    /// Where the serial console goes.
    pub serial: Serial,
    /// Whether the guest gets the host's random numbers by virtio.
    pub has_random_source: bool,
    /// Whether writes to all disks are discarded at the end.
    pub snapshot: bool,
    /// Further arguments for QEMU. Paths in them must be absolute.
    pub extra: Vec<OsString>,
}

/// A disk of a [`Machine`].
#[derive(Clone, Debug)]
pub struct Disk {
    /// The image file or block device.
    pub path: PathBuf,
    /// The format of the file.
    pub format: DiskFormat,
    /// Whether the content need not survive a crash of the host; then flushes do not wait for the host's disk.
    pub throw_away: bool,
}

/// The format of a disk image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

/// The network interface of a [`Machine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// No network interface.
    Absent,
    /// A virtio interface in QEMU's user network, in which the host is 10.0.2.2. The strings are additional options
    /// of `-netdev user` in QEMU's syntax, for example `hostfwd=tcp:127.0.0.1:2222-:22`.
    User(Vec<String>),
}

/// Where the first serial line of a [`Machine`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// Plain bytes on standard input and output, for [`crate::Console`].
    Plain,
    /// The terminal, in raw mode: Ctrl-A X ends the machine, Ctrl-A C opens QEMU's monitor.
    Terminal,
}

impl Machine {
    /// A machine with `kernel`, 1024 MiB, two CPUs, a network interface and no disk.
    pub fn new(kernel: impl Into<PathBuf>) -> Self {
        Self { kernel: Some(kernel.into()), ..Self::from_disks(Vec::new()) }
    }

    /// A machine whose firmware boots from the first of `disks`.
    pub fn from_disks(disks: Vec<Disk>) -> Self {
        Self {
            kernel: None,
            initrd: None,
            append: String::new(),
            memory_mib: 1024,
            cpus: 2,
            disks,
            network: Network::User(Vec::new()),
            serial: Serial::Plain,
            has_random_source: true,
            snapshot: false,
            extra: Vec::new(),
        }
    }

    /// The same machine, whose files do not depend on the current directory.
    pub(crate) fn in_absolute_paths(&self) -> Result<Self> {
        let mut machine = self.clone();
        let disks = machine.disks.iter_mut().map(|disk| &mut disk.path);
        for path in machine.kernel.iter_mut().chain(&mut machine.initrd).chain(disks) {
            let name = path.display();
            *path = std::path::absolute(&*path).with_context(|| format!("cannot find `{name}`"))?;
        }
        Ok(machine)
    }

    /// QEMU's arguments for this machine, except the accelerator and the processor.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Arguments(Vec::new());
        arguments.add("-m", self.memory_mib.to_string());
        arguments.add("-smp", self.cpus.to_string());
        // No default devices (display, floppy, CD-ROM, interface), and a reboot of the guest ends QEMU.
        arguments.flag("-nodefaults");
        arguments.add("-display", "none");
        arguments.flag("-no-reboot");
        self.add_serial(&mut arguments);
        self.add_kernel(&mut arguments);
        self.add_network(&mut arguments);
        if self.has_random_source {
            arguments.add("-device", "virtio-rng-pci");
        }
        for (number, disk) in self.disks.iter().enumerate() {
            disk.add(number, &mut arguments);
        }
        if self.snapshot {
            arguments.flag("-snapshot");
        }
        arguments.0.extend(self.extra.iter().cloned());
        arguments.0
    }

    fn add_serial(&self, arguments: &mut Arguments) {
        match self.serial {
            Serial::Plain => {
                arguments.add("-serial", "stdio");
                arguments.add("-monitor", "none");
            }
            Serial::Terminal => arguments.add("-serial", "mon:stdio"),
        }
    }

    fn add_kernel(&self, arguments: &mut Arguments) {
        let Some(kernel) = &self.kernel else { return };
        arguments.add("-kernel", kernel);
        if let Some(initrd) = &self.initrd {
            arguments.add("-initrd", initrd);
        }
        if !self.append.is_empty() {
            arguments.add("-append", &self.append);
        }
    }

    fn add_network(&self, arguments: &mut Arguments) {
        let Network::User(options) = &self.network else { return };
        let netdev = ["user", "id=net0"].into_iter().chain(options.iter().map(String::as_str));
        arguments.add("-netdev", netdev.collect::<Vec<_>>().join(","));
        // No option ROM: the machine never boots from this interface, and the ROM's greeting takes time.
        arguments.add("-device", "virtio-net-pci,netdev=net0,romfile=");
    }
}

impl Disk {
    /// The disk whose bytes are in the file or block device at `path`.
    pub fn raw(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), format: DiskFormat::Raw, throw_away: false }
    }

    /// The disk in qcow2 format in the file at `path`. The file may name other files of the host to be read, so it
    /// must be trusted.
    pub fn qcow2(path: impl Into<PathBuf>) -> Self {
        Self { format: DiskFormat::Qcow2, ..Self::raw(path) }
    }

    /// The same disk, whose content need not survive a crash of the host.
    pub fn throw_away(self) -> Self {
        Self { throw_away: true, ..self }
    }

    fn add(&self, number: usize, arguments: &mut Arguments) {
        let format = match self.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        let cache = if self.throw_away { "unsafe" } else { "writeback" };
        let mut drive = OsString::from(format!(
            "if=none,id=disk{number},format={format},cache={cache},discard=unmap,detect-zeroes=unmap,file="
        ));
        drive.push(option_value(&self.path));
        arguments.add("-drive", drive);
        arguments.add("-device", format!("virtio-blk-pci,drive=disk{number},serial=iguana-disk{number}"));
    }
}

/// In QEMU's option lists a comma in a value is doubled.
fn option_value(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes().iter();
    OsString::from_vec(bytes.flat_map(|byte| vec![*byte; if *byte == b',' { 2 } else { 1 }]).collect())
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn add(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.flag(name);
        self.0.push(value.as_ref().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(machine: &Machine) -> String {
        let arguments = machine.arguments();
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_kernel_with_initrd_and_command_line() {
        let machine = Machine {
            initrd: Some("i.img".into()),
            append: "console=ttyS0 quiet".into(),
            memory_mib: 128,
            ..Machine::new("/boot/vmlinuz")
        };
        assert_eq!(
            text(&machine),
            "-m 128 -smp 2 -nodefaults -display none -no-reboot -serial stdio -monitor none \
             -kernel /boot/vmlinuz -initrd i.img -append console=ttyS0 quiet \
             -netdev user,id=net0 -device virtio-net-pci,netdev=net0,romfile= -device virtio-rng-pci"
        );
        assert!(machine.arguments().contains(&"console=ttyS0 quiet".into()));
    }

    #[test]
    fn disks_keep_their_order_and_commas_are_doubled() {
        let machine = Machine::from_disks(vec![Disk::raw("a,b.raw"), Disk::qcow2("c").throw_away()]);
        let text = text(&machine);
        assert!(!text.contains("-kernel"));
        assert!(
            text.contains(
                "id=disk0,format=raw,cache=writeback,discard=unmap,detect-zeroes=unmap,file=a,,b.raw"
            )
        );
        assert!(text.contains("-device virtio-blk-pci,drive=disk0,serial=iguana-disk0"));
        assert!(
            text.contains("id=disk1,format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=c ")
        );
    }

    #[test]
    fn the_network_can_be_absent_or_have_options() {
        let absent = Machine { network: Network::Absent, ..Machine::new("k") };
        assert!(!text(&absent).contains("net"));
        let options = vec!["tftp=/srv".to_string(), "bootfile=x".to_string()];
        let user = Machine { network: Network::User(options), ..Machine::new("k") };
        assert!(text(&user).contains("-netdev user,id=net0,tftp=/srv,bootfile=x "));
    }

    #[test]
    fn the_source_of_random_numbers_can_be_absent() {
        let absent = Machine { has_random_source: false, ..Machine::new("k") };
        assert!(!text(&absent).contains("rng"));
    }

    #[test]
    fn a_terminal_has_the_monitor_and_extra_options_come_last() {
        let machine = Machine {
            serial: Serial::Terminal,
            snapshot: true,
            extra: vec!["-S".into()],
            ..Machine::new("k")
        };
        assert!(text(&machine).contains("-serial mon:stdio"));
        assert!(!text(&machine).contains("-monitor none"));
        assert!(text(&machine).ends_with("-snapshot -S"));
    }
}
