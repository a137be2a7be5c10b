//! Machines whose firmware boots the results of `iguana build`. `cargo xtask ways` tests every boot method; this has
//! one of each kind, and Secure Boot.

use crate::POWER_OFF;
use anyhow::{Context, Result, ensure};
use iguana_lab::bundle::Workstation;
use iguana_lab::firmware::{Firmware, Owner};
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::way::{self, LIMIT, Way};
use iguana_lab::{lab_directory, program, scratch_directory};
use iguana_vm::{Disk, Echo, Machine, Network, Qemu};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn takes_the_way(way: Way, log: &str) -> Result<()> {
    let image = Recipe::script(&format!("echo first words\n{POWER_OFF}"))?.make(Maker::Spec)?;
    let mut journey = way.start(&image, log)?;
    journey.expect("first words")?;
    journey.expect("handover: power off")?;
    journey.ends().map(drop)
}

#[test]
fn an_iso_boots_with_a_bios() -> Result<()> {
    takes_the_way(Way::IsoBios, "media-iso-bios")
}

#[test]
fn a_machine_boots_from_its_network_interface() -> Result<()> {
    takes_the_way(Way::PxeBios, "media-pxe-bios")
}

/// Builds a stick, signed by `signer`, that runs the container at `reference`.
fn stick(path: &Path, reference: &str, signer: Option<&Owner>) -> Result<PathBuf> {
    way::build("usb", &cmdline(reference), path, &signer.map(signing).unwrap_or_default())?;
    Ok(path.to_owned())
}

fn cmdline(reference: &str) -> String {
    format!("console=ttyS0 panic=-1 rd.iguana.on_failure=poweroff rd.iguana.containers={reference}")
}

fn signing(owner: &Owner) -> Vec<std::ffi::OsString> {
    vec!["--sign-key".into(), owner.key().into(), "--sign-cert".into(), owner.certificate().into()]
}

/// Changes a letter of the signed command line.
fn changed(original: &Path, path: &Path, reference: &str) -> Result<PathBuf> {
    let mut bytes = fs::read(original)?;
    let words = cmdline(reference).into_bytes();
    let place = bytes.windows(words.len()).position(|window| window == words);
    let place = place.context("the command line is not on the stick")?;
    bytes[place] = b'k';
    fs::write(path, bytes)?;
    Ok(path.to_owned())
}

/// The machine gets four sticks, one after another.
#[test]
fn secure_boot_starts_only_what_its_owner_signed() -> Result<()> {
    let (owner, stranger) = (Owner::named("owner")?, Owner::named("stranger")?);
    let home = scratch_directory("media")?;
    let at = |name: &str| home.path().join(name);
    let registry = Registry::plain()?;
    let reference = registry.push_recipe(Recipe::script(POWER_OFF)?, "job")?;
    let good = stick(&at("good"), &reference, Some(&owner))?;
    let sticks = [
        stick(&at("unsigned"), &reference, None)?,
        stick(&at("foreign"), &reference, Some(&stranger))?,
        changed(&good, &at("changed"), &reference)?,
        good,
    ];
    let firmware = Firmware::trusting(&owner)?;
    let machine = Machine {
        extra: firmware.arguments().into_iter().map(Into::into).collect(),
        ..Machine::from_disks(sticks.iter().map(Disk::raw).collect())
    };
    let log = lab_directory("logs")?.join("media-secure-boot.log");
    let mut console = Qemu::find()?.start(&machine, &log, Echo::Silent)?;
    for _ in 0..sticks.len() - 1 {
        console.expect("Access Denied", LIMIT)?;
    }
    console.expect("Secure boot enabled", LIMIT)?;
    console.expect("handover: power off", LIMIT)?;
    console.wait_exit(LIMIT)?;
    let started = console.lines().iter().filter(|line| line.text.contains("Linux version")).count();
    ensure!(started == 1, "{started} kernels were started");
    Ok(())
}

#[test]
fn another_tool_accepts_the_signature() -> Result<()> {
    let (owner, stranger) = (Owner::named("owner")?, Owner::named("stranger")?);
    let home = scratch_directory("media")?;
    let image = home.path().join("iguana.efi");
    way::build("uki", "quiet", &image, &signing(&owner))?;
    let verify = |owner: &Owner| {
        let mut verify = Command::new("sbverify");
        process::run(verify.arg("--cert").arg(owner.certificate()).arg(&image), QUICK)
    };
    verify(&owner)?;
    assert!(verify(&stranger).is_err());
    Ok(())
}

#[test]
fn two_builds_of_each_format_are_identical() -> Result<()> {
    let home = scratch_directory("media")?;
    for format in ["uki", "iso", "usb", "pxe"] {
        let [one, two] = ["one", "two"].map(|name| home.path().join(format!("{format}-{name}")));
        for output in [&one, &two] {
            way::build(format, "quiet", output, &[])?;
        }
        process::run(Command::new("diff").arg("-r").args([one, two]), QUICK).context(format)?;
    }
    Ok(())
}

/// Boots a machine without a network from a disc; returns its console output.
fn disc_says(image: &Path, texts: &[&str], log: &str) -> Result<String> {
    let mut machine =
        Machine { memory_mib: 512, network: Network::Absent, ..Machine::from_disks(Vec::new()) };
    // Without a screen the BIOS redirects GRUB's output to the serial line.
    let words = [way::disc(image), vec!["-machine".into(), "graphics=off".into()]].concat();
    machine.extra = words.into_iter().map(Into::into).collect();
    let mut console = Qemu::find()?.start(&machine, &lab_directory("logs")?.join(log), Echo::Silent)?;
    texts.iter().try_for_each(|text| console.expect(text, LIMIT).map(drop))?;
    console.wait_exit(LIMIT)?;
    Ok(console.lines().iter().map(|line| format!("{}\n", line.text)).collect())
}

/// The complete disc, and the same one truncated as by an interrupted download.
#[test]
fn an_iso_is_complete_and_detects_truncation() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&Recipe::script(&format!("echo first words\n{POWER_OFF}"))?.make(Maker::Spec)?, "job")?;
    let workstation = Workstation::using(&registry)?;
    let bundle = workstation.bundle(&registry, "jobs: {job: {container: REGISTRY/job}}", "install.tar")?;
    drop(registry);
    let whole = workstation.path("whole.iso");
    let cmdline = "console=ttyS0 panic=-1 ip=off rd.iguana.on_failure=poweroff \
                   rd.iguana.control_url=hd:LABEL=IGUANA:/install.tar";
    way::build("iso", cmdline, &whole, &["--add".into(), bundle.clone().into()])?;
    disc_says(&whole, &["is a bundle", "first words", "handover: power off"], "media-disc.log")?;

    let cut = workstation.path("cut.iso");
    let (disc, bundle) = (fs::read(&whole)?, fs::read(&bundle)?);
    let bundle_starts = disc.windows(512).position(|window| window == &bundle[..512]).context("no bundle")?;
    for length in [disc.len() / 4, bundle_starts + bundle.len() / 2] {
        fs::write(&cut, &disc[..length])?;
        let told = ["/iguana/initrd cannot be read whole", "rebooting in 10 s"];
        let said = disc_says(&cut, &told, "media-disc-cut.log")?;
        assert!(!said.contains("iguana: workflow"), "{said}");
    }
    Ok(())
}

/// The error of `iguana build` for `kernel`.
fn failure(kernel: &Path, change: impl FnOnce(&mut Command)) -> Result<String> {
    let mut build = Command::new(program("iguana"));
    build.args(["build", "--output", "/dev/null", "--kernel"]).arg(kernel);
    change(build.arg("--modules").arg(Kernel::debian(Flavour::Cloud)?.modules));
    Ok(format!("{:#}", process::run(&mut build, LONG).err().context("it does not fail")?))
}

fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "no `{word}` in {said}"));
}

#[test]
fn conflicting_options_are_reported() -> Result<()> {
    let (owner, stranger) = (Owner::named("owner")?, Owner::named("stranger")?);
    let kernel = Kernel::debian(Flavour::Cloud)?.image;
    let mixed = [owner.key(), stranger.certificate()];
    let said = failure(&kernel, |build| {
        build.args(["--format", "uki", "--sign-key"]).arg(&mixed[0]).arg("--sign-cert").arg(&mixed[1]);
    })?;
    says(&said, &["does not match the certificate", "hint: ", "openssl"]);
    let said = failure(&kernel, |build| {
        build.args(["--format", "uki", "--sign-key", "/none", "--sign-cert", "/none"]);
    })?;
    says(&said, &["cannot read the key `/none`", "hint: "]);
    let said = failure(&kernel, |build| _ = build.args(["--cmdline", "quiet"]))?;
    says(&said, &["`--cmdline` cannot be used with `--format initrd`", "hint: "]);
    Ok(())
}

#[test]
fn a_truncated_kernel_is_reported() -> Result<()> {
    let home = scratch_directory("media")?;
    let cut = home.path().join("vmlinuz");
    let whole = fs::read(Kernel::debian(Flavour::Cloud)?.image)?;
    for length in [100, 1000, 1 << 20] {
        fs::write(&cut, &whole[..length])?;
        let said = failure(&cut, |build| _ = build.args(["--format", "uki"]))?;
        says(&said, &["iguana: error: ", "hint: "]);
    }
    Ok(())
}

#[test]
fn a_missing_tool_is_reported_with_its_package() -> Result<()> {
    let home = scratch_directory("media")?;
    let kernel = Kernel::debian(Flavour::Cloud)?.image;
    for (format, tool, package) in [("iso", "xorriso", "xorriso"), ("usb", "mformat", "mtools")] {
        let bin = home.path().join(format);
        fs::create_dir(&bin)?;
        for needed in ["mksquashfs", "grub-mkimage"] {
            let found = iguana_vm::on_path(needed).with_context(|| format!("`{needed}` on the PATH"))?;
            std::os::unix::fs::symlink(found, bin.join(needed))?;
        }
        let said = failure(&kernel, |build| _ = build.args(["--format", format]).env("PATH", &bin))?;
        says(
            &said,
            &[&format!("`{tool}` is not on the PATH"), &format!("hint: install the package `{package}`")],
        );
    }
    Ok(())
}
