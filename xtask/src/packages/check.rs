//! Whether the packages install in a fresh Debian, work there, and leave nothing.

use anyhow::{Context, Result};
use iguana_lab::process::{self, LONG};
use iguana_lab::{packages, passing_room};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What a Debian has that makes initrds.
const PACKAGES: &str = "--include=dracut,dracut-network,network-manager,iputils-arping,procps,systemd-sysv,udev,dbus,\
    kmod,mawk,iproute2,squashfs-tools";

/// What is done with them inside; each line must succeed. The kernel is there for dracut to make an initrd for.
const TRIAL: &str = r#"
set -eu
find / -xdev \( -path /proc -o -path /sys -o -path /trial -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp \) -prune -o -print | sort > /tmp/before
dpkg -i /trial/*.deb
iguana --version
iguana-workflow --help | head -1
echo 'jobs: {hello: {container: registry.example.com/hello}}' > /tmp/workflow.yaml
iguana check /tmp/workflow.yaml
iguana-workflow --dry-run /tmp/workflow.yaml
iguana completion bash > /dev/null
man_pages=$(ls /usr/share/man/man1/iguana*.1.gz | wc -l)
test "$man_pages" -gt 5
test -s /usr/share/iguana/iguana-initrd
kernel=$(ls /usr/share/iguana/vmlinuz-* | sed 's/.*vmlinuz-//')
echo "kernel $kernel"
mkdir -p /lib/modules/6.1.0-trial
depmod 6.1.0-trial
dracut --no-kernel --kver 6.1.0-trial --no-hostonly --add 'network network-manager iguana' --no-compress /tmp/initrd > /tmp/dracut.log 2>&1 || { cat /tmp/dracut.log; exit 1; }
if grep 'iguana:' /tmp/dracut.log; then exit 1; fi
lsinitrd /tmp/initrd | grep -q usr/lib/iguana/iguana-init
rm -rf /lib/modules/6.1.0-trial; rmdir /lib/modules 2> /dev/null || true
dpkg -P iguana iguana-tools dracut-iguana iguana-workflow
find / -xdev \( -path /proc -o -path /sys -o -path /trial -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp \) -prune -o -print | sort > /tmp/after
if ! diff /tmp/before /tmp/after; then echo 'the packages leave something'; exit 1; fi
echo trial passed
"#;

/// Tries them.
pub(super) fn in_a_fresh_debian(debs: &[PathBuf]) -> Result<()> {
    packages::ensure(packages::DEBIAN)?;
    let room = passing_room("packages")?;
    let trial = room.path().join("trial");
    fs::create_dir(&trial)?;
    for deb in debs {
        fs::copy(deb, trial.join(deb.file_name().context("no name")?))?;
    }
    fs::write(trial.join("trial.sh"), TRIAL)?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", PACKAGES]);
    mmdebstrap.arg(format!("--customize-hook=copy-in {} /", trial.display()));
    mmdebstrap.arg("--customize-hook=chroot \"$1\" sh /trial/trial.sh");
    mmdebstrap.args(["bookworm", "-"]);
    let output = room.path().join("output");
    let script = "exec \"$@\" > /dev/null 2> \"$0\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(&output).arg(mmdebstrap.get_program()).args(mmdebstrap.get_args());
    let ended = process::run(&mut shell, LONG);
    let said = fs::read_to_string(&output).unwrap_or_default();
    ended.with_context(|| said.clone())?;
    println!("{}", said.trim_end());
    Ok(())
}
