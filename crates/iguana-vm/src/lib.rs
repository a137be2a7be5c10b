//! QEMU as Iguana uses it: which accelerator really works here, a virtual machine as a value, and its
//! serial console as something to wait for.
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
pub use qemu::{Qemu, on_path};
pub use transcript::Line;
