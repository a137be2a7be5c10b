//! The systems that the installers install, and what they are packed in. Each is made once, and cached.

use super::salt;
use crate::cached;
use crate::disk::{Disk, Part};
use crate::firmware::Owner;
use crate::kernel::{Flavour, Kernel};
use crate::packages;
use crate::payload;
use crate::process::{self, LONG};
use crate::source_tree;
use anyhow::Result;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size in MiB of the root in the image of a disk.
const ROOT_MIB: u64 = 512;
/// The version of this file's products in the cache.
const VERSION: u32 = 1;

/// A file that the lab makes for an installer.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// A Debian with systemd and without a kernel, `.tar.zst`.
    Debian,
    /// The same, `.tar`.
    DebianTar,
    /// A Debian with a kernel, which starts by itself, `.tar.zst`.
    DebianWithKernel,
    /// The image of a disk, on which the root is found by its partition type; packed by gzip.
    DiskGz,
    /// The map of its blocks, for bmaptool.
    DiskBmap,
    /// The image of the disk packed by xz.
    DiskXz,
    /// The image of a disk whose system cloud-init configures; packed by gzip.
    CloudGz,
    /// An update for SWUpdate with that image, signed by [`UPDATES`].
    Update,
    /// The certificate of [`UPDATES`].
    UpdateCertificate,
    /// Salt as pip installs it, `.tar`.
    Salt,
    /// The program `coreos-installer`, from crates.io.
    CoreosInstaller,
}

impl Payload {
    pub(super) fn file(self) -> Result<PathBuf> {
        match self {
            Payload::Debian => payload::plain_debian("tar.zst"),
            Payload::DebianTar => payload::plain_debian("tar"),
            Payload::DebianWithKernel => payload::installed_debian(&Kernel::debian(Flavour::Cloud)?),
            Payload::DiskGz => gzipped(&disk()?, "disk.raw.gz"),
            Payload::CloudGz => {
                gzipped(&disk_with("cloud.raw", &payload::cloud_debian("tar")?)?, "cloud.raw.gz")
            }
            Payload::DiskXz => {
                made("disk.raw.xz", |target| shell("xz -0 --check=crc32 < \"$0\" > \"$1\"", &disk()?, target))
            }
            Payload::DiskBmap => {
                packages::ensure(&["bmap-tools"])?;
                made("disk.raw.bmap", |target| {
                    shell("bmaptool --quiet create \"$0\" > \"$1\"", &disk()?, target)
                })
            }
            Payload::Update => update(),
            Payload::UpdateCertificate => Ok(Owner::named(UPDATES)?.certificate()),
            Payload::Salt => salt::packed(),
            Payload::CoreosInstaller => coreos_installer(),
        }
    }
}

/// The image of a disk with the plain Debian.
fn disk() -> Result<PathBuf> {
    disk_with("disk.raw", &payload::plain_debian("tar")?)
}

/// The image of a disk with a GPT and a root of the type for x86-64.
fn disk_with(name: &str, tar: &Path) -> Result<PathBuf> {
    made(name, |target| {
        let root = tempfile::tempdir()?;
        process::run(Command::new("tar").arg("-xpf").arg(tar).arg("-C").arg(root.path()), LONG)?;
        let row = "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root";
        let disk = Disk::gpt(&[Part { mib: ROOT_MIB, row, directory: root.path() }])?;
        let mut copy = Command::new("cp");
        process::run(copy.arg("--sparse=always").arg(disk.image()).arg(target), LONG).map(drop)
    })
}

fn gzipped(image: &Path, name: &str) -> Result<PathBuf> {
    made(name, |target| shell(r#"gzip --fast < "$0" > "$1""#, image, target))
}

/// Who signs updates.
const UPDATES: &str = "updates";

/// Packs an update (SWUpdate's manual, "Update images from verified source"): the description, its signature, the image.
const PACK_UPDATE: &str = r#"
cd "$(mktemp -d)"
cp "$0" disk.raw.gz
sed "s/SHA256/$(sha256sum < disk.raw.gz | cut -d ' ' -f 1)/" "$2" > sw-description
openssl cms -sign -in sw-description -out sw-description.sig -signer "$3" -inkey "$4" -outform DER -nosmimecap -binary
printf '%s\n' sw-description sw-description.sig disk.raw.gz | cpio --quiet -o -H crc > "$1"
rm -r "$PWD"
"#;

fn update() -> Result<PathBuf> {
    let (disk, owner) = (Payload::DiskGz.file()?, Owner::named(UPDATES)?);
    let description = source_tree().join("examples/installers/swupdate/sw-description");
    made(&format!("update-{:016x}.swu", hash(std::fs::read(&description)?)), |target| {
        let mut pack = Command::new("sh");
        pack.args(["-ec", PACK_UPDATE]).arg(&disk).arg(target).arg(&description);
        process::run(pack.args([owner.certificate(), owner.key()]), LONG).map(drop)
    })
}

/// The program as its maker publishes it, without optimization, which takes longer than what it saves.
fn coreos_installer() -> Result<PathBuf> {
    packages::ensure(&["libssl-dev", "libzstd-dev", "pkg-config"])?;
    made("coreos-installer", |target| {
        let home = tempfile::tempdir()?;
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["install", "--locked", "--quiet", "--root"])
            .arg(home.path())
            .arg("coreos-installer@0.27.0");
        cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        process::run(&mut cargo, BUILD)?;
        Ok(std::fs::copy(home.path().join("bin/coreos-installer"), target).map(drop)?)
    })
}

/// The time limit for building an installer of 300 crates on two busy cores.
const BUILD: std::time::Duration = std::time::Duration::from_secs(1800);

/// The file of that name, which `make` writes.
fn made(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let home = cached("installers", &format!("{name}-{VERSION}"), |home| make(&home.join(name)))?;
    Ok(home.join(name))
}

/// A part of a name in the cache, for what a product depends on.
fn hash(input: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    hasher.finish()
}

fn shell(script: &str, from: &Path, to: &Path) -> Result<()> {
    process::run(Command::new("sh").args(["-ec", script]).arg(from).arg(to), LONG).map(drop)
}

/// An archive with the content of `tar` in `directory`, as ADD unpacks it there.
pub(super) fn below(tar: &Path, directory: &str) -> Result<PathBuf> {
    let directory = directory.trim_matches('/');
    made(&format!("{}-{:016x}.tar", directory.replace('/', "-"), hash(tar)), |target| {
        let home = tempfile::tempdir()?;
        let root = home.path().join(directory);
        std::fs::create_dir_all(&root)?;
        process::run(Command::new("tar").arg("-xpf").arg(tar).arg("-C").arg(&root), LONG)?;
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(home.path()).arg("--numeric-owner").arg("-cf").arg(target).arg(directory);
        process::run(&mut pack, LONG).map(drop)
    })
}
