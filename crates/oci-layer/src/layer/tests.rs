use super::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use tar::EntryType;

mod cost;
mod limits;
mod marks;

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
        // Written into the fields directly, as the crate refuses the names that an attacker would use.
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

    fn directory(self, name: &str) -> Self {
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

    fn unpack(self) -> (tempfile::TempDir, anyhow::Result<LowerDependencies>) {
        self.unpack_within(Work::of_image())
    }

    fn unpack_within(self, work: Work) -> (tempfile::TempDir, anyhow::Result<LowerDependencies>) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("victim"), "safe").unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let done = unpack(&self.0[..], Directory::open(&root).unwrap(), &work);
        assert_eq!(fs::read_to_string(outer.path().join("victim")).unwrap(), "safe");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "something was made outside");
        (outer, done)
    }

    fn error(self) -> String {
        format!("{:#}", self.unpack().1.unwrap_err())
    }
}

#[test]
fn files_directories_and_links_keep_what_they_are() {
    let (outer, done) = Tar::new()
        .file("late/made/file", "hello")
        .directory("./late/")
        .link("soft", "late/made")
        .add(EntryType::Link, "hard", "./late/made/file", b"")
        .add(EntryType::Fifo, "pipe", "", b"")
        .directory(".")
        .unpack();
    let root = outer.path().join("root");
    assert_eq!(done.unwrap().directories, BTreeSet::from(["late/made".into()]));
    let file = fs::metadata(root.join("late/made/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o4755, 1_000_000_000, 2));
    for directory in [root.join("late"), root.clone()] {
        let directory = fs::metadata(directory).unwrap();
        assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o750, 1_000_000_000));
    }
    let made = fs::metadata(root.join("late/made")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.mtime()), (0o755, 0));
    assert_eq!(fs::read_to_string(root.join("soft/file")).unwrap(), "hello");
    assert!(fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let (outer, done) = Tar::new()
        .file("a/b/c", "directory")
        .file("a", "file")
        .directory("f")
        .file("f/x", "1")
        .file("f/x", "2")
        .add(EntryType::Link, "f/x", "f/x", b"")
        .unpack();
    assert_eq!(done.unwrap().directories, BTreeSet::from([PathBuf::new()]));
    let root = outer.path().join("root");
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "file");
    assert_eq!(fs::read_to_string(root.join("f/x")).unwrap(), "2");
}

#[test]
fn links_cannot_leave_the_root() {
    let (outer, done) = Tar::new()
        .link("out", "../..")
        .file("out/victim", "changed")
        .directory("etc")
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
    assert!(Tar::new().link("l", "l").file("l/x", "").error().contains("too many symbolic links"));
    assert!(Tar::new().file("f", "").file("f/x", "").error().contains("`f` is not a directory"));
    for name in [".wh.", ".wh..", ".wh..."] {
        assert!(Tar::new().file(name, "").error().contains("without a name"), "{name}");
    }
    // A magic link of `/proc` is only text here and is not followed.
    let (outer, done) = Tar::new().link("self", "/proc/self/root").file("self/victim", "changed").unpack();
    done.unwrap();
    assert!(outer.path().join("root/proc/self/root/victim").exists());
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    if !rustix::process::getuid().is_root() {
        return; // Device nodes and trusted attributes are root's alone.
    }
    let (outer, done) = Tar::new()
        .file("d/.wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .file("own/file", "kept")
        .file(".wh.own", "")
        .file(".wh.new", "")
        .directory("new")
        .file(".wh.part", "")
        .file("part/of/it", "")
        .file(".wh..wh.aufs", "")
        .add(EntryType::Link, "late", "d/gone", b"")
        .unpack();
    let lower_dependencies = done.unwrap();
    assert_eq!(lower_dependencies.directories, ["", "d", "part/of"].map(PathBuf::from).into());
    assert_eq!(lower_dependencies.links, [(PathBuf::from("late"), PathBuf::from("d/gone"))]);
    let root = outer.path().join("root");
    let gone = fs::symlink_metadata(root.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for directory in ["d", "own", "new", "part"] {
        assert!(
            root::is_opaque(Directory::open(root.join(directory)).unwrap().as_fd()).unwrap(),
            "{directory}"
        );
    }
    assert_eq!(fs::read_to_string(root.join("own/file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
}

#[test]
fn attributes_are_set_except_those_of_overlayfs() {
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

/// The same file in each of the formats: a hole, then as many bytes of `x` (4096), and a hole at the end.
#[test]
fn holes_of_sparse_files_are_kept() {
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
    assert!(sparse(b"4096,4096,4096,0,0,0").contains("its regions overlap"));
    assert!(sparse(b"8193,4096").contains("it extends beyond the file"));
    assert!(sparse(b"0,4095").contains("it describes 4095 bytes, but the archive has 4096"));
    assert!(sparse(b"0,4096,5").contains("it ends after an offset"));
}

#[test]
fn a_damaged_archive_is_an_error() {
    let cut = |bytes: usize| {
        let mut tar = Tar::new().file("a", "hello").file("b", "hello");
        tar.0.truncate(bytes);
        tar
    };
    assert!(cut(514).error().contains("cannot unpack `a`: cannot read its content: the archive ends"));
    assert!(cut(1100).error().contains("truncated in the header at byte 1024"));
    let mut noise = cut(2048);
    noise.0[1030] ^= 1;
    assert!(noise.error().contains("no tar header at byte 1024"));
    assert!(Tar::new().pax(&[("path", b"x")]).error().contains("ends after an extension header"));
    let mut long = Tar::header(EntryType::GNULongName, "l", "", 2 << 20);
    assert!(Tar::new().raw(&mut long, b"").error().contains("an extension header of 2097152 bytes"));
    let mut huge = Tar::header(EntryType::Regular, "h", "", 0);
    huge.as_old_mut().size = *b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(Tar::new().raw(&mut huge, b"").error().contains("size is impossible"));
    let mut strange = Tar::header(EntryType::Regular, "s", "", 0);
    strange.as_old_mut().mode = *b"rwxr-xr-";
    assert!(Tar::new().raw(&mut strange, b"").error().contains("`rwxr-xr-` is not an octal number"));
}

#[test]
fn an_archive_may_end_with_its_last_byte() {
    let mut tar = Tar::new().file("a", "hello");
    tar.0.truncate(517);
    let (outer, done) = tar.unpack();
    done.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("root/a")).unwrap(), "hello");
}

/// The layers of an image.
struct Stack {
    _room: tempfile::TempDir,
    store: Store,
    layers: Vec<(Digest, Arc<Layer>)>,
}

impl Stack {
    fn of(tars: Vec<Tar>) -> Self {
        Self::within(tempfile::tempdir().unwrap(), tars)
    }

    /// In memory, for thousands of files.
    fn in_memory(tars: Vec<Tar>) -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").unwrap(), tars)
    }

    fn within(room: tempfile::TempDir, tars: Vec<Tar>) -> Self {
        let store = Store::open(room.path()).unwrap();
        let unpacked = |tar: Tar| {
            let directory = store.incoming().unwrap();
            let root = directory.directory(Path::new("")).unwrap();
            let lower_dependencies = unpack(&tar.0[..], root, &Work::of_image()).unwrap();
            (Digest::of(&tar.0), store.admit(Digest::of(&tar.0), directory, lower_dependencies).unwrap())
        };
        let layers = tars.into_iter().map(unpacked).collect();
        Self { _room: room, store, layers }
    }

    fn assembled(&self) -> Vec<Arc<Layer>> {
        assemble(&self.store, self.layers.clone()).unwrap()
    }

    fn flattened(&self) -> tempfile::TempDir {
        let tree = tempfile::tempdir_in(self._room.path()).unwrap();
        crate::flatten(&self.assembled(), &Directory::open(tree.path()).unwrap()).unwrap();
        tree
    }
}

/// Names and contents in one layer.
fn files(layer: &Layer) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![layer.path().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(layer.path()).unwrap().display().to_string();
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
fn entries_below_a_symlink_of_a_lower_layer_are_moved_to_its_target() {
    let lower = || {
        Tar::new()
            .directory(".")
            .directory("usr")
            .directory("usr/lib")
            .link("lib", "usr/lib")
            .link("bin", "/lib/../sbin")
    };
    let upper = || {
        Tar::new()
            .file("lib/new", "n")
            .directory("lib/sub")
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
    assert_eq!(fs::metadata(layers[1].path().join("usr/lib/sub")).unwrap().mode() & 0o7777, 0o750);
    assert!(!layers[1].path().join("lib").exists());
    // The unpacked layer itself is unchanged.
    assert!(stack.layers[1].1.path().join("lib/new").exists());
    let again = stack.assembled();
    assert_eq!(layers[1].path(), again[1].path(), "fitted only once");
    let alone = assemble(&stack.store, vec![stack.layers[1].clone()]).unwrap();
    let direct = ["bin/tool=t", "lib/both=by the link", "lib/new=n", "usr/lib/both=by its own name"];
    assert_eq!(files(&alone[0]), direct, "without a whiteout, that would hide nothing");
    // A directory with an entry of its own replaces the link.
    let explicit = Stack::of(vec![lower(), Tar::new().directory(".").directory("lib").file("lib/new", "n")]);
    let layers = explicit.assembled();
    assert_eq!((layers.len(), files(&layers[1])), (2, vec!["lib/new=n".to_owned()]));
}

#[test]
fn directories_without_an_entry_stay_as_they_are_below() {
    let stack = Stack::of(vec![
        Tar::new().directory(".").directory("etc").directory("etc/deep"),
        Tar::new().file("etc/deep/file", "x").file("new/file", "y"),
    ]);
    let layers = stack.assembled();
    assert_eq!(layers.len(), 3);
    for directory in ["", "etc", "etc/deep"] {
        let cover = fs::metadata(layers[2].path().join(directory)).unwrap();
        assert_eq!((cover.mode() & 0o7777, cover.mtime()), (0o750, 1_000_000_000), "`{directory}`");
    }
    assert!(!layers[2].path().join("new").exists());
    let raw = fs::metadata(layers[1].path().join("etc")).unwrap();
    assert_eq!(raw.permissions().mode() & 0o7777, 0o755, "unpacked layers are not changed");
}

/// The lower layer has the link `link0` to `b0`. The upper one has a directory `link0/x` and, at the same path `b0/x`,
/// a link to a directory outside: owner, mode and content of the former are never applied to the latter.
#[test]
fn a_replaced_directory_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "safe").unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let victim = outside.path().to_str().unwrap();
    let before = fs::metadata(outside.path()).unwrap();
    let (mut lower, mut first, mut second) = (Tar::new().file("evil", "e"), Tar::new(), Tar::new());
    // In both orders, as names of a directory are read in an arbitrary one.
    for number in 0..12 {
        let (at, link, by_link) = (format!("b{number}"), format!("link{number}"), format!("link{number}/x"));
        lower = lower.directory(&at).link(&link, &at);
        let planted = format!("{by_link}/planted");
        first = first.directory(&by_link).add(EntryType::Link, &planted, "evil", b"");
        first = first.link(&format!("{at}/x"), victim);
        second = second.link(&format!("{at}/x"), victim).directory(&by_link);
    }
    for upper in [first, second] {
        let stack = Stack::of(vec![Tar(lower.0.clone()), upper]);
        let tree = stack.flattened();
        assert_eq!(fs::read_link(tree.path().join("b0/x")).unwrap(), outside.path());
        let after = fs::metadata(outside.path()).unwrap();
        assert_eq!(
            (before.mode(), before.uid(), before.ctime_nsec()),
            (after.mode(), after.uid(), after.ctime_nsec())
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "something was planted");
    }
}

/// For a removed directory, umoci 0.4.1 also writes whiteouts of all that was in it (umoci issue 254).
#[test]
fn whiteouts_make_no_directories() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let lower = || Tar::new().directory(".").directory("test").file("test/test", "1").file("file", "f");
    let gone = |upper: Tar| {
        let stack = Stack::of(vec![lower(), upper]);
        let tree = stack.flattened();
        let names = Directory::open(tree.path()).unwrap().names(10).unwrap();
        names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(gone(Tar::new().file(".wh.test", "").file("test/.wh.test", "")), ["file"]);
    assert_eq!(gone(Tar::new().file("test/.wh.test", "").file(".wh.test", "")), ["file"]);
    assert_eq!(gone(Tar::new().file(".wh.test", "").file("test/a/.wh.b", "")), ["file"]);
    assert_eq!(gone(Tar::new().file("never/.wh.x", "").file("file/.wh.x", "")), ["file", "test"]);
    assert_eq!(gone(Tar::new().file("never/.wh..wh..opq", "").file("test/.wh.test", "")), ["file", "test"]);
    assert_eq!(
        gone(Tar::new().file(".wh.test", "").file("test/.wh.test", "").directory("test")),
        ["file", "test"]
    );
}

/// layer.md: the content of a whiteout's own layer "can only be hidden by whiteout files in subsequent layers".
#[test]
fn a_whiteout_hides_nothing_that_its_own_layer_has_through_a_link() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for mark in [".wh..wh..opq", ".wh.old", "inner/.wh..wh..opq"] {
        // Names are sorted: one directory comes before the link, one after it.
        for at in ["a", "z"] {
            let lower = Tar::new().link("link", "/").directory(&format!("{at}/inner"));
            let upper = Tar::new().file(&format!("link/{at}"), "new").file(&format!("{at}/{mark}"), "");
            let found = fs::read_to_string(Stack::of(vec![lower, upper]).flattened().path().join(at));
            assert_eq!(found.unwrap_or_default(), "new", "`{at}` with `{mark}`");
        }
    }
}

#[test]
fn a_symlink_loop_hides_the_lower_entry() {
    let stack = Stack::of(vec![Tar::new().file("b/a/x", "1"), Tar::new().link("b", "/b")]);
    let layers = stack.assembled();
    assert!(layers[1].path().join("b").is_symlink());
}

#[test]
fn hard_links_may_point_through_symlinks_and_to_each_other() {
    let lower = Tar::new().directory(".").directory("usr").directory("usr/lib").link("lib", "usr/lib");
    let upper = Tar::new()
        .directory(".")
        .file("lib/new", "n")
        .add(EntryType::Link, "second", "first", b"")
        .add(EntryType::Link, "first", "usr/lib/new", b"");
    let stack = Stack::of(vec![lower, upper]);
    let layers = stack.assembled();
    let inode = |name: &str| fs::metadata(layers[1].path().join(name)).unwrap().ino();
    assert_eq!(inode("first"), inode("usr/lib/new"));
    assert_eq!(inode("second"), inode("first"));
    // A target below a regular file does not exist; the link must not lead to that file.
    let stack = Stack::of(vec![
        Tar::new().directory(".").file("f", "f"),
        Tar::new().directory(".").add(EntryType::Link, "x", "f/g", b""),
    ]);
    let error = format!("{:#}", assemble(&stack.store, stack.layers.clone()).unwrap_err());
    assert!(error.contains("`x` refers to `f/g`, which neither"), "{error}");
}

#[test]
fn hard_links_may_point_into_lower_layers() {
    let link = |target| Tar::new().directory(".").add(EntryType::Link, "twin", target, b"");
    let stack = Stack::of(vec![Tar::new().directory(".").file("a", "1").link("l", "a"), link("./a")]);
    let layers = stack.assembled();
    let inode = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
    assert_eq!(inode(layers[0].path().join("a")), inode(layers[1].path().join("twin")));
    let lost = Stack::of(vec![Tar::new().directory("."), link("a")]);
    let error = format!("{:#}", assemble(&lost.store, lost.layers.clone()).unwrap_err());
    assert!(
        error.contains("`twin` refers to `a`, which neither its layer nor one below it contains"),
        "{error}"
    );
}
