//! Packs a directory as a read-only file-system image.

use crate::build::tool;
use crate::build::tool::Tool;
use anyhow::Result;
use hint::WithHint;
use std::path::Path;

/// The program that makes the image.
const PROGRAM: Tool = Tool { program: "mksquashfs", package: "squashfs-tools" };

/// The options of mksquashfs.
///
/// Compression and block size were measured with Debian's kernel 6.1 under QEMU's TCG with two CPUs: bytes of the
/// image for the cloud kernel (793 modules, 67 MB) and for the full one (1,641 modules, 180 MB); CPU seconds of QEMU
/// from power-on until `iguana-init` has loaded the 16 modules that the VM needs (medians of 9); seconds to read
/// every module in the guest; memory that mounting the image takes from a guest of 128 MB.
///
/// | | cloud | full | devices | all | mounted |
/// | --- | --- | --- | --- | --- | --- |
/// | zstd 19, 1 MiB | 13.4 MB | 35.5 MB | 4.6 s | 4.3 s | 8.1 MB |
/// | zstd 19, 256 KiB | 14.0 MB | 37.6 MB | 4.3 s | 2.5 s | 2.3 MB |
/// | xz, 1 MiB | 11.9 MB | 31.7 MB | 5.1 s | 6.7 s | 7.2 MB |
/// | **xz, 256 KiB** | 12.5 MB | 33.3 MB | 4.6 s | 4.9 s | 1.9 MB |
/// | xz, 128 KiB | 12.9 MB | | 4.7 s | | |
///
/// Large blocks take memory for as long as the image is mounted. A small module needs a whole block to be unpacked,
/// so they are not faster either. zstd 22 instead of 19 saves 8 kB; the filter for x86 (`-Xbcj x86`) saves nothing.
#[rustfmt::skip]
pub(crate) const OPTIONS: &[&str] = &[
    "-noappend", "-no-progress", "-quiet",
    // The same directory makes the same bytes, independent of the user and the time.
    "-all-root", "-no-xattrs", "-all-time", "0", "-mkfs-time", "0",
    "-comp", "xz", "-b", "256K",
];

/// Packs `directory` as the file `image`.
pub(crate) fn pack(directory: &Path, image: &Path) -> Result<()> {
    let mut command = PROGRAM.command()?;
    command.arg(directory).arg(image).args(OPTIONS);
    // mksquashfs refuses this variable together with the options for times.
    let done = tool::run(command.env_remove("SOURCE_DATE_EPOCH")).map(drop);
    done.hint("it needs version 4.4 or newer, and space in the temporary directory")
}
