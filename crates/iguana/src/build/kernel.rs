//! Finds the kernel that an initrd is for.

use anyhow::{Context, Result, bail, ensure};
use hint::{WithHint, hinted};
use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Where distributions install kernels.
const BOOT: &str = "/boot";

/// Where distributions install the kernels' modules.
const MODULES: &str = "/lib/modules";

/// Prefix of kernel file names in [`BOOT`]; the version follows.
const PREFIX: &str = "vmlinuz-";

/// Bytes of a bootable file; the largest of distributions have 20 MB.
const IMAGE_LIMIT: u64 = 256 << 20;

/// A kernel and its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The kernel's `uname -r`.
    pub(crate) release: String,
    /// The bootable file, if it is known.
    pub(crate) image: Option<PathBuf>,
    /// The directory of its modules.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The kernel that `--kernel` (a file or a version) and `--modules` name. Without them, the newest installed
    /// kernel.
    pub(crate) fn find(kernel: Option<&Path>, modules: Option<&Path>) -> Result<Self> {
        match (kernel, modules) {
            (Some(kernel), _) if is_version(kernel) => {
                Ok(Self::of_version(&kernel.to_string_lossy(), modules))
            }
            (Some(image), _) => Self::of_image(image, modules),
            (None, Some(modules)) => Self::of_modules(modules),
            (None, None) => newest(Path::new(BOOT), Path::new(MODULES)),
        }
    }

    fn of_version(release: &str, modules: Option<&Path>) -> Self {
        let image = Some(Path::new(BOOT).join(format!("{PREFIX}{release}"))).filter(|image| image.exists());
        let modules = modules.map_or_else(|| Path::new(MODULES).join(release), Path::to_owned);
        Self { release: release.to_string(), image, modules }
    }

    fn of_image(image: &Path, modules: Option<&Path>) -> Result<Self> {
        let release = release_of(image)?;
        let modules = modules.map_or_else(|| modules_beside(image, &release), Path::to_owned);
        Ok(Self { release, image: Some(image.to_owned()), modules })
    }

    fn of_modules(modules: &Path) -> Result<Self> {
        let name = modules.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_string()));
        let release = name
            .with_context(|| format!("cannot find the kernel modules `{}`", modules.display()))
            .hint("`--modules` names a directory such as `/lib/modules/6.1.0-9-amd64`")?;
        Ok(Self::of_version(&release, Some(modules)))
    }

    /// The bootable file, open.
    pub(crate) fn open_image(&self) -> Result<File> {
        open(self.image()?)
    }

    fn image(&self) -> Result<&Path> {
        self.image.as_deref().ok_or_else(|| {
            hinted(
                format!("no bootable file of kernel `{}` found in `{BOOT}`", self.release),
                "give its path with `--kernel FILE`",
            )
        })
    }

    /// The content of the bootable file, which is checked again: another file may be in its place by now.
    pub(crate) fn read_image(&self) -> Result<Vec<u8>> {
        let image = self.image()?;
        let bytes = untrusted_fs::read_bounded(open(image)?, IMAGE_LIMIT)
            .with_context(|| format!("cannot read the kernel `{}`", image.display()))?;
        ensure!(!bytes.is_empty(), "the kernel `{}` is empty", image.display());
        release_in(&bytes).with_context(|| format!("cannot use `{}`", image.display()))?;
        Ok(bytes)
    }
}

/// Whether `kernel` is a version: it has no slash and no such file exists.
fn is_version(kernel: &Path) -> bool {
    !kernel.to_string_lossy().contains('/') && !kernel.exists()
}

/// The modules of an installed kernel, or of a package unpacked elsewhere, where `lib` is beside `boot`.
fn modules_beside(image: &Path, release: &str) -> PathBuf {
    let root = image.canonicalize().ok().and_then(|image| Some(image.parent()?.parent()?.to_owned()));
    let beside = root.map(|root| root.join("lib/modules").join(release));
    beside.filter(|directory| directory.is_dir()).unwrap_or_else(|| Path::new(MODULES).join(release))
}

/// The newest kernel in `boot` that is readable and has modules.
fn newest(boot: &Path, modules: &Path) -> Result<Kernel> {
    let mut releases = installed(boot);
    releases.sort_by(|a, b| compare_versions(b, a));
    let mut failure = None;
    for release in releases {
        let (image, modules) = (boot.join(format!("{PREFIX}{release}")), modules.join(&release));
        match open(&image) {
            Ok(_) if modules.is_dir() => return Ok(Kernel { release, image: Some(image), modules }),
            Ok(_) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        hinted(
            format!("no kernel with modules found in `{}`", boot.display()),
            "install one (`apt install linux-image-cloud-amd64`), or use `--kernel` and `--modules`",
        )
    }))
}

fn installed(boot: &Path) -> Vec<String> {
    let names = fs::read_dir(boot).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Some(name.to_str()?.strip_prefix(PREFIX)?.to_string())).collect()
}

/// Compares numbers in versions by value: 6.1.0-10 comes after 6.1.0-9.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| -> Vec<(u64, String)> {
        let starts = version.split(|letter: char| !letter.is_ascii_alphanumeric());
        starts.map(|part| (part.parse().unwrap_or(u64::MAX), part.to_string())).collect()
    };
    parts(a).cmp(&parts(b))
}

fn open(image: &Path) -> Result<File> {
    let shown = image.display();
    let opened = untrusted_fs::open_file(image);
    let hint = match &opened {
        Err(error) if is_denied(error) => format!(
            "some distributions make kernels readable only for root: run as root, or copy the file with \
             `sudo install -m 644 {shown} .` and use the copy with `--kernel`"
        ),
        _ => "choose a kernel with `--kernel FILE`".to_string(),
    };
    opened.with_context(|| format!("cannot read the kernel `{shown}`")).hint(hint)
}

fn is_denied(error: &untrusted_fs::Error) -> bool {
    matches!(error.cause(), untrusted_fs::Cause::Io(cause) if cause.kind() == ErrorKind::PermissionDenied)
}

/// The `uname -r` of the kernel in the file `image`.
fn release_of(image: &Path) -> Result<String> {
    let mut head = Vec::new();
    // The boot sector and the setup code have at most 65 sectors of 512 bytes.
    open(image)?
        .take(65 * 512)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read `{}`", image.display()))?;
    release_in(&head)
        .with_context(|| format!("cannot use `{}`", image.display()))
        .hint("`--kernel` takes a bootable x86 kernel such as `/boot/vmlinuz-6.1.0-9-amd64`")
}

/// Reads the release from the setup header (Documentation/arch/x86/boot.rst in the kernel's sources): 0x202 has the
/// magic `HdrS`, 0x20e the offset of the version string relative to 0x200. The string begins with the release and a
/// space.
fn release_in(head: &[u8]) -> Result<String> {
    let [magic @ .., low, high] = head.get(0x202..0x210).context("it is too short to be a kernel")? else {
        bail!("it is too short to be a kernel");
    };
    if !magic.starts_with(b"HdrS") {
        bail!("it is not a bootable x86 kernel (bzImage)");
    }
    let start = usize::from(u16::from_le_bytes([*low, *high])) + 0x200;
    let text = head.get(start..).context("its header is damaged")?;
    let release: Vec<u8> = text.iter().copied().take_while(|byte| *byte > b' ').collect();
    String::from_utf8(release)
        .ok()
        .filter(|release| !release.is_empty())
        .context("its header does not state a version")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Vec<u8> {
        let mut head = vec![0; 0x400];
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        head[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        head
    }

    #[test]
    fn the_release_is_in_the_header() {
        let head = image("6.1.0-9-amd64 (debian-kernel@lists.debian.org) #1 SMP");
        assert_eq!(release_in(&head).unwrap(), "6.1.0-9-amd64");
    }

    #[test]
    fn files_that_are_not_kernels_are_reported() {
        let told = |head: &[u8]| release_in(head).unwrap_err().to_string();
        assert_eq!(told(b"short"), "it is too short to be a kernel");
        assert_eq!(told(&[0; 0x400]), "it is not a bootable x86 kernel (bzImage)");
        assert_eq!(told(&image("")), "its header does not state a version");
        assert_eq!(told(&image("x")[..0x210]), "its header is damaged");
    }

    #[test]
    fn numbers_in_versions_are_numbers() {
        assert_eq!(compare_versions("6.1.0-10-amd64", "6.1.0-9-amd64"), Ordering::Greater);
        assert_eq!(compare_versions("5.19", "6.1"), Ordering::Less);
        assert_eq!(compare_versions("6.1.0-9-amd64", "6.1.0-9-cloud-amd64"), Ordering::Less);
    }

    #[test]
    fn the_newest_kernel_with_modules_is_used() {
        let root = tempfile::tempdir().unwrap();
        let (boot, modules) = (root.path().join("boot"), root.path().join("modules"));
        fs::create_dir_all(&boot).unwrap();
        for release in ["6.1.0-9", "6.1.0-10", "6.2.0-1"] {
            fs::write(boot.join(format!("vmlinuz-{release}")), image(release)).unwrap();
        }
        let error = newest(&boot, &modules).unwrap_err();
        assert!(error.to_string().starts_with("no kernel with modules found"), "{error}");
        for release in ["6.1.0-9", "6.1.0-10"] {
            fs::create_dir_all(modules.join(release)).unwrap();
        }
        assert_eq!(newest(&boot, &modules).unwrap().release, "6.1.0-10");
    }

    #[test]
    fn modules_are_found_next_to_an_unpacked_kernel() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("boot")).unwrap();
        let file = root.join("boot/vmlinuz-6.9");
        fs::write(&file, image("6.9 x")).unwrap();
        assert_eq!(Kernel::find(Some(&file), None).unwrap().modules, Path::new("/lib/modules/6.9"));
        fs::create_dir_all(root.join("lib/modules/6.9")).unwrap();
        assert_eq!(Kernel::find(Some(&file), None).unwrap().modules, root.join("lib/modules/6.9"));
    }
}
