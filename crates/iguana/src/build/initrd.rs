//! The layout of the initrd.

use super::cpio::{Node, Tree};
use super::modules::Packed;
use anyhow::{Context, Result};
use std::io::Write;

/// Initially empty directories with their permissions.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("iguana", 0o755),
    ("lib/modules", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("sysroot", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];

/// Devices that the kernel and iguana-init use before `/dev` is mounted: permissions, major and minor number.
const DEVICES: &[(&str, u32, u32, u32)] = &[("dev/console", 0o600, 5, 1), ("dev/null", 0o666, 1, 3)];

/// Files with constant content.
const FILES: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
];

/// Symbolic links. The kernel runs `/sbin/modprobe` to load a module on demand.
const LINKS: &[(&str, &str)] = &[("sbin/modprobe", "/init")];

/// Compression level of the archive, from 1 to 22. Most of the archive is the packed modules, which do not get
/// smaller. The cloud kernel's archive of 17.5 MB with an `iguana-init` of 4.6 MB becomes 14.91 MB at level 3 (0.05
/// s), 14.75 MB at 9 (0.2 s), 14.74 MB at 15 (1.0 s), 14.54 MB at 19 (6.3 s). The archive is in memory only until it
/// is unpacked.
const LEVEL: i32 = 9;

/// Base-2 logarithm of the window in bytes: 4 MiB, about the size of `iguana-init`. The kernel allocates the window
/// while it unpacks, and refuses more than 27 (lib/decompress_unzstd.c).
const WINDOW_LOG: u32 = 22;

/// Everything that an initrd is made from.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// The kernel's `uname -r`.
    pub(crate) release: String,
    /// Unix seconds of the newest input: the time of every entry, and the lower bound for the machine's clock.
    pub(crate) date: u32,
    /// The program that is PID 1.
    pub(crate) init: Vec<u8>,
    /// A static busybox, if the initrd has a shell.
    pub(crate) shell: Option<Vec<u8>>,
    /// The bundled workflow.
    pub(crate) workflow: Option<Vec<u8>>,
    /// The lock file of the workflow: the digests of its images.
    pub(crate) lock: Option<Vec<u8>>,
    /// The text of registries.conf.
    pub(crate) registries: Option<Vec<u8>>,
    /// The text of auth.json.
    pub(crate) logins: Option<Vec<u8>>,
    /// Files of certs.d: relative path and content.
    pub(crate) certificates: Vec<(String, Vec<u8>)>,
    /// Trusted CA certificates in PEM: name and content.
    pub(crate) authorities: Vec<(String, Vec<u8>)>,
    /// Files of the trust directory: relative path and content.
    pub(crate) trust: Vec<(String, Vec<u8>)>,
    /// The kernel modules.
    pub(crate) modules: Packed,
}

/// The tree that the kernel unpacks.
fn tree(contents: Contents) -> Tree {
    let mut tree = Tree::default();
    put_constants(&mut tree);
    tree.put("etc/iguana/build", Node::file(build_facts(&contents)));
    tree.put("init", Node::program(contents.init));
    if let Some(busybox) = contents.shell {
        tree.put("bin/busybox", Node::program(busybox));
        tree.put("bin/sh", Node::Link { target: "busybox".into() });
    }
    if let Some(workflow) = contents.workflow {
        tree.put("etc/iguana/control.yaml", Node::file(workflow));
    }
    if let Some(lock) = contents.lock {
        tree.put("etc/iguana/control.yaml.lock", Node::file(lock));
    }
    if let Some(registries) = contents.registries {
        tree.put("etc/containers/registries.conf", Node::file(registries));
    }
    if let Some(logins) = contents.logins {
        tree.put("etc/containers/auth.json", Node::secret(logins));
    }
    for (path, content) in contents.certificates {
        tree.put(format!("etc/containers/certs.d/{path}"), Node::secret(content));
    }
    for (name, certificates) in contents.authorities {
        tree.put(format!("etc/containers/ca/{name}.pem"), Node::file(certificates));
    }
    for (path, content) in contents.trust {
        tree.put(format!("etc/containers/{path}"), Node::secret(content));
    }
    for (file, module) in contents.modules.early {
        tree.put(format!("usr/lib/iguana/early/{file}"), Node::file(module));
    }
    tree.put("usr/lib/iguana/modules.squashfs", Node::file(contents.modules.image));
    tree
}

fn put_constants(tree: &mut Tree) {
    for (path, mode) in DIRECTORIES {
        tree.put(*path, Node::Directory { mode: *mode });
    }
    for (path, mode, major, minor) in DEVICES {
        tree.put(*path, Node::Device { mode: *mode, major: *major, minor: *minor });
    }
    for (path, text) in FILES {
        tree.put(*path, Node::file(*text));
    }
    for (path, target) in LINKS {
        tree.put(*path, Node::Link { target: target.to_string() });
    }
}

fn build_facts(contents: &Contents) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("VERSION={version}\nKERNEL={}\nDATE={}\n", contents.release, contents.date)
}

/// The uncompressed archive with these contents.
pub(crate) fn archive(contents: Contents) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let date = contents.date;
    tree(contents).write(date, &mut archive).context("cannot create the archive")?;
    Ok(archive)
}

/// Compresses `archive` in a way that the kernel can unpack.
pub(crate) fn compress(archive: &[u8]) -> Result<Vec<u8>> {
    let compress = || {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.window_log(WINDOW_LOG)?;
        encoder.include_checksum(true)?;
        encoder.set_pledged_src_size(Some(archive.len() as u64))?;
        encoder.write_all(archive)?;
        encoder.finish()
    };
    compress().context("cannot compress the archive")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        Contents {
            release: "6.1.0-9-amd64".into(),
            date: 1_700_000_000,
            init: b"init".to_vec(),
            shell: None,
            workflow: None,
            lock: None,
            registries: None,
            logins: None,
            certificates: Vec::new(),
            trust: Vec::new(),
            authorities: Vec::new(),
            modules: Packed {
                image: b"image".to_vec(),
                early: vec![("00-loop.ko".into(), b"loop".to_vec())],
                count: 1,
                unpacked: 4,
            },
        }
    }

    fn paths(contents: Contents) -> Vec<String> {
        tree(contents).entries().map(|(path, _)| path.to_string()).collect()
    }

    fn node(contents: Contents, path: &str) -> Node {
        tree(contents).entries().find(|(other, _)| *other == path).unwrap().1.clone()
    }

    #[test]
    fn the_smallest_initrd() {
        #[rustfmt::skip]
        let expected = [
            "dev", "dev/console", "dev/null", "etc", "etc/group", "etc/hosts", "etc/iguana", "etc/iguana/build",
            "etc/nsswitch.conf", "etc/passwd", "iguana", "init", "lib", "lib/modules", "proc", "root", "run",
            "sbin", "sbin/modprobe", "sys", "sysroot", "tmp", "usr", "usr/lib", "usr/lib/iguana",
            "usr/lib/iguana/early", "usr/lib/iguana/early/00-loop.ko", "usr/lib/iguana/modules.squashfs", "var",
        ];
        assert_eq!(paths(contents()), expected);
    }

    #[test]
    fn requested_contents_are_added() {
        let full = Contents {
            shell: Some(b"busybox".to_vec()),
            workflow: Some(b"jobs:".to_vec()),
            lock: None,
            registries: Some(Vec::new()),
            logins: Some(b"{}".to_vec()),
            certificates: vec![("r.example:5000/ca.crt".into(), b"pem".to_vec())],
            authorities: vec![("company".into(), b"pem".to_vec())],
            ..contents()
        };
        let small = paths(contents());
        let added: Vec<_> = paths(full.clone()).into_iter().filter(|path| !small.contains(path)).collect();
        let expected = [
            "bin",
            "bin/busybox",
            "bin/sh",
            "etc/containers",
            "etc/containers/auth.json",
            "etc/containers/ca",
            "etc/containers/ca/company.pem",
            "etc/containers/certs.d",
            "etc/containers/certs.d/r.example:5000",
            "etc/containers/certs.d/r.example:5000/ca.crt",
            "etc/containers/registries.conf",
            "etc/iguana/control.yaml",
        ];
        assert_eq!(added, expected);
        assert_eq!(node(full.clone(), "bin/sh"), Node::Link { target: "busybox".into() });
        assert_eq!(node(full.clone(), "etc/containers/auth.json"), Node::secret("{}"));
        assert_eq!(node(full, "etc/iguana/control.yaml"), Node::file("jobs:"));
    }

    #[test]
    fn programs_devices_and_links_have_their_types() {
        assert_eq!(node(contents(), "init"), Node::program("init"));
        assert_eq!(node(contents(), "dev/console"), Node::Device { mode: 0o600, major: 5, minor: 1 });
        assert_eq!(node(contents(), "sbin/modprobe"), Node::Link { target: "/init".into() });
        assert_eq!(node(contents(), "tmp"), Node::Directory { mode: 0o1777 });
    }

    #[test]
    fn the_build_facts_name_kernel_and_date() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("VERSION={version}\nKERNEL=6.1.0-9-amd64\nDATE=1700000000\n");
        assert_eq!(node(contents(), "etc/iguana/build"), Node::file(expected));
    }

    #[test]
    fn the_window_is_one_that_the_kernel_accepts() {
        let archive = vec![7; 20 << 20];
        let compressed = compress(&archive).unwrap();
        // Frame header (RFC 8878, 3.1.1.1): a window descriptor follows unless the single segment flag is set.
        assert_eq!(compressed[4] & 0b0010_0000, 0);
        assert_eq!(u32::from(compressed[5] >> 3) + 10, WINDOW_LOG);
        assert_eq!(zstd::decode_all(&compressed[..]).unwrap(), archive);
    }
}
