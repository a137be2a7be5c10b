//! The input files of a build. They are all read and checked before anything is built.

use crate::check;
use crate::output;
use crate::output::Color;
use crate::trust;
use anyhow::{Context, Result, ensure};
use config::trust::{OF_SYSTEMS, Trust};
use config::workflow_trust::Provenance;
use fetch::http::DOCUMENT_LIMIT;
use fetch::tls::{Certificates, Roots};
use hint::{WithHint, hinted};
use iguana_vm::on_path;
use object::elf::{EM_X86_64, PT_INTERP};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use oci_pull::{Logins, Registries};
use oci_reference::Digest;
use oci_trust::pins::Lock;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::stderr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use trust_directory::FILE_LIMIT;
use trust_directory::Files;

/// Where the package installs the program of the initrd.
const INSTALLED_INIT: &str = "/usr/lib/iguana/iguana-init";

/// Bytes of one input file. The largest real one, a busybox with all applets, has a few MB.
const INPUT_LIMIT: u64 = 256 << 20;
/// The permission bit that lets others read (inode(7), `S_IROTH`).
const READABLE_BY_ALL: u32 = 0o004;

/// A file's content and modification time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// The whole content.
    pub(crate) bytes: Vec<u8>,
    /// Modification time in Unix seconds.
    pub(crate) mtime: i64,
    /// Whether everyone may read the file. Only then may everyone read the output that contains it.
    pub(crate) is_public: bool,
}

impl Input {
    fn read(what: &str, path: &Path) -> Result<Self> {
        let read = || Self::of(untrusted_fs::open_file(path)?, INPUT_LIMIT);
        read().with_context(|| format!("cannot read {what} `{}`", path.display()))
    }

    /// Reads an open file, not its path: another file may have replaced it in the meantime.
    pub(crate) fn of(file: File, limit: u64) -> Result<Self> {
        let found = file.metadata()?;
        Ok(Self::new(untrusted_fs::read_bounded(file, limit)?, &found))
    }

    /// The content of an open file, and what fstat(2) says of that file.
    pub(crate) fn new(bytes: Vec<u8>, found: &Metadata) -> Self {
        Self { bytes, mtime: found.mtime(), is_public: found.mode() & READABLE_BY_ALL != 0 }
    }

    fn text(&self, what: &str, path: &Path) -> Result<&str> {
        std::str::from_utf8(&self.bytes).with_context(|| format!("{what} `{}` is not text", path.display()))
    }
}

/// The workflow to bundle. Its findings are written to standard error.
pub(crate) fn workflow(path: &Path) -> Result<Input> {
    let input = Input::read("the workflow", path).hint("`--workflow` takes a YAML file")?;
    let checked = workflow::check(&input.bytes);
    let is_styled = Color::Auto.is_for(&stderr());
    output::write_lines(stderr(), &check::blocks(&path.display().to_string(), &checked, is_styled))?;
    // Mistakes are errors here: on a machine without an operator nobody could correct them.
    match checked.plan {
        Some(_) => Ok(input),
        None => Err(hinted(format!("`{}` is not a workflow", path.display()), "correct the errors above")),
    }
}

/// The lock file beside a bundled workflow, if there is one; `text` is the workflow. If the trust demands digests, the
/// lock file must have all images of the workflow; otherwise the machine would refuse to run it.
pub(crate) fn lock(workflow: &Path, text: &[u8], trust: Option<&Path>) -> Result<Option<Input>> {
    let path = trust::beside(workflow, ".lock");
    let there = trust::open_beside(workflow, ".lock")?;
    let lock = there.map(|file| Input::of(file, DOCUMENT_LIMIT)).transpose();
    let lock = lock.with_context(|| format!("cannot read the lock file `{}`", path.display()))?;
    let name = workflow.display().to_string();
    if let Some(lock) = &lock {
        let lock = Lock::parse(&lock.bytes)
            .with_context(|| format!("cannot read the lock file `{}`", path.display()))?;
        let serial = workflow::check(text).into_plan(&name).or_hint(check::REMEDY)?.serial;
        lock.check_workflow(Digest::of(text), serial)
            .with_context(|| format!("cannot use `{}`", path.display()))?;
    }
    if let Some(directory) = trust {
        let trust = Trust::open(directory)?;
        trust::examine_as(Provenance::Initrd, &name, text, &trust)
            .with_context(|| format!("`{name}` would not be allowed to run"))?;
    }
    Ok(lock)
}

/// The text of containers-registries.conf(5) for an initrd.
pub(super) fn registries(path: &Path) -> Result<Input> {
    let (input, parsed) = read_registries(path)?;
    parsed.ignored_helpers().for_each(|warning| warn(path, &warning));
    Ok(input)
}

/// The content of containers-registries.conf(5) for a command of this program.
pub(crate) fn parsed_registries(path: &Path) -> Result<Registries> {
    Ok(read_registries(path)?.1)
}

fn read_registries(path: &Path) -> Result<(Input, Registries)> {
    let input = Input::read("the registries", path)?;
    let parsed = Registries::parse(input.text("registries.conf", path)?);
    let parsed = or_see("containers-registries.conf(5) describes the format", parsed)
        .with_context(|| format!("cannot use the registries in `{}`", path.display()))?;
    parsed.warnings().iter().for_each(|warning| warn(path, warning));
    Ok((input, parsed))
}

/// The text of containers-auth.json(5) for an initrd. A login that is not usable there matters only for its registry.
pub(super) fn logins(path: &Path) -> Result<Input> {
    let (input, parsed) = read_logins(path)?;
    warn_of_unusable(&parsed, path);
    Ok(input)
}

/// Reports the logins of a file that an initrd cannot use.
pub(crate) fn warn_of_unusable(logins: &Logins, path: &Path) {
    for error in logins.unusable() {
        let hint = hint::of(&error).map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        warn(path, &format!("{error:#}{hint}"));
    }
}

/// The content of containers-auth.json(5) for a command of this program.
pub(crate) fn parsed_logins(path: &Path) -> Result<Logins> {
    Ok(read_logins(path)?.1)
}

fn read_logins(path: &Path) -> Result<(Input, Logins)> {
    let input =
        Input::read("the logins", path).hint("`--auth` takes an auth.json as written by `skopeo login`")?;
    let parsed = Logins::parse(input.text("auth.json", path)?);
    let parsed = or_see("containers-auth.json(5) describes the format", parsed)
        .with_context(|| format!("cannot use the logins in `{}`", path.display()))?;
    Ok((input, parsed))
}

fn warn(path: &Path, text: &str) {
    output::note(format_args!("warning: {}: {text}", path.display()));
}

/// The files of a directory in the format of containers-certs.d(5), by relative path.
pub(crate) fn certificates(directory: &Path) -> Result<Vec<(String, Input)>> {
    let expected = "`--certs` takes a directory with subdirectories named `HOST` or `HOST:PORT`, see \
                    containers-certs.d(5)";
    ensure!(
        directory.is_dir(),
        hinted(format!("cannot read the directory `{}`", directory.display()), expected)
    );
    let (top, mut found) = (Files::of(directory)?, Vec::new());
    for registry in top.names().hint(expected)? {
        let (home, below) = (directory.join(&registry), top.directory(&registry));
        if !top.has_directory(&registry) {
            let message = format!("`{}` is not named after a registry", home.display());
            return Err(hinted(message, expected));
        }
        let files = below.names()?.into_iter().filter(|name| is_certificate_or_key(name));
        let read = |name: String| {
            let file = below.open(&name)?.with_context(|| format!("`{name}` no longer exists"))?;
            anyhow::Ok((name, Input::of(file, FILE_LIMIT)?))
        };
        let files = files.map(read).collect::<Result<Vec<_>>>();
        let files = files.with_context(|| format!("cannot read the certificates in `{}`", home.display()))?;
        let contents = files.iter().map(|(name, input)| (name.clone(), input.bytes.clone())).collect();
        let kinds = "`*.crt` are CA certificates, `NAME.cert` and `NAME.key` a client certificate and its key; all \
             in PEM";
        or_see(kinds, Certificates::of_files(&contents))
            .with_context(|| format!("cannot use the certificates in `{}`", home.display()))?;
        found.extend(files.into_iter().map(|(name, input)| (format!("{registry}/{name}"), input)));
    }
    Ok(found)
}

/// The files of a trust directory, by relative path.
pub(crate) fn trust(directory: &Path) -> Result<Vec<(String, Input)>> {
    let fails = || format!("cannot use the trust directory `{}`", directory.display());
    let files = trust::files(directory).with_context(fails)?;
    let read = |(path, file): (String, File)| {
        let input = Input::of(file, FILE_LIMIT);
        Ok((
            path,
            input.with_context(|| {
                format!("cannot read a file of the trust directory `{}`", directory.display())
            })?,
        ))
    };
    files.into_iter().map(read).collect()
}

fn is_certificate_or_key(name: &str) -> bool {
    matches!(Path::new(name).extension().and_then(OsStr::to_str), Some("crt" | "cert" | "key"))
}

/// Adds a general hint to a failure that has no hint of its own.
fn or_see<T>(general: &str, result: Result<T>) -> Result<T> {
    result.or_else(|error| match hint::of(&error) {
        Some(_) => Err(error),
        None => Err(error).hint(general),
    })
}

/// Trusted CA certificates by name: those of `paths`, or else those of the workstation, which may have none.
pub(crate) fn authorities(paths: &[PathBuf]) -> Result<Vec<(String, Input)>> {
    let workstation = OF_SYSTEMS.iter().map(PathBuf::from).find(|path| path.exists());
    let paths = match paths {
        [] => workstation.as_slice(),
        named => named,
    };
    let mut names = BTreeSet::new();
    paths.iter().map(|path| Ok((unused_name(path, &mut names), authority(path)?))).collect()
}

fn authority(path: &Path) -> Result<Input> {
    let input = Input::read("the CA certificates", path).hint("`--ca` takes a PEM file")?;
    Roots::from_pem(&input.bytes)
        .with_context(|| format!("cannot use the CA certificates in `{}`", path.display()))
        .hint("`--ca` takes a PEM file: convert a DER file with `openssl x509 -inform der -in FILE`")?;
    Ok(input)
}

/// The file's name without its extension, with a number when the name is already in use.
fn unused_name(path: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let mut candidates = std::iter::once(stem.clone()).chain(numbered);
    let name = candidates.find(|name| !names.contains(name)).unwrap_or(stem);
    names.insert(name.clone());
    name
}

/// The program of the initrd: `named`, else the one in the directory of this program, else the packaged one.
pub(crate) fn init(named: Option<&Path>) -> Result<Input> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("iguana-init"));
    let places = [beside, Some(PathBuf::from(INSTALLED_INIT))];
    let found = || places.into_iter().flatten().find(|path| path.is_file());
    let path = named.map(Path::to_owned).or_else(found).ok_or_else(|| {
        hinted(
            format!("cannot find `iguana-init` beside this program or at `{INSTALLED_INIT}`"),
            "give its path with `--init FILE`; `cargo xtask dist` builds `target/dist/iguana-init`",
        )
    })?;
    let input = Input::read("the initrd's program", &path)?;
    check_static(&input.bytes)
        .with_context(|| format!("cannot use `{}` in the initrd", path.display()))
        .hint("`cargo xtask dist` builds a static `target/dist/iguana-init`")?;
    Ok(input)
}

/// The workstation's busybox.
pub(crate) fn shell() -> Result<Input> {
    // openSUSE calls its static busybox `busybox-static`.
    let path = on_path("busybox-static").or_else(|| on_path("busybox")).ok_or_else(|| {
        hinted("`busybox` is not on the PATH", "`--shell` needs it: install the package `busybox-static`")
    })?;
    let input = Input::read("the shell", &path)?;
    check_static(&input.bytes)
        .with_context(|| format!("cannot use `{}` in the initrd", path.display()))
        .hint("install the package `busybox-static`")?;
    Ok(input)
}

/// Fails for a dynamically linked program: the initrd has no shared libraries.
fn check_static(program: &[u8]) -> Result<()> {
    let file = ElfFile64::<object::Endianness>::parse(program).context("it is not a 64-bit ELF program")?;
    let endian = file.endian();
    let machine = file.elf_header().e_machine(endian);
    ensure!(machine == EM_X86_64, "it is not a program for x86-64");
    let interpreter = file.elf_program_headers().iter().any(|header| header.p_type(endian) == PT_INTERP);
    ensure!(!interpreter, "it needs shared libraries, which the initrd does not have");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn outputs_are_at_most_as_readable_as_their_inputs() {
        let home = tempfile::tempdir().unwrap();
        let place = |name: &str| home.path().join(name);
        std::fs::write(place("secret"), "secret").unwrap();
        std::fs::set_permissions(place("secret"), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(place("secret"), place("install.tar")).unwrap();
        let added = crate::build::added::read(&[place("install.tar")]).unwrap();
        assert_eq!((added[0].0.as_str(), added[0].1.is_public), ("install.tar", false));
        assert!(!Input::read("the CA certificates", &place("secret")).unwrap().is_public);
        std::os::unix::fs::symlink("/dev/zero", place("endless")).unwrap();
        mknodat(CWD, place("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for (name, told) in [("endless", "a character device"), ("fifo", "a FIFO")] {
            let error = format!("{:#}", crate::build::added::read(&[place(name)]).unwrap_err());
            assert!(error.contains(told), "{error}");
            assert!(Input::read("the workflow", &place(name)).is_err());
        }
    }

    #[test]
    fn certificates_of_one_name_are_all_kept() {
        let mut names = BTreeSet::new();
        let mut name = |path: &str| unused_name(Path::new(path), &mut names);
        assert_eq!(
            [name("/a/ca.pem"), name("/b/ca.crt"), name("ca"), name("x.y.pem")],
            ["ca", "ca-2", "ca-3", "x.y"]
        );
    }

    #[test]
    fn a_program_with_shared_libraries_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let error = check_static(&own).unwrap_err().to_string();
        assert_eq!(error, "it needs shared libraries, which the initrd does not have");
        assert_eq!(check_static(b"#!/bin/sh").unwrap_err().to_string(), "it is not a 64-bit ELF program");
    }
}
