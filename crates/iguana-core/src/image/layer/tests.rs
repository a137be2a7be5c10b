use super::*;
use crate::image::digest::Digest;
use crate::image::store::{Layer, Store};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use tar::EntryType;

const TIME: u64 = 1_000_000_000;

struct Tar(Vec<u8>);

impl Tar {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn raw(mut self, header: &mut tar::Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn header(kind: EntryType, name: &str, link: &str, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        // Written raw: the crate itself refuses the names that an attacker would use.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(if kind == EntryType::Directory { 0o750 } else { 0o4755 });
        header.set_mtime(TIME);
        header.set_uid(u64::from(rustix::process::getuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        header
    }

    fn add(self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        self.raw(&mut Self::header(kind, name, link, content.len()), content)
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(EntryType::Regular, name, "", content.as_bytes())
    }

    fn folder(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, b"")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let record = |(key, value): &(&str, &[u8])| {
            let rest = key.len() + value.len() + 3;
            let length = (1..).map(|digits| rest + digits).find(|sum| sum.to_string().len() + rest == *sum);
            [format!("{} {key}=", length.unwrap()).as_bytes(), value, b"\n"].concat()
        };
        let content: Vec<u8> = records.iter().flat_map(record).collect();
        self.add(EntryType::XHeader, "pax", "", &content)
    }

    fn unpack(self) -> (tempfile::TempDir, anyhow::Result<Ties>) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("victim"), "safe").unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let done = unpack(&self.0[..], &root);
        assert_eq!(fs::read_to_string(outer.path().join("victim")).unwrap(), "safe");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "something was made outside");
        (outer, done)
    }

    fn error(self) -> String {
        format!("{:#}", self.unpack().1.unwrap_err())
    }
}

#[test]
fn files_folders_and_links_keep_what_they_are() {
    let (outer, done) = Tar::new()
        .file("late/made/file", "hello")
        .folder("./late/")
        .link("soft", "late/made")
        .add(EntryType::Link, "hard", "./late/made/file", b"")
        .add(EntryType::Fifo, "pipe", "", b"")
        .folder(".")
        .unpack();
    let root = outer.path().join("root");
    assert_eq!(done.unwrap().folders, BTreeSet::from(["late/made".into()]));
    let file = fs::metadata(root.join("late/made/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o4755, 1_000_000_000, 2));
    for folder in [root.join("late"), root.clone()] {
        let folder = fs::metadata(folder).unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.mtime()), (0o750, 1_000_000_000));
    }
    let made = fs::metadata(root.join("late/made")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.mtime()), (0o755, 0));
    assert_eq!(fs::read_to_string(root.join("soft/file")).unwrap(), "hello");
    assert!(fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let (outer, done) = Tar::new()
        .file("a/b/c", "folder")
        .file("a", "file")
        .folder("f")
        .file("f/x", "1")
        .file("f/x", "2")
        .add(EntryType::Link, "f/x", "f/x", b"")
        .unpack();
    assert_eq!(done.unwrap().folders, BTreeSet::from([PathBuf::new()]));
    let root = outer.path().join("root");
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "file");
    assert_eq!(fs::read_to_string(root.join("f/x")).unwrap(), "2");
}

#[test]
fn links_do_not_lead_out() {
    let (outer, done) = Tar::new()
        .link("out", "../..")
        .file("out/victim", "changed")
        .folder("etc")
        .link("abs", "/etc")
        .file("abs/made", "inside")
        .link("far", "/not/there/../yet")
        .file("far/file", "made")
        .unpack();
    done.unwrap();
    let root = outer.path().join("root");
    assert_eq!(fs::read_to_string(root.join("etc/made")).unwrap(), "inside");
    assert_eq!(fs::read_to_string(root.join("not/yet/file")).unwrap(), "made");
    assert!(Tar::new().file("../victim", "changed").error().contains("leads out"));
    assert!(Tar::new().add(EntryType::Link, "x", "../victim", b"").error().contains("leads out"));
    assert!(Tar::new().link("l", "l").file("l/x", "").error().contains("too many links"));
    assert!(Tar::new().file("f", "").file("f/x", "").error().contains("`f` is no folder"));
    for name in [".wh.", ".wh..", ".wh..."] {
        assert!(Tar::new().file(name, "").error().contains("without a name"), "{name}");
    }
    // The kernel's links, that lead anywhere, are only text here.
    let (outer, done) = Tar::new().link("self", "/proc/self/root").file("self/victim", "changed").unpack();
    done.unwrap();
    assert!(outer.path().join("root/proc/self/root/victim").exists());
}

#[test]
fn whiteouts_become_overlays_own() {
    if !rustix::process::getuid().is_root() {
        return; // Device nodes and trusted attributes are root's alone.
    }
    let (outer, done) = Tar::new()
        .file("d/.wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .file("own/file", "kept")
        .file(".wh.own", "")
        .file(".wh.new", "")
        .folder("new")
        .file(".wh.part", "")
        .file("part/of/it", "")
        .file(".wh..wh.aufs", "")
        .add(EntryType::Link, "late", "d/gone", b"")
        .unpack();
    let ties = done.unwrap();
    assert_eq!(ties.folders, ["", "d", "part/of"].map(PathBuf::from).into());
    assert_eq!(ties.links, [(PathBuf::from("late"), PathBuf::from("d/gone"))]);
    let root = outer.path().join("root");
    let gone = fs::symlink_metadata(root.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for folder in ["d", "own", "new", "part"] {
        assert!(view::is_opaque(&root.join(folder)).unwrap(), "{folder}");
    }
    assert_eq!(fs::read_to_string(root.join("own/file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
}

#[test]
fn attributes_are_set_but_not_those_that_overlayfs_goes_by() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let (outer, done) = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("mtime", b"-1.5"),
            ("uid", b"70000"),
        ])
        .file("able", "x")
        .pax(&[("SCHILY.xattr.trusted.x", b"a\nb"), ("SCHILY.xattr.user.x", b"not for links")])
        .link("link", "able")
        .unpack();
    done.unwrap();
    let root = outer.path().join("root");
    let attribute = |name: &str, of: &str| {
        let mut value = vec![0; 100];
        let length = rustix::fs::lgetxattr(root.join(name), of, &mut value[..])?;
        value.truncate(length);
        Ok::<_, Errno>(value)
    };
    assert_eq!(attribute("able", "security.capability").unwrap(), capability);
    assert_eq!(attribute("able", "trusted.overlay.redirect"), Err(Errno::NODATA));
    assert_eq!(attribute("link", "trusted.x").unwrap(), b"a\nb");
    let able = fs::metadata(root.join("able")).unwrap();
    assert_eq!((able.mtime(), able.mtime_nsec(), able.uid()), (-2, 500_000_000, 70000));
}

/// The same file in each of the formats: 4096 bytes of `x` behind a hole as long, and a hole at the end.
#[test]
fn holes_are_where_they_were() {
    let content = [b'x'; 4096];
    let mut old = Tar::header(EntryType::GNUSparse, "old", "", content.len());
    let gnu = old.as_gnu_mut().unwrap();
    gnu.set_real_size(12288);
    gnu.sparse[0].set_offset(4096);
    gnu.sparse[0].set_length(4096);
    let map = b"1\n4096\n4096\n";
    let mut with_map = [&map[..], &[0; 500]].concat();
    with_map.extend_from_slice(&content);
    let (outer, done) = Tar::new()
        .raw(&mut old, &content)
        .pax(&[
            ("GNU.sparse.size", b"12288"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", b"4096"),
            ("GNU.sparse.numbytes", b"4096"),
        ])
        .add(EntryType::Regular, "pax-0.0", "", &content)
        .pax(&[
            ("GNU.sparse.name", b"pax-0.1"),
            ("GNU.sparse.size", b"12288"),
            ("GNU.sparse.map", b"4096,4096"),
        ])
        .add(EntryType::Regular, "GNUSparseFile.0/x", "", &content)
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"pax-1.0"),
            ("GNU.sparse.realsize", b"12288"),
        ])
        .add(EntryType::Regular, "GNUSparseFile.0/x", "", &with_map)
        .unpack();
    done.unwrap();
    let expected = [[0; 4096], content, [0; 4096]].concat();
    for name in ["old", "pax-0.0", "pax-0.1", "pax-1.0"] {
        let file = outer.path().join("root").join(name);
        assert_eq!(fs::read(&file).unwrap(), expected, "{name}");
        assert!(fs::metadata(&file).unwrap().blocks() <= 16, "{name}");
    }
    let sparse = |map: &[u8]| {
        Tar::new()
            .pax(&[("GNU.sparse.name", b"s"), ("GNU.sparse.size", b"12288"), ("GNU.sparse.map", map)])
            .add(EntryType::Regular, "s", "", &content)
            .error()
    };
    assert!(sparse(b"4096,4096,4096,0,0,0").contains("its pieces overlap"));
    assert!(sparse(b"8193,4096").contains("it goes beyond the file"));
    assert!(sparse(b"0,4095").contains("it tells of 4095 bytes, and there are 4096"));
    assert!(sparse(b"0,4096,5").contains("it ends behind an offset"));
}

#[test]
fn a_damaged_archive_is_an_error() {
    let cut = |bytes: usize| {
        let mut tar = Tar::new().file("a", "hello").file("b", "hello");
        tar.0.truncate(bytes);
        tar
    };
    assert!(cut(514).error().contains("cannot unpack `a`: cannot read its content: the archive ends"));
    assert!(cut(1100).error().contains("cut off in the header at byte 1024"));
    let mut noise = cut(2048);
    noise.0[1030] ^= 1;
    assert!(noise.error().contains("no header of a tar archive at byte 1024"));
    assert!(Tar::new().pax(&[("path", b"x")]).error().contains("ends behind an extension"));
    let mut long = Tar::header(EntryType::GNULongName, "l", "", 2 << 20);
    assert!(Tar::new().raw(&mut long, b"").error().contains("an extension of 2097152 bytes"));
    let mut huge = Tar::header(EntryType::Regular, "h", "", 0);
    huge.as_old_mut().size = *b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(Tar::new().raw(&mut huge, b"").error().contains("impossible size"));
    let mut strange = Tar::header(EntryType::Regular, "s", "", 0);
    strange.as_old_mut().mode = *b"rwxr-xr-";
    assert!(Tar::new().raw(&mut strange, b"").error().contains("`rwxr-xr-` is no octal number"));
}

#[test]
fn an_archive_may_end_with_its_last_byte() {
    let mut tar = Tar::new().file("a", "hello");
    tar.0.truncate(517);
    let (outer, done) = tar.unpack();
    done.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("root/a")).unwrap(), "hello");
}

/// A folder in a folder, as deep as a path may be, is removed where few files may be open.
#[test]
fn deep_folders_are_made_and_replaced() {
    let deep = vec!["d"; 2000].join("/");
    let (outer, done) =
        Tar::new().pax(&[("path", deep.as_bytes())]).folder("x").file("d", "now a file").unpack();
    done.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("root/d")).unwrap(), "now a file");
}

/// Layers on each other, as an image's.
struct Stack {
    _room: tempfile::TempDir,
    store: Store,
    layers: Vec<(Digest, Arc<Layer>)>,
}

impl Stack {
    fn of(tars: Vec<Tar>) -> Self {
        let room = tempfile::tempdir().unwrap();
        let store = Store::open(room.path()).unwrap();
        let unpacked = |tar: Tar| {
            let folder = store.incoming().unwrap();
            let ties = unpack(&tar.0[..], folder.folder()).unwrap();
            (Digest::of(&tar.0), store.admit(Digest::of(&tar.0), folder, ties))
        };
        let layers = tars.into_iter().map(unpacked).collect();
        Self { _room: room, store, layers }
    }

    fn assembled(&self) -> Vec<Arc<Layer>> {
        assemble(&self.store, self.layers.clone()).unwrap()
    }
}

/// Names and contents in one layer.
fn files(layer: &Layer) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![layer.folder().to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(layer.folder()).unwrap().display().to_string();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                left.push(path);
            } else if kind.file_type().is_char_device() {
                found.push(format!("{name} gone"));
            } else if !kind.is_symlink() {
                found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_below_a_link_of_a_lower_layer_lands_where_the_link_leads() {
    let lower = || {
        Tar::new()
            .folder(".")
            .folder("usr")
            .folder("usr/lib")
            .link("lib", "usr/lib")
            .link("bin", "/lib/../sbin")
    };
    let upper = || {
        Tar::new()
            .file("lib/new", "n")
            .folder("lib/sub")
            .file("lib/.wh.old", "")
            .file("lib/both", "by the link")
            .file("usr/lib/both", "by its own name")
            .file("bin/tool", "t")
    };
    let stack = Stack::of(vec![lower(), upper()]);
    let layers = stack.assembled();
    assert_eq!(
        files(&layers[1]),
        ["usr/lib/both=by its own name", "usr/lib/new=n", "usr/sbin/tool=t"]
            .iter()
            .map(ToString::to_string)
            .chain(["usr/lib/old gone".to_owned()])
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(fs::metadata(layers[1].folder().join("usr/lib/sub")).unwrap().mode() & 0o7777, 0o750);
    assert!(!layers[1].folder().join("lib").exists());
    // The same layer elsewhere stays as it is.
    assert!(stack.layers[1].1.folder().join("lib/new").exists());
    let again = stack.assembled();
    assert_eq!(layers[1].folder(), again[1].folder(), "fitted only once");
    let alone = assemble(&stack.store, vec![stack.layers[1].clone()]).unwrap();
    assert_eq!(alone[0].folder(), stack.layers[1].1.folder());
    // A folder with an entry of its own takes the link's place.
    let explicit = Stack::of(vec![lower(), Tar::new().folder(".").folder("lib").file("lib/new", "n")]);
    let layers = explicit.assembled();
    assert_eq!((layers.len(), files(&layers[1])), (2, vec!["lib/new=n".to_owned()]));
}

#[test]
fn folders_without_an_entry_stay_as_they_are_below() {
    let stack = Stack::of(vec![
        Tar::new().folder(".").folder("etc").folder("etc/deep"),
        Tar::new().file("etc/deep/file", "x").file("new/file", "y"),
    ]);
    let layers = stack.assembled();
    assert_eq!(layers.len(), 3);
    for folder in ["", "etc", "etc/deep"] {
        let cover = fs::metadata(layers[2].folder().join(folder)).unwrap();
        assert_eq!((cover.mode() & 0o7777, cover.mtime()), (0o750, 1_000_000_000), "`{folder}`");
    }
    assert!(!layers[2].folder().join("new").exists());
    let raw = fs::metadata(layers[1].folder().join("etc")).unwrap();
    assert_eq!(raw.permissions().mode() & 0o7777, 0o755, "unpacked layers are not changed");
}

#[test]
fn hard_links_may_lead_into_lower_layers() {
    let link = |target| Tar::new().folder(".").add(EntryType::Link, "twin", target, b"");
    let stack = Stack::of(vec![Tar::new().folder(".").file("a", "1").link("l", "a"), link("./a")]);
    let layers = stack.assembled();
    let inode = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
    assert_eq!(inode(layers[0].folder().join("a")), inode(layers[1].folder().join("twin")));
    let lost = Stack::of(vec![Tar::new().folder("."), link("a")]);
    let error = format!("{:#}", assemble(&lost.store, lost.layers.clone()).unwrap_err());
    assert!(error.contains("`twin` leads to `a`, which neither its layer nor one below has"), "{error}");
}
