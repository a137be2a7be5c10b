//! A small made-up system: a kernel with a few modules, and the initrd's program.
#![allow(clippy::disallowed_methods, reason = "tests write to temporary directories")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `uname -r` of the made-up kernel.
pub(crate) const RELEASE: &str = "6.1.0-9-test";

/// Bytes of the optional header of a 64-bit PE file with its 16 directories.
const OPTIONAL_HEADER: usize = 240;

/// A directory with `boot`, `lib/modules` and `iguana-init`, as in an unpacked kernel package.
pub(crate) struct System(tempfile::TempDir);

impl System {
    pub(crate) fn new() -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        system.write(&format!("boot/vmlinuz-{RELEASE}"), &kernel(RELEASE));
        system.write("iguana-init", &static_program());
        system.write_module("modules.builtin", b"kernel/lib/crc16.ko\n");
        let virtio = module("virtio_blk", "depends=virtio\0alias=virtio:d00000002v*", RELEASE);
        system.write_module("kernel/drivers/block/loop.ko", &module("loop", "depends=", RELEASE));
        system.write_module("kernel/drivers/block/virtio_blk.ko", &virtio);
        system
            .write_module("kernel/drivers/virtio/virtio.ko.xz", &xz(&module("virtio", "depends=", RELEASE)));
        system
            .write_module("kernel/fs/squashfs/squashfs.ko", &module("squashfs", "depends=lz4-test", RELEASE));
        system.write_module("kernel/lib/lz4-test.ko", &module("lz4-test", "depends=crc16", RELEASE));
        system.write_module("kernel/sound/sound.ko", &module("sound", "depends=", RELEASE));
        system
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.path(&format!("boot/vmlinuz-{RELEASE}"))
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.path(&format!("lib/modules/{RELEASE}"))
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn write_module(&self, path: &str, content: &[u8]) {
        self.write(&format!("lib/modules/{RELEASE}/{path}"), content);
    }

    /// `iguana` with these arguments, and its cache in this directory.
    pub(crate) fn iguana(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iguana"));
        command.args(arguments).current_dir(self.0.path()).env("XDG_CACHE_HOME", self.path("cache"));
        command.env_remove("SOURCE_DATE_EPOCH");
        command
    }

    /// `iguana build` for this kernel to `output`, with additional arguments.
    pub(crate) fn build(&self, output: &str, more: &[&str]) -> Command {
        let mut command = self.iguana(&["build", "--init", "iguana-init", "--output", output]);
        command.arg("--kernel").arg(self.kernel()).args(more);
        command
    }
}

pub(crate) fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

pub(crate) fn fails(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(!status.success(), "{}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stderr).unwrap()
}

/// The start of a bootable x86 kernel.
pub(crate) fn kernel(release: &str) -> Vec<u8> {
    let mut head = vec![0; 0x400];
    head[0x202..0x206].copy_from_slice(b"HdrS");
    head[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    let text = format!("{release} (nobody) #1");
    head[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    head
}

/// The same with the headers of a UEFI program (PE), which has no sections.
pub(crate) fn uefi_kernel(release: &str) -> Vec<u8> {
    // Offset of the PE header in the DOS header, and the end of the kernel's own header.
    const PE: std::ops::Range<usize> = 0x3c..0x40;
    // Bytes of the signature and the file header, with the number of sections and the size of the optional header.
    const FILE_HEADER: usize = 24;
    const SECTIONS: std::ops::Range<usize> = 6..8;
    let program = fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").unwrap();
    let start = u32::from_le_bytes(program[PE].try_into().unwrap()) as usize;
    let mut headers = program[start..][..FILE_HEADER + OPTIONAL_HEADER].to_vec();
    headers[SECTIONS].fill(0);
    let mut head = kernel(release);
    head[..2].copy_from_slice(b"MZ");
    let end = head.len() as u32;
    head[PE].copy_from_slice(&end.to_le_bytes());
    head.extend(headers);
    head
}

/// A kernel module with a `.modinfo` section only.
pub(crate) fn module(name: &str, fields: &str, release: &str) -> Vec<u8> {
    let info = format!("name={name}\0{fields}\0vermagic={release} SMP mod_unload\0");
    elf(1, &[(".modinfo", info.as_bytes())])
}

/// A program for x86-64 that needs no libraries and does nothing.
fn static_program() -> Vec<u8> {
    elf(2, &[])
}

/// A 64-bit ELF file of the type `kind` (1 is relocatable, 2 a program) with sections.
fn elf(kind: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEADER: usize = 64;
    let mut names = b"\0.shstrtab\0".to_vec();
    let mut content = Vec::new();
    let mut table = vec![section(0, 0, 0, 0)];
    for (name, bytes) in sections {
        table.push(section(names.len(), 1, HEADER + content.len(), bytes.len()));
        names.extend(name.bytes().chain([0]));
        content.extend_from_slice(bytes);
    }
    table.push(section(1, 3, HEADER + content.len(), names.len()));
    content.extend(names);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([kind, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0, 0, HEADER + content.len()].map(|field| (field as u64).to_le_bytes()).concat());
    file.extend(0_u32.to_le_bytes());
    let (count, last) = (table.len() as u16, table.len() as u16 - 1);
    file.extend([HEADER as u16, 56, 0, 64, count, last].map(u16::to_le_bytes).concat());
    file.extend(content);
    file.extend(table.concat());
    file
}

fn section(name: usize, kind: u32, offset: usize, size: usize) -> Vec<u8> {
    let mut header = [(name as u32).to_le_bytes(), kind.to_le_bytes()].concat();
    header.extend([0, 0, offset, size].map(|field| (field as u64).to_le_bytes()).concat());
    header.extend([0_u8; 8]);
    header.extend([1_u64, 0].map(u64::to_le_bytes).concat());
    header
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Unpacks the initrd at `initrd` into `directory`.
pub(crate) fn unpack(initrd: &Path, directory: &Path) {
    let archive = zstd::decode_all(fs::File::open(initrd).unwrap()).unwrap();
    let packed = directory.join("archive");
    fs::create_dir_all(directory).unwrap();
    fs::write(&packed, archive).unwrap();
    let mut cpio = Command::new("busybox");
    cpio.args(["cpio", "-id", "etc/*", "usr/*"])
        .current_dir(directory)
        .stdin(fs::File::open(&packed).unwrap());
    assert!(cpio.status().unwrap().success());
    let mut squashfs = Command::new("unsquashfs");
    squashfs.args(["-quiet", "-no-progress", "-dest", "modules", "usr/lib/iguana/modules.squashfs"]);
    assert!(squashfs.current_dir(directory).output().unwrap().status.success());
}
