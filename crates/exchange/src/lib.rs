//! The files that both containers and the initrd write: `/iguana`, the step files, and the logs of services.
//!
//! Principles:
//!
//! 1. No other code opens such a file, and every access goes through [`untrusted_fs`]: by descriptor, without links,
//!    regular files only, with limits. Whatever a container puts in place of a file is never followed, waited for, or
//!    read without a limit.
//! 2. Containers that may hand over and all others have separate file systems ([`mount`]); result files of the others
//!    are ignored ([`Results`]).
//! 3. Nothing is printed here: the progress that containers report goes to a [`ProgressSink`].
//!
//! ```
//! # fn main() -> anyhow::Result<()> {
//! # let scratch = tempfile::tempdir()?;
//! // What the container runs, and where it writes its outputs.
//! let files = exchange::StepFiles::create(scratch.path(), "steps")?;
//! assert_eq!(files.write_script("step-1", "echo disk=sda >> $IGUANA_OUTPUT")?, "/run/iguana/step-1");
//! assert_eq!(files.read(exchange::StepFile::Output)?, b"");
//! # Ok(())
//! # }
//! ```
//!
//! Errors name the file, and carry a hint for the author of the workflow where one helps (crate `hint`).
//!
//! Specifications: tmpfs(5), openat2(2), fifo(7).
#![forbid(unsafe_code)]

mod log;
mod progress;
mod results;
mod shared;
mod step;

/// The directory that only Iguana writes to.
pub const OWN: &str = "/run/iguana";

pub use log::ServiceLog;
pub use progress::{LOG_LINE_COST, ProgressSink, Writers, log_cost};
pub use results::{KERNEL_ACTION, MOUNT_LIST, Results};
pub use shared::{
    Limits, Mounted, PATH as SHARED, Shared, is_mounted_below, is_of_containers, is_open_of_containers,
    is_own, lock, mount, release, show_own_to_container, volume,
};
pub use step::{INSIDE as STEP_INSIDE, StepFile, StepFiles};

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "this test reads the program's own text")]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn no_other_crate_of_the_initrd_names_a_path_of_the_containers() {
        let mut places = Vec::new();
        for name in ["iguana-init", "runtime"] {
            look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"), &mut places);
        }
        assert!(places.is_empty(), "open it in `exchange`: {places:#?}");
    }

    /// Collects the lines with the literal of such a path, from the part of each source file before its tests.
    fn look(directory: &Path, places: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, places);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let names =
                    |line: &&str| line.contains("\"/iguana") || line.contains("\"/run/iguana/services");
                places.extend(code.lines().filter(names).map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
}
