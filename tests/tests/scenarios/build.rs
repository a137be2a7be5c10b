//! The results of `iguana build`, seen from outside.

use anyhow::Result;
use iguana_lab::initrd::{self, Initrd};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::{lab_directory, program};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Bytes of the megabyte in the size goals.
const MB: u64 = 1_000_000;

fn size(file: &Path) -> Result<u64> {
    Ok(file.metadata()?.len())
}

#[test]
fn two_builds_are_identical() -> Result<()> {
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let home = tempfile::tempdir_in(lab_directory("initrd")?)?;
    let outputs = ["one.img", "two.img"].map(|name| home.path().join(name));
    for output in &outputs {
        process::run(initrd::command(&kernel, output).arg("--fresh"), LONG)?;
    }
    assert!(fs::read(&outputs[0])? == fs::read(&outputs[1])?, "the two initrds differ");
    Ok(())
}

#[test]
fn initrds_are_within_their_limits() -> Result<()> {
    assert!(size(&Initrd::bare(Flavour::Cloud)?.image)? < 16 * MB);
    assert!(size(&Initrd::bare(Flavour::Full)?.image)? < 42 * MB);
    Ok(())
}

#[test]
fn the_program_in_the_initrd_needs_no_libraries() -> Result<()> {
    let headers = process::run(Command::new("readelf").arg("-lW").arg(program("iguana-init")), QUICK)?;
    assert!(!headers.contains("INTERP"), "{headers}");
    Ok(())
}

#[test]
fn a_missing_kernel_is_an_error_with_a_hint() -> Result<()> {
    let mut build = Command::new(program("iguana"));
    build.args(["build", "--kernel", "/no/such/vmlinuz", "--output", "/dev/null"]);
    let error = process::run(&mut build, QUICK).unwrap_err().to_string();
    assert!(error.contains("/no/such/vmlinuz") && error.contains("hint:"), "{error}");
    Ok(())
}
