//! Debian's dracut, and initrds made with it that contain Iguana's module.

use crate::initrd::{Initrd, Trust};
use crate::kernel::Kernel;
use crate::payload::{Debian, Suite};
use crate::process::{self, LONG};
use crate::tools::cache::lock;
use crate::{lab_directory, program, source_tree};
use anyhow::{Context, Result};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// dracut with two of its network modules.
const PACKAGES: &str = "dracut,dracut-network,network-manager,isc-dhcp-client,iputils-arping,procps,systemd-sysv,udev,\
    dbus,kmod,mawk,iproute2,plymouth,zstd,ca-certificates";

/// Where the packages dracut-iguana and iguana-workflow install the module.
const MODULE: &str = "usr/lib/dracut/modules.d/50iguana";
const PROGRAM: &str = "usr/lib/iguana/iguana-init";

/// Enters the directory `$0` as the root of a system, with private mounts.
const ENTER: &str = r#"mount -t proc proc "$0/proc" && mount -t sysfs -o ro sysfs "$0/sys" &&
    mount --rbind /dev "$0/dev" && exec chroot "$0" "$@""#;

/// What runs dracut's hooks and configures the network in the initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookRunner {
    /// systemd, and NetworkManager with its D-Bus.
    Systemd,
    /// dracut's own scripts, and dhclient.
    Scripts,
}

impl HookRunner {
    /// Options of dracut(8).
    pub fn options(self) -> &'static [&'static str] {
        match self {
            HookRunner::Systemd => &["--add", "network network-manager"],
            HookRunner::Scripts => &[
                "--add",
                "network network-legacy",
                "--omit",
                "systemd systemd-initrd dracut-systemd dbus network-manager systemd-networkd plymouth",
            ],
        }
    }
}

/// A Debian with dracut and a kernel's modules, in a directory. Bookworm has dracut 059, the last of the old line;
/// Trixie has dracut-ng.
#[derive(Debug)]
pub struct Dracut {
    kernel: Kernel,
    root: PathBuf,
}

impl Dracut {
    /// The Debian of `suite` with `kernel`; made once.
    pub fn of(kernel: &Kernel, suite: Suite) -> Result<Dracut> {
        let modules = kernel.modules.display();
        let hooks = vec![
            r#"mkdir -p "$1/usr/lib/modules" "$1/usr/lib/iguana""#.into(),
            format!(r#"cp -r '{modules}' "$1/usr/lib/modules/""#),
            format!(r#"chroot "$1" depmod {}"#, kernel.release),
        ];
        let inputs = vec![kernel.release.clone()];
        let debian = Debian { name: "dracut", suite, packages: PACKAGES, recommended: false, hooks, inputs };
        Ok(Dracut { kernel: kernel.clone(), root: debian.directory()? })
    }

    /// An initrd of that kind with Iguana's module. It has the same trust as the lab's other initrds.
    pub fn initrd(&self, kind: HookRunner) -> Result<Initrd> {
        self.initrd_with(kind, "")
    }

    /// The same with an iguana.conf.
    pub fn initrd_with(&self, kind: HookRunner, rules: &str) -> Result<Initrd> {
        let options = [kind.options(), &["--add", "iguana", "--compress", "zstd -3"]].concat();
        let mut key = DefaultHasher::new();
        (&self.root, &options, rules, fs::read(program("iguana-init"))?).hash(&mut key);
        for file in module_files()? {
            fs::read(file)?.hash(&mut key);
        }
        let image = lab_directory("initrd")?.join(format!("dracut-{kind:?}-{:016x}.img", key.finish()));
        if !image.exists() {
            self.make(&options, rules, &image)?;
        }
        Ok(Initrd { kernel: self.kernel.clone(), image })
    }

    /// Makes a generic initrd with dracut's `options` and an iguana.conf.
    pub fn make(&self, options: &[&str], rules: &str, image: &Path) -> Result<()> {
        let _one_at_a_time = self.with_our_files()?;
        fs::write(self.root.join("etc/containers/iguana.conf"), rules)?;
        process::run(&mut self.command(options), LONG)?;
        fs::rename(self.root.join("initrd.img"), image).with_context(|| format!("`{}`", image.display()))
    }

    /// The error message of dracut when it cannot make an initrd, for example without the file `missing`.
    pub fn complains(&self, options: &[&str], missing: Option<&str>) -> Result<String> {
        let _one_at_a_time = self.with_our_files()?;
        if let Some(path) = missing {
            fs::remove_file(self.root.join(path))?;
        }
        let said = self.command(options).output().context("`unshare` cannot be started")?;
        anyhow::ensure!(!said.status.success(), "dracut made an initrd");
        Ok(String::from_utf8_lossy(&said.stderr).into_owned())
    }

    fn command(&self, options: &[&str]) -> Command {
        let fixed = ["--force", "--no-hostonly", "--no-hostonly-cmdline", "--kver", &self.kernel.release];
        let mut command = Command::new("unshare");
        command.args(["--mount", "--fork", "sh", "-c", ENTER]).arg(&self.root).arg("dracut");
        command.args(fixed).args(options).arg("/initrd.img");
        command
    }

    /// Installs the module, the program and the trust. Returns the lock for these files.
    fn with_our_files(&self) -> Result<fs::File> {
        let lock = lock(&lab_directory("dracut")?, "debian")?;
        let put = |from: &Path, to: &str| -> Result<()> {
            let to = self.root.join(to);
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::copy(from, to).map(drop).with_context(|| format!("`{}`", from.display()))
        };
        for file in module_files()? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            put(&file, &format!("{MODULE}/{name}"))?;
        }
        put(&program("iguana-init"), PROGRAM)?;
        let trust = Trust::lab()?;
        put(&trust.authority.certificate(), "etc/containers/ca/lab.pem")?;
        trust.registries.iter().try_for_each(|file| put(file, "etc/containers/registries.conf"))?;
        Ok(lock)
    }
}

fn module_files() -> Result<Vec<PathBuf>> {
    let directory = source_tree().join("dracut/50iguana");
    let entries = fs::read_dir(&directory).with_context(|| format!("`{}`", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
