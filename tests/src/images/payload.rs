//! Complete Debian systems made by mmdebstrap: to install, to install from, and to measure.

use crate::cached;
use crate::kernel::Kernel;
use crate::packages;
use crate::process::{self, LONG};
use crate::source_tree;
use anyhow::Result;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A release of Debian.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12, the base of everything here.
    Bookworm,
    /// Debian 13, for tests of newer software.
    Trixie,
}

impl Suite {
    /// Its code name in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }
}

/// Excluded files: documentation and translations are a third of a small Debian.
const LEFT_OUT: &[&str] =
    &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Path in a chroot of a kernel's package during its installation.
const PACKAGE: &str = "/var/cache/apt/archives/package.deb";

/// A Debian to make, and its products.
#[derive(Debug, Hash)]
pub struct Debian {
    /// Its name in the cache.
    pub name: &'static str,
    /// The release.
    pub suite: Suite,
    /// Its packages beyond the essential ones.
    pub packages: &'static str,
    /// Whether recommended packages are installed too, as on an ordinary machine.
    pub recommended: bool,
    /// mmdebstrap's customize hooks, run at the end; `$PRODUCTS` is a directory for results.
    pub hooks: Vec<String>,
    /// Further inputs that the result depends on, for the cache key.
    pub inputs: Vec<String>,
}

impl Debian {
    /// The tar file of the whole system, compressed according to `suffix`.
    pub fn tar(&self, suffix: &str) -> Result<PathBuf> {
        let file = Path::new("debian").with_extension(suffix);
        Ok(self.made(&file)?.join(file))
    }

    /// The whole system as a directory, which the caller may change.
    pub fn directory(&self) -> Result<PathBuf> {
        let directory = Path::new("root");
        Ok(self.made(directory)?.join(directory))
    }

    /// The directory with the results of the hooks.
    pub fn products(&self) -> Result<PathBuf> {
        self.made(Path::new("/dev/null"))
    }

    /// The directory with all results; made once and cached under `target/lab/debian`.
    fn made(&self, target: &Path) -> Result<PathBuf> {
        let mut key = DefaultHasher::new();
        (LEFT_OUT, self, target).hash(&mut key);
        cached("debian", &format!("{}-{:016x}", self.name, key.finish()), |directory| {
            self.make(directory, target)
        })
    }

    fn make(&self, products: &Path, target: &Path) -> Result<()> {
        eprintln!("making the Debian `{}` with mmdebstrap", self.name);
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.env("PRODUCTS", products).args([
            "--quiet",
            "--variant=minbase",
            "--include",
            self.packages,
        ]);
        mmdebstrap.arg(format!("--aptopt=APT::Install-Recommends \"{}\"", self.recommended));
        mmdebstrap.args(LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
        mmdebstrap.args(self.hooks.iter().map(|hook| format!("--customize-hook={hook}")));
        process::run(mmdebstrap.arg(self.suite.name()).arg(products.join(target)), LONG)?;
        Ok(())
    }
}

/// A bootable Debian with systemd and `kernel`, as a tar file compressed with zstd.
pub fn installed_debian(kernel: &Kernel) -> Result<PathBuf> {
    let mut hooks = install_kernel(kernel).to_vec();
    hooks.extend(
        [
            r#"chroot "$1" passwd --delete root"#,
            r#"printf 'auto lo\niface lo inet loopback\n' > "$1/etc/network/interfaces""#,
            r#"rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/archives/*.deb "$1/etc/resolv.conf""#,
            r#": > "$1/etc/machine-id""#,
        ]
        .map(String::from),
    );
    let packages = "systemd-sysv,udev,dbus,kmod,linux-base,initramfs-tools,e2fsprogs,fdisk,iproute2,ifupdown,\
        isc-dhcp-client,login,passwd,nano,less";
    let inputs = vec![kernel.release.clone()];
    Debian { name: "installed", suite: Suite::Bookworm, packages, recommended: false, hooks, inputs }
        .tar("tar.zst")
}

/// A Debian with systemd, which continues with the initrd's kernel, as a tar file compressed according to `suffix`.
pub fn plain_debian(suffix: &str) -> Result<PathBuf> {
    without_kernel("systemd-sysv,udev,dbus,kmod,login,passwd,mount,e2fsprogs", suffix)
}

/// The same, configured by cloud-init.
pub fn cloud_debian(suffix: &str) -> Result<PathBuf> {
    let packages = "systemd-sysv,udev,dbus,kmod,login,passwd,mount,e2fsprogs,cloud-init,netplan.io";
    without_kernel(packages, suffix)
}

fn without_kernel(packages: &'static str, suffix: &str) -> Result<PathBuf> {
    Debian {
        name: "plain",
        suite: Suite::Bookworm,
        packages,
        recommended: false,
        hooks: finish().to_vec(),
        inputs: vec![FACTS.into()],
    }
    .tar(suffix)
}

/// A small Debian to run an installation in, as a tar file.
pub fn installer() -> Result<PathBuf> {
    small("installer", "fdisk,e2fsprogs,zstd,tar,mount,whiptail,grub-pc-bin,grub2-common")
}

/// A small Debian with tools for all disk layouts, udev, and the packages that the examples install, as a tar file.
pub fn disk_tools() -> Result<PathBuf> {
    small(
        "disk-tools",
        "udev,fdisk,mount,dmsetup,lvm2,mdadm,cryptsetup-bin,e2fsprogs,xfsprogs,btrfs-progs,dosfstools,\
         exfatprogs,ntfs-3g,f2fs-tools,erofs-utils,genisoimage,zstd,xz-utils,ca-certificates,curl,jq,lshw,iproute2,\
         openssh-server",
    )
}

/// A small Debian with the programs of installers that need the kernel's modules or the firmware, as a tar file.
pub fn installer_tools() -> Result<PathBuf> {
    small("installer-tools", "kmod,efibootmgr,fdisk,mount")
}

/// A small Debian that boots with systemd, as a tar file.
pub fn with_systemd() -> Result<PathBuf> {
    small("with-systemd", "systemd-sysv,dbus,udev")
}

/// A small Debian with the programs that make containers and sandboxes, as a tar file.
pub fn container_tools() -> Result<PathBuf> {
    small("container-tools", "podman,buildah,bubblewrap,crun,busybox-static")
}

fn small(name: &'static str, packages: &'static str) -> Result<PathBuf> {
    let hooks = vec![r#"rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*"#.into()];
    let debian =
        Debian { name, suite: Suite::Bookworm, packages, recommended: false, hooks, inputs: Vec::new() };
    debian.tar("tar")
}

/// A Debian that finds its root on any disk layout. Its products are the system as [`SYSTEM`], and the unified kernel
/// image [`UNIFIED`], which uses the partition named `root`.
pub fn system_for_any_disk(kernel: &Kernel) -> Result<PathBuf> {
    packages::ensure(&["binutils", "systemd-boot-efi"])?;
    let mut hooks = vec![
        // Without this setting the initramfs leaves cryptsetup out, because the chroot's root is not encrypted.
        r#"echo CRYPTSETUP=y >> "$1/etc/cryptsetup-initramfs/conf-hook""#.into(),
    ];
    hooks.extend(install_kernel(kernel));
    hooks.push(format!(
        r#"echo root=PARTLABEL=root ro console=ttyS0 > "$PRODUCTS/cmdline"
        objcopy --add-section .osrel="$1/usr/lib/os-release" --change-section-vma .osrel=0x20000 \
            --add-section .cmdline="$PRODUCTS/cmdline" --change-section-vma .cmdline=0x30000 \
            --add-section .linux="$(ls "$1"/boot/vmlinuz-*)" --change-section-vma .linux=0x2000000 \
            --add-section .initrd="$(ls "$1"/boot/initrd.img-*)" --change-section-vma .initrd=0x3000000 \
            /usr/lib/systemd/boot/efi/linuxx64.efi.stub "$PRODUCTS/{UNIFIED}""#
    ));
    hooks.extend(finish());
    let packages = "systemd-sysv,udev,dbus,kmod,linux-base,initramfs-tools,lvm2,mdadm,cryptsetup,cryptsetup-initramfs,\
        btrfs-progs,xfsprogs,e2fsprogs,dosfstools,login,passwd,mount";
    let inputs = vec![kernel.release.clone(), FACTS.into()];
    let debian =
        Debian { name: "any-disk", suite: Suite::Bookworm, packages, recommended: false, hooks, inputs };
    Ok(debian.tar("tar.zst")?.with_file_name(""))
}

/// Name of the system's tar file in the directory of [`system_for_any_disk`].
pub const SYSTEM: &str = "debian.tar.zst";
/// Name of the unified kernel image in that directory.
pub const UNIFIED: &str = "debian.efi";

/// A Debian without a kernel and without systemd; `init` is the package with its first program.
pub fn other_init(init: &'static str) -> Result<PathBuf> {
    let packages = match init {
        "openrc" => "openrc,sysvinit-core,udev,kmod,login,passwd,mount",
        _ => "sysvinit-core,udev,kmod,login,passwd,mount",
    };
    let mut hooks =
        vec![r#"echo 'T0:23:respawn:/sbin/getty -L ttyS0 115200 vt100' >> "$1/etc/inittab""#.into()];
    hooks.extend(finish());
    Debian {
        name: init,
        suite: Suite::Bookworm,
        packages,
        recommended: false,
        hooks,
        inputs: vec![FACTS.into()],
    }
    .tar("tar.zst")
}

/// The script that prints facts about the handover in the new system.
pub const FACTS: &str = include_str!("../disks/layout/facts.sh");

/// Lets root log in without a password, and installs the script as `/facts`.
fn finish() -> [String; 5] {
    let facts = source_tree().join("tests/src/disks/layout/facts.sh");
    [
        format!(r#"install -m 755 '{}' "$1/facts""#, facts.display()),
        r#"echo lab > "$1/etc/hostname""#.into(),
        r#"chroot "$1" passwd --delete root"#.into(),
        r#"rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/archives/*.deb "$1/etc/resolv.conf""#.into(),
        r#": > "$1/etc/machine-id""#.into(),
    ]
}

/// The hooks that install `kernel` from its package.
pub fn install_kernel(kernel: &Kernel) -> [String; 3] {
    let package = kernel.package.display();
    [
        format!(r#"cp '{package}' "$1{PACKAGE}""#),
        format!(r#"chroot "$1" dpkg --install {PACKAGE}"#),
        format!(r#"rm "$1{PACKAGE}""#),
    ]
}
