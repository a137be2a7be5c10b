//! `iguana pull`: fetches an image and unpacks its tree into a directory, in the same way as a boot.

mod progress;

use crate::build::inputs;
use crate::caller;
use crate::output;
use crate::output_file;
use anyhow::{Context, Result};
use clap::Args;
use config::rules::Rules;
use config::trust::Trust;
use fetch::http::Proxies;
use fetch::tls::{RegistryCertificates, Roots};
use hint::hinted;
use oci_layer::{Store, Unlimited};
use oci_pull::{Caller, Finder, Puller, Registries, settle};
use oci_reference::{Machine, Reference};
use oci_trust::attachments::Attachments;
use oci_trust::policy::Policy;
use rustix::fs::{Mode, OFlags, Stat, fstat, openat};
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use trust_directory::Files;
use untrusted_fs::Directory;

/// Directory in the target in which layers are unpacked. It is on the same file system, so moving layers costs
/// nothing.
const STORE: &str = ".iguana-pull";
/// Mode of [`STORE`]: only its owner may enter.
const STORE_MODE: u32 = 0o700;
/// inode(7), `S_IXGRP` and `S_IXOTH`. With an access control list the first is the most that it grants (acl(5)).
const EXECUTABLE_BY_OTHERS: u32 = 0o011;
/// Directories above one another that are looked at: PATH_MAX has room for half as many names.
const LEVELS_LIMIT: usize = 4096;
/// The directory that mkfs.ext4 creates in every new file system.
const LOST_AND_FOUND: &str = "lost+found";

/// What to pull.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The image: a name in a registry, `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, or `docker-archive:FILE[:REFERENCE]`
    image: Reference,
    /// The directory to unpack into: empty, or created if it does not exist
    directory: PathBuf,
    /// The platform to select from a multi-platform image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Machine>,
    /// Write the digest of the image's manifest to this file
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,
    /// The trust directory: keys, policies, registries and certificates; create one with `iguana trust init`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["authorities", "registries", "logins", "certificates"])]
    trust: Option<PathBuf>,
    /// A trusted CA certificate, in PEM; can be repeated [default: those of this machine]
    #[arg(long = "ca", value_name = "FILE")]
    authorities: Vec<PathBuf>,
    /// A registries.conf with mirrors and insecure registries, see containers-registries.conf(5) [default: the file in
    /// CONTAINERS_REGISTRIES_CONF]
    #[arg(long, value_name = "FILE")]
    registries: Option<PathBuf>,
    /// An auth.json with logins for registries, see containers-auth.json(5) [default: the file in REGISTRY_AUTH_FILE, or
    /// else those of podman and docker]
    #[arg(long = "auth", value_name = "FILE")]
    logins: Option<PathBuf>,
    /// A directory with certificates for individual registries, see containers-certs.d(5)
    #[arg(long = "certs", value_name = "DIR")]
    certificates: Option<PathBuf>,
}

/// Pulls the image, and prints the digest of its manifest.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure_root()?;
    let room = PullTarget::prepare(&options.directory)?;
    let puller = options.puller(&room)?;
    let image = {
        let mut teller = progress::ProgressPrinter::new(&options.image);
        let pulled = puller.pull(&options.image, None, &Unlimited, &mut |event| teller.tell(event));
        pulled.with_context(|| format!("cannot pull the image `{}`", options.image))?
    };
    let digest = image.approval().manifest();
    let is_closed = is_closed_to_others(&room.directory);
    settle(image, &room.directory)
        .and_then(|()| room.leave())
        .with_context(|| format!("cannot unpack into `{}`", options.directory.display()))?;
    if let Some(file) = &options.digest_file {
        let written = output_file::write(file, output_file::PUBLIC, digest.to_string().as_bytes());
        written.with_context(|| format!("cannot write the digest to `{}`", file.display()))?;
    }
    output::say(digest);
    if !is_closed {
        output::note(format_args!(
            "note: other users can enter `{}`: also what the image has there with set-user-ID, and its devices",
            options.directory.display()
        ));
    }
    Ok(())
}

/// Whether a directory above this one lets only its owner in, who is this user or root. The directory itself gets the
/// mode that the image gives it.
fn is_closed_to_others(directory: &Directory) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let is_closed = |found: &Stat| {
        (found.st_uid == user || found.st_uid == 0) && found.st_mode & EXECUTABLE_BY_OTHERS == 0
    };
    let Ok(mut here) = directory.as_fd().try_clone_to_owned() else { return false };
    for _ in 0..LEVELS_LIMIT {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(above) = openat(&here, "..", flags, Mode::empty()) else { return false };
        let (Ok(below), Ok(found)) = (fstat(&here), fstat(&above)) else { return false };
        if (found.st_dev, found.st_ino) == (below.st_dev, below.st_ino) {
            return false;
        }
        if is_closed(&found) {
            return true;
        }
        here = above;
    }
    false
}

impl Options {
    fn puller(&self, room: &PullTarget) -> Result<Puller> {
        let proxies = Proxies::from_environment(|name| std::env::var(name).ok())?;
        let trust = match &self.trust {
            Some(directory) => caller::with_logins(Trust::open(directory)?),
            None => self.trust_of_options()?,
        };
        let machine = self.platform.clone().unwrap_or_else(Machine::this);
        let finder = trust.finder(trust.client().through(proxies), machine);
        Ok(Puller {
            finder: Finder { caller: Caller::Pull, ..finder },
            store: Store::within(room.store()?),
            progress_every: progress::interval(),
        })
    }

    /// The trust from the single options: every certificate of the authorities is accepted, and no signature is
    /// required.
    fn trust_of_options(&self) -> Result<Trust> {
        let mut roots = Vec::new();
        for (_, authority) in inputs::authorities(&self.authorities)? {
            roots.extend_from_slice(&authority.bytes);
            roots.push(b'\n');
        }
        let certificates = match &self.certificates {
            Some(directory) => {
                inputs::certificates(directory)?;
                RegistryCertificates::from_files(&Files::of(directory)?)?
            }
            None => RegistryCertificates::default(),
        };
        let registries = match self.registries.clone().or_else(caller::registries) {
            Some(file) => inputs::parsed_registries(&file)?,
            None => Registries::default(),
        };
        let logins = match &self.logins {
            Some(file) => inputs::parsed_logins(file)?,
            None => caller::logins(),
        };
        let logins = caller::with_helpers(logins, &registries);
        Ok(Trust {
            roots: if roots.is_empty() { Roots::default() } else { Roots::from_pem(&roots)? },
            certificates,
            registries,
            logins,
            policy: Policy::absent(),
            attachments: Attachments::default(),
            rules: Rules::default(),
        })
    }
}

/// Fails unless run as root: files get the owners, devices and attributes of the image, which only root may set.
fn ensure_root() -> Result<()> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        return Ok(());
    }
    Err(hinted(
        "only root can create the files of an image, which have owners, device nodes and capabilities",
        "run it with `sudo`, or in a user namespace: `unshare --map-auto --map-root-user iguana pull …`",
    ))
}

/// The target directory, and the store in it, which is removed when this value is dropped. Others may be able to
/// write to the target, but not to the store. Both are descriptors, so later changes of their paths have no effect.
struct PullTarget {
    directory: Directory,
}

impl PullTarget {
    fn prepare(directory: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the directory `{}`", directory.display());
        let room = Self { directory: output_file::open_directory(directory)? };
        let names = room.directory.names(usize::MAX).with_context(cannot)?;
        if let Some(name) = names.iter().find(|name| *name != LOST_AND_FOUND && *name != STORE) {
            return Err(hinted(
                format!("`{}` is not empty: it contains `{}`", directory.display(), name.display()),
                "choose a directory that is empty or does not exist",
            ));
        }
        // An earlier pull that was killed may have left files.
        room.clear();
        Ok(room)
    }

    fn store(&self) -> Result<Directory> {
        self.directory.create_directory(STORE, STORE_MODE).context("cannot create a directory for the layers")
    }

    /// Finishes the directory: restores the modification time that the image gives it.
    fn leave(self) -> Result<()> {
        let directory = fs::File::from(self.directory.as_fd().try_clone_to_owned()?);
        let time = directory.metadata()?.modified()?;
        self.clear();
        Ok(directory.set_modified(time)?)
    }

    fn clear(&self) {
        // If the store stays, the next pull reports why.
        let _ = self.directory.remove(STORE);
    }
}

impl Drop for PullTarget {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    #[test]
    fn a_directory_is_closed_by_one_above_it_that_only_this_user_or_root_can_enter() {
        // Not in a directory that may be closed itself.
        let outer = tempfile::tempdir_in("/dev/shm").unwrap();
        let (middle, target) = (outer.path().join("m"), outer.path().join("m/t"));
        fs::create_dir_all(&target).unwrap();
        let is_closed = |outer_mode, middle_mode| {
            fs::set_permissions(outer.path(), Permissions::from_mode(outer_mode)).unwrap();
            fs::set_permissions(&middle, Permissions::from_mode(middle_mode)).unwrap();
            is_closed_to_others(&Directory::open(&target).unwrap())
        };
        assert!(!is_closed(0o755, 0o755) && !is_closed(0o710, 0o755) && !is_closed(0o755, 0o701));
        assert!(is_closed(0o700, 0o755) && is_closed(0o755, 0o744));
        fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
        assert!(!is_closed(0o755, 0o755), "the image decides the mode of its own directory");
        if rustix::process::geteuid().is_root() {
            chown(&middle, Some(65534), None).unwrap();
            assert!(!is_closed(0o755, 0o700), "it belongs to another user");
        }
    }
}
