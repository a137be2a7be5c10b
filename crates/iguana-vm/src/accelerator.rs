//! Finds out which accelerator works on this machine. It is not enough that `/dev/kvm` can be opened: under some
//! hypervisors a guest hangs, or is so slow that it seems to. So a tiny guest must print its line in time.

use crate::{cache, command, proof};
use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for the tiny guest to print its line and end. A working KVM needs 0.1 s. A longer limit makes the first
/// start on a machine with a broken KVM slower; a shorter one would reject KVM on a busy machine.
const PROOF_TIME: Duration = Duration::from_secs(2);

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor executes them.
    Kvm,
    /// QEMU translates them, each virtual CPU in its own thread.
    Tcg,
}

impl Accelerator {
    /// QEMU's `-accel` value.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// QEMU's `-cpu` value: all features that the accelerator supports.
    ///
    /// Except `erms` under TCG: with it the kernel copies with `rep movsb`, which TCG executes byte by byte (a write
    /// to tmpfs: 124 MB/s with it, 429 MB/s without).
    pub fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "max",
            Self::Tcg => "max,-erms",
        }
    }

    /// The accelerator that works with `program` on this machine. KVM is tested once per boot of the host; the result
    /// is kept in the cache directory.
    pub fn proved(program: &Path) -> Result<Self> {
        // A cache directory that others can write to is not used, because they could have put a wrong result there.
        let memory = cache::directory().ok().flatten().map(|directory| directory.join("accelerator"));
        let key = memory_key(program)?;
        let prove = || runs_guests(program, Self::Kvm, PROOF_TIME);
        Self::remembered(memory.as_deref(), &key, Path::new("/dev/kvm"), prove)
    }

    fn remembered(
        memory: Option<&Path>,
        key: &str,
        device: &Path,
        prove: impl FnOnce() -> Result<bool>,
    ) -> Result<Self> {
        // This is not cached: the permission may be granted at any time.
        if OpenOptions::new().read(true).write(true).open(device).is_err() {
            return Ok(Self::Tcg);
        }
        if let Some(known) = memory.and_then(|memory| cached(memory, key)) {
            return Ok(known);
        }
        let found = if prove()? { Self::Kvm } else { Self::Tcg };
        // Without a cache directory the test is only repeated next time.
        memory.map(|memory| remember(memory, key, found).ok());
        Ok(found)
    }
}

/// The key of a cached result: this boot of the host, and this QEMU.
fn memory_key(program: &Path) -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot = fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))?;
    Ok(format!("{} {}", boot.trim(), program.display()))
}

fn cached(memory: &Path, key: &str) -> Option<Accelerator> {
    let text = fs::read_to_string(memory).ok()?;
    [Accelerator::Kvm, Accelerator::Tcg].into_iter().find(|answer| text == entry(key, *answer))
}

fn remember(memory: &Path, key: &str, answer: Accelerator) -> Result<()> {
    let directory = memory.parent().context("the cache file has no parent directory")?;
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(entry(key, answer).as_bytes())?;
    file.persist(memory)?;
    Ok(())
}

fn entry(key: &str, answer: Accelerator) -> String {
    format!("{key}\n{}\n", answer.argument())
}

/// Whether the tiny guest prints its line and ends within `time` under `accelerator`.
pub(crate) fn runs_guests(program: &Path, accelerator: Accelerator, time: Duration) -> Result<bool> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let firmware = directory.path().join("proof.bin");
    fs::write(&firmware, proof::firmware())
        .with_context(|| format!("cannot write `{}`", firmware.display()))?;
    let said = directory.path().join("serial");
    let mut guest = start_guest(program, accelerator, &firmware, &said)?;
    let ended = wait_at_most(&mut guest, time)?;
    Ok(ended == Some(proof::EXIT_STATUS) && fs::read_to_string(&said).is_ok_and(|text| text == proof::LINE))
}

fn start_guest(program: &Path, accelerator: Accelerator, firmware: &PathBuf, said: &Path) -> Result<Child> {
    let serial = fs::File::create(said).with_context(|| format!("cannot write `{}`", said.display()))?;
    command(program)
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-m", "4", "-accel", accelerator.argument()])
        .args(["-serial", "stdio", "-device", &proof::exit_device()])
        .arg("-bios")
        .arg(firmware)
        .stdin(Stdio::null())
        .stdout(serial)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run `{}`", program.display()))
}

/// The exit status of `guest`; `None` if it had to be killed.
fn wait_at_most(guest: &mut Child, time: Duration) -> Result<Option<i32>> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if let Some(status) = guest.try_wait().context("cannot wait for QEMU")? {
            return Ok(status.code());
        }
        thread::sleep(Duration::from_millis(10));
    }
    guest.kill().context("cannot stop QEMU")?;
    guest.wait().context("cannot wait for QEMU")?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn kvm_is_tested_once() {
        let directory = tempfile::tempdir().unwrap();
        let memory = directory.path().join("cache/accelerator");
        let first = Accelerator::remembered(Some(&memory), "boot qemu", open_device(), || Ok(true)).unwrap();
        let asked_again = || panic!("the answer was not remembered");
        let second = Accelerator::remembered(Some(&memory), "boot qemu", open_device(), asked_again).unwrap();
        assert_eq!((first, second), (Accelerator::Kvm, Accelerator::Kvm));
    }

    #[test]
    fn an_answer_from_another_boot_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let memory = directory.path().join("accelerator");
        Accelerator::remembered(Some(&memory), "boot-a qemu", open_device(), || Ok(true)).unwrap();
        let found =
            Accelerator::remembered(Some(&memory), "boot-b qemu", open_device(), || Ok(false)).unwrap();
        assert_eq!(found, Accelerator::Tcg);
    }

    #[test]
    fn a_missing_kvm_device_is_neither_tested_nor_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let memory = directory.path().join("accelerator");
        let asked = || panic!("a guest was started without the device");
        let found =
            Accelerator::remembered(Some(&memory), "key", &directory.path().join("absent"), asked).unwrap();
        assert_eq!(found, Accelerator::Tcg);
        assert!(!memory.exists());
    }

    #[test]
    fn a_guest_that_hangs_is_ended() {
        let mut guest = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait_at_most(&mut guest, Duration::from_millis(50)).unwrap(), None);
        assert!(guest.try_wait().unwrap().is_some());
    }

    /// Tests the guest itself with the accelerator that works everywhere. Needs QEMU.
    #[test]
    fn the_tiny_guest_prints_its_line_and_ends() {
        let program = crate::on_path("qemu-system-x86_64").expect("QEMU is on the PATH");
        // This tests what the guest does, not its speed: loading QEMU from a cold disk may be slow.
        assert!(runs_guests(&program, Accelerator::Tcg, Duration::from_secs(60)).unwrap());
    }

    /// A device that can be opened for reading and writing.
    fn open_device() -> &'static Path {
        Path::new("/dev/null")
    }
}
