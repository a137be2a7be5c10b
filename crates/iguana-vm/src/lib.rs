//! Runs QEMU: finds the accelerator that works, describes a virtual machine as a value, and waits for output on its
//! serial console.
//!
//! Principles:
//!
//! 1. An accelerator is used only after a guest has run with it: `/dev/kvm` can exist and not work.
//! 2. A machine is a value ([`Machine`]), and QEMU's command line is made from it in one place.
//! 3. Every wait has a limit, and its error shows the last lines of the console.
//! 4. QEMU ends when its [`Console`] is dropped.
//! 5. QEMU does not see the current directory, from which it would take its firmware ([`command`]).
//!
//! ```no_run
//! use iguana_vm::{Disk, Echo, Machine, Qemu};
//! use std::{path::Path, time::Duration};
//!
//! # fn main() -> anyhow::Result<()> {
//! let machine = Machine {
//!     initrd: Some("iguana.img".into()),
//!     append: "console=ttyS0 rd.iguana.debug".into(),
//!     disks: vec![Disk::raw("disk.raw")],
//!     ..Machine::new("/boot/vmlinuz")
//! };
//! let mut console = Qemu::find()?.start(&machine, Path::new("boot.log"), Echo::Silent)?;
//! console.expect("login: ", Duration::from_secs(120))?;
//! console.send("root\n")?;
//! # Ok(())
//! # }
//! ```
//!
//! Errors: QEMU is not installed, ends early or is killed; the console does not print the expected text in time.
//!
//! Specification: qemu(1).

mod accelerator;
mod cache;
mod console;
mod machine;
mod process;
mod proof;
mod qemu;
mod transcript;

pub use accelerator::Accelerator;
pub use cache::directory as cache_directory;
pub use console::{Console, Echo};
pub use machine::{Disk, DiskFormat, Machine, Network, Serial};
pub use qemu::{Qemu, command, on_path};
pub use transcript::Line;
