//! Whatever containers and the machine's side both write: `/iguana`, what a step and the machine tell each other, logs
//! of services. The only code that opens such a file, and all of it goes through [`untrusted_fs`]: by descriptor, no
//! links, regular files, bounded; nothing that a container puts in a file's place is followed, waited for, or read
//! without a limit.

mod log;
mod progress;
mod results;
mod shared;
mod step;

/// What Iguana alone writes to.
const OWN: &str = "/run/iguana";

pub(crate) use log::ServiceLog;
pub(crate) use results::{KERNEL_ACTION, MOUNT_LIST, Results};
pub(crate) use shared::{
    Limits, PATH as SHARED, is_of_containers, is_open_of_containers, lock, mount, release,
    show_own_to_container, volume,
};
pub(crate) use step::{INSIDE as STEP_INSIDE, OUTPUT, OUTPUT_INSIDE, StepFiles};

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "this test reads the program's own text")]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn no_other_module_names_a_path_of_the_containers() {
        let mut places = Vec::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        look(&source, &mut places);
        assert!(places.is_empty(), "open it in `exchange`: {places:#?}");
    }

    /// The lines before a file's tests that have such a path as a literal.
    fn look(directory: &Path, places: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().unwrap() != "exchange" {
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
