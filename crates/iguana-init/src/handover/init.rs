//! The new system's init program.

use hint::hinted;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use untrusted_fs::{Directory, Links};

/// Paths of the init program, in the kernel's order (init/main.c), with systemd's path inserted before it.
const INITS: &[&str] =
    &["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init"];
/// The ELF magic, the offset of `e_machine`, and its values (System V ABI, "ELF Header").
const ELF: &[u8] = b"\x7fELF";
const MACHINE: usize = 18;
const NAMES: &[(u16, &str)] = &[
    (3, "x86"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv"),
    (21, "powerpc64"),
    (22, "s390x"),
];
/// Bytes of a program that are read.
const HEADER: usize = 20;

/// The init program, as a path in the new system.
///
/// # Errors
/// When there is none, or it is for another processor.
pub(super) fn find(root: &Directory, wanted: Option<&str>) -> anyhow::Result<String> {
    let candidates = wanted.map_or(INITS.to_vec(), |path| vec![path]);
    let Some(path) = candidates.iter().find(|path| is_program(root, path)) else {
        return Err(hinted(
            format!("the new system has no executable `{}`", candidates.join("`, `")),
            match wanted {
                Some(_) => "correct `init=` on the kernel command line",
                None => "check that the installation is complete, or name its init with `init=`",
            },
        ));
    };
    if let Some(machine) = foreign(root, path) {
        return Err(hinted(
            format!(
                "the new system's `{path}` is for `{machine}`, but this machine is `{}`",
                std::env::consts::ARCH
            ),
            "install a system for this architecture",
        ));
    }
    Ok((*path).to_owned())
}

fn is_program(root: &Directory, path: &str) -> bool {
    let metadata = root.file(path, Links::Inside).ok().and_then(|file| file.metadata().ok());
    metadata.is_some_and(|metadata| metadata.mode() & 0o111 != 0)
}

/// The processor that a program is for, if this machine cannot run it.
fn foreign(root: &Directory, path: &str) -> Option<String> {
    let mut header = [0; HEADER];
    root.file(path, Links::Inside).ok()?.read_exact(&mut header).ok()?;
    let machine = u16::from_le_bytes([header[MACHINE], header[MACHINE + 1]]);
    let name =
        NAMES.iter().find(|(number, _)| *number == machine).map_or("another architecture", |(_, name)| name);
    // A 64-bit x86 kernel runs 32-bit programs.
    let runs_here = name == std::env::consts::ARCH || (name == "x86" && std::env::consts::ARCH == "x86_64");
    (header.starts_with(ELF) && !runs_here).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    fn put(root: &Path, path: &str, content: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_first_program_is_found_inside_the_new_root() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let find = |_: &Path, wanted: Option<&str>| find(&Directory::open(root).unwrap(), wanted);
        fs::create_dir_all(root.join("sbin")).unwrap();
        symlink("/usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
        assert!(find(root, None).is_err());
        let program = root.join("usr/lib/systemd/systemd");
        put(root, "usr/lib/systemd/systemd", b"");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(root, None).is_err(), "it is not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(root, None).unwrap(), "/sbin/init");
        let error = find(root, Some("/bin/none")).unwrap_err();
        assert!(error.to_string().contains("`/bin/none`"));
    }

    #[test]
    fn a_program_for_another_processor_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let mut header = [0; 64];
        header[..4].copy_from_slice(ELF);
        header[MACHINE] = 22;
        put(home.path(), "sbin/init", &header);
        let error = find(&Directory::open(home.path()).unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("`/sbin/init` is for `s390x`"), "{error}");
        let own = fs::read("/proc/self/exe").unwrap();
        put(home.path(), "sbin/init", &own[..64]);
        assert_eq!(find(&Directory::open(home.path()).unwrap(), None).unwrap(), "/sbin/init");
    }
}
