//! Sizes of dracut's initrds with and without Iguana's module.

use super::result;
use crate::dist;
use anyhow::Result;
use iguana_lab::dracut::{Dracut, HookRunner};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::payload::Suite;
use iguana_lab::{packages, scratch_directory};
use std::fmt::Write;

/// Bytes of the first Iguana's initrd: dracut 059 with NetworkManager, podman and crun, gzip, the cloud kernel.
const ORIGINAL: u64 = 81_019_452;

/// The goals: at most this fraction of the original's size, and at most so many bytes more than dracut without the
/// module.
const PART: f64 = 0.45;
const ADDED: u64 = 8_000_000;

/// The compression commands of dracut.
const PACKINGS: &[&str] = &["gzip -9", "zstd -19"];

/// Makes the initrds and writes the table.
pub(super) fn run() -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::DEBIAN].concat())?;
    dist::run()?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let dracut = Dracut::of(&kernel, Suite::Bookworm)?;
    let mut table = format!(
        "# dracut's initrd with Iguana in it\n\n`{}`, {}. Debian's dracut 059, kernel {}, `--no-hostonly`. To be held: at \
         most {:.0} % of the original's {ORIGINAL} bytes, at most {ADDED} bytes added.\n\n\
         | network | packed by | dracut's own, bytes | with Iguana, bytes | added | of the original's |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        result::command_line(),
        result::today()?,
        kernel.release,
        PART * 100.0,
    );
    for (kind, name) in
        [(HookRunner::Systemd, "systemd, NetworkManager"), (HookRunner::Scripts, "scripts, dhclient")]
    {
        for packing in PACKINGS {
            let options = [kind.options(), &["--compress", packing]].concat();
            let own = size(&dracut, &options)?;
            let ours = size(&dracut, &[&options[..], &["--add", "iguana"]].concat())?;
            let part = ours as f64 / ORIGINAL as f64;
            let held = if part <= PART && ours - own <= ADDED { "" } else { ", not held" };
            writeln!(
                table,
                "| {name} | {packing} | {own} | {ours} | {} | {:.1} %{held} |",
                ours - own,
                part * 100.0
            )?;
        }
    }
    result::keep("dracut", &table)
}

fn size(dracut: &Dracut, options: &[&str]) -> Result<u64> {
    let room = scratch_directory("dracut")?;
    let image = room.path().join("initrd.img");
    dracut.make(options, "", &image)?;
    Ok(image.metadata()?.len())
}
