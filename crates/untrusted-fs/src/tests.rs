use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Scratch {
    outside: tempfile::TempDir,
    inside: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let scratch = Self { outside: tempfile::tempdir().unwrap(), inside: tempfile::tempdir().unwrap() };
        std::fs::write(scratch.secret(), "secret").unwrap();
        scratch
    }

    fn secret(&self) -> PathBuf {
        self.outside.path().join("secret")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.inside.path().join(name)
    }

    fn directory(&self) -> Directory {
        Directory::open(self.inside.path()).unwrap()
    }
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn links_are_refused_or_stay_inside() {
    let scratch = Scratch::new();
    std::fs::write(scratch.at("file"), "inside").unwrap();
    symlink(scratch.secret(), scratch.at("out")).unwrap();
    symlink("/file", scratch.at("absolute")).unwrap();
    symlink("../../../../../../file", scratch.at("up")).unwrap();
    let directory = scratch.directory();
    for name in ["out", "absolute", "up"] {
        let error = directory.read(name, Links::Refuse, 100).unwrap_err();
        assert!(matches!(error.cause(), Cause::Link), "{name}: {error}");
    }
    for name in ["absolute", "up"] {
        assert_eq!(directory.read(name, Links::Inside, 100).unwrap(), b"inside", "{name}");
    }
    assert!(directory.read("out", Links::Inside, 100).unwrap_err().is_not_found());
}

#[test]
fn a_path_cannot_leave_its_directory() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    for path in ["../x", "/etc/passwd", ".."] {
        let error = directory.file(path, Links::Refuse).unwrap_err();
        assert!(matches!(error.cause(), Cause::Outside), "{path}: {error}");
    }
    symlink("/proc/self/fd/0", scratch.at("magic")).unwrap();
    assert!(directory.file("magic", Links::Inside).is_err());
}

#[test]
fn special_files_are_refused_without_waiting() {
    let scratch = Scratch::new();
    fifo(&scratch.at("fifo"));
    std::fs::create_dir(scratch.at("below")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.at("socket")).unwrap();
    for (name, expected) in [("fifo", "a FIFO"), ("below", "a directory"), ("socket", "a socket")] {
        let error = scratch.directory().read(name, Links::Refuse, 100).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let devices = Directory::open("/dev").unwrap();
    let error = devices.read("zero", Links::Refuse, 100).unwrap_err();
    assert!(error.to_string().contains("a character device"), "{error}");
}

#[test]
fn the_limit_is_the_largest_accepted_size() {
    let scratch = Scratch::new();
    std::fs::write(scratch.at("ten"), [0; 10]).unwrap();
    let directory = scratch.directory();
    assert_eq!(directory.read("ten", Links::Refuse, 10).unwrap().len(), 10);
    let error = directory.read("ten", Links::Refuse, 9).unwrap_err();
    assert!(matches!(error.cause(), Cause::TooLarge(9)), "{error}");
    std::fs::write(scratch.at("eleven"), "").unwrap();
    assert_eq!(directory.names(2).unwrap(), ["eleven", "ten"]);
    assert!(matches!(directory.names(1).unwrap_err().cause(), Cause::TooMany(1)));
}

#[test]
fn a_planted_link_is_replaced_and_not_followed() {
    let scratch = Scratch::new();
    symlink(scratch.secret(), scratch.at("result")).unwrap();
    let directory = scratch.directory();
    assert!(directory.create("result", 0o600).is_err());
    directory.replace("result", 0o640, b"new").unwrap();
    assert_eq!(std::fs::read(scratch.secret()).unwrap(), b"secret");
    assert_eq!(std::fs::read(scratch.at("result")).unwrap(), b"new");
    assert_eq!(std::fs::metadata(scratch.at("result")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(directory.names(10).unwrap(), ["result"]);
}

#[test]
fn an_abandoned_file_leaves_nothing() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    drop(directory.begin().unwrap());
    std::fs::create_dir(scratch.at("taken")).unwrap();
    assert!(directory.replace("taken", 0o644, b"x").is_err());
    assert_eq!(directory.names(10).unwrap(), ["taken"]);
}

#[test]
fn only_single_path_components_are_created() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.at("below")).unwrap();
    for name in ["below/x", "..", ".", "", "/x", "x/"] {
        let error = scratch.directory().create(name, 0o600).unwrap_err();
        assert!(matches!(error.cause(), Cause::NotAName), "{name}: {error}");
    }
}

#[test]
fn a_tree_is_removed_without_following_its_links() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.at("a/b/c")).unwrap();
    symlink(scratch.outside.path(), scratch.at("a/b/out")).unwrap();
    let directory = scratch.directory();
    directory.remove("a").unwrap();
    directory.remove("never there").unwrap();
    assert!(scratch.secret().exists());
    assert!(directory.names(1).unwrap().is_empty());
}

/// Deeper than the limit of descriptors and the stack allow.
#[test]
fn a_tree_is_removed_however_deep() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    let mut deepest = directory.create_directory("a", 0o755).unwrap();
    for _ in 0..3_000 {
        deepest.create("file", 0o600).unwrap();
        deepest = deepest.create_directory("d", 0o755).unwrap();
    }
    symlink(scratch.outside.path(), scratch.at("a/out")).unwrap();
    directory.remove("a").unwrap();
    assert!(directory.names(1).unwrap().is_empty());
    assert!(scratch.secret().exists());
}

#[test]
fn a_large_directory_is_read_in_parts() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    let full = directory.create_directory("full", 0o755).unwrap();
    for number in 0..10_000 {
        full.create(format!("{number}"), 0o600).unwrap();
    }
    assert_eq!(full.first_names(4096).unwrap().len(), 4096);
    assert_eq!(full.names(10_000).unwrap().len(), 10_000);
    assert!(matches!(full.names(9_999).unwrap_err().cause(), Cause::TooMany(9_999)));
    directory.remove("full").unwrap();
    assert!(directory.names(0).unwrap().is_empty());
}

#[test]
fn a_directory_is_opened_or_made_and_a_link_is_neither() {
    let scratch = Scratch::new();
    symlink(scratch.outside.path(), scratch.at("link")).unwrap();
    let directory = scratch.directory();
    directory.directory_or_new("new", 0o750).unwrap();
    directory.directory_or_new("new", 0o755).unwrap().sync().unwrap();
    assert_eq!(std::fs::metadata(scratch.at("new")).unwrap().permissions().mode() & 0o7777, 0o750);
    assert!(directory.directory_or_new("link", 0o755).is_err());
}

#[test]
fn missing_directories_are_made_inside_the_root() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    std::fs::create_dir(scratch.at("there")).unwrap();
    symlink("/there", scratch.at("link")).unwrap();
    symlink(scratch.outside.path(), scratch.at("out")).unwrap();
    symlink("/proc/self/root", scratch.at("magic")).unwrap();
    for path in ["/link/a/b", "link/../there/a/./c", "../../d"] {
        directory.make_directories(path, 0o755, Links::Inside).unwrap();
    }
    assert!(["there/a/b", "there/a/c", "d"].iter().all(|path| scratch.at(path).is_dir()));
    let refused = |path: &str, links| directory.make_directories(path, 0o755, links).is_err();
    assert!(refused("link/x", Links::Refuse) && refused("../x", Links::Refuse));
    assert!(refused("out/x", Links::Inside) && refused("magic/x", Links::Inside));
    assert!(!scratch.outside.path().join("x").exists());
    let real = Directory::open("/").unwrap();
    let magic = format!("/proc/self/cwd/../../../../../../../{}/x", scratch.outside.path().display());
    assert!(real.make_directories(magic, 0o755, Links::Inside).is_err());
    assert!(!scratch.outside.path().join("x").exists());
}

#[test]
fn locating_a_file_does_not_open_it() {
    let scratch = Scratch::new();
    fifo(&scratch.at("fifo"));
    symlink("fifo", scratch.at("link")).unwrap();
    let directory = scratch.directory();
    let found = fstat(directory.locate("link", Links::Inside).unwrap()).unwrap();
    assert_eq!(FileType::from_raw_mode(found.st_mode), FileType::Fifo);
    assert!(matches!(directory.locate("link", Links::Refuse).unwrap_err().cause(), Cause::Link));
}

#[test]
fn a_file_is_overwritten_in_place_and_a_link_is_not() {
    let scratch = Scratch::new();
    std::fs::write(scratch.at("file"), "what was there").unwrap();
    std::fs::hard_link(scratch.at("file"), scratch.at("same")).unwrap();
    symlink(scratch.secret(), scratch.at("link")).unwrap();
    fifo(&scratch.at("fifo"));
    let directory = scratch.directory();
    directory.overwrite("file", b"new").unwrap();
    assert_eq!(std::fs::read_to_string(scratch.at("same")).unwrap(), "new");
    for name in ["link", "fifo", "missing", "../x"] {
        directory.overwrite(name, b"new").unwrap_err();
    }
    assert_eq!(std::fs::read_to_string(scratch.secret()).unwrap(), "secret");
}

#[test]
fn a_fifo_is_new_and_does_not_block() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    symlink(scratch.secret(), scratch.at("taken")).unwrap();
    assert!(directory.create_fifo("taken", 0o666).is_err());
    let mut made = directory.create_fifo("progress", 0o666).unwrap();
    assert_eq!(std::fs::metadata(scratch.at("progress")).unwrap().permissions().mode() & 0o7777, 0o666);
    let nothing = made.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    std::fs::write(scratch.at("progress"), "line").unwrap();
    assert_eq!(made.read(&mut [0; 8]).unwrap(), 4);
}

#[test]
fn a_link_is_read_and_not_followed() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.at("a")).unwrap();
    symlink(scratch.secret(), scratch.at("a/out")).unwrap();
    symlink("a", scratch.at("by")).unwrap();
    let directory = scratch.directory();
    assert_eq!(directory.read_link("a/out", Links::Refuse).unwrap(), scratch.secret());
    assert!(matches!(directory.read_link("by/out", Links::Refuse).unwrap_err().cause(), Cause::Link));
    assert_eq!(directory.read_link("by/out", Links::Inside).unwrap(), scratch.secret());
    assert!(directory.read_link("a", Links::Refuse).is_err(), "no link");
}

#[test]
fn a_scratch_directory_is_removed_with_its_value() {
    let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = Directory::open(home.path()).unwrap();
    let scratch = top.scratch().unwrap();
    let name = top.names(1).unwrap().remove(0);
    std::fs::rename(home.path().join(&name), home.path().join("moved")).unwrap();
    symlink(outside.path(), home.path().join(&name)).unwrap();
    scratch.directory().replace("file", 0o600, b"text").unwrap();
    scratch.directory().move_to("file", &top, "placed").unwrap();
    assert!(scratch.directory().move_to("../moved", &top, "other").is_err());
    assert_eq!(std::fs::read(home.path().join("placed")).unwrap(), b"text");
    drop(scratch);
    assert!(!home.path().join(&name).is_symlink());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// Anyone could make a lookup fail by renaming files elsewhere (openat2(2), `EAGAIN`).
#[test]
fn renames_by_others_do_not_prevent_that_a_path_is_found() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (scratch, other, ended) =
        (Scratch::new(), tempfile::tempdir_in("/dev/shm").unwrap(), AtomicBool::new(false));
    std::fs::create_dir_all(scratch.at("usr/lib")).unwrap();
    std::fs::create_dir(scratch.at("etc")).unwrap();
    std::fs::write(scratch.at("usr/lib/os-release"), "ID=test").unwrap();
    // The more `..`, the longer it takes.
    let target = format!("{}../usr/lib/os-release", "../etc/".repeat(10));
    symlink(target, scratch.at("etc/os-release")).unwrap();
    std::fs::write(other.path().join("a"), "").unwrap();
    let directory = scratch.directory();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                std::fs::rename(other.path().join("a"), other.path().join("b")).unwrap();
                std::fs::rename(other.path().join("b"), other.path().join("a")).unwrap();
            }
        });
        let failed = (0..10_000).find_map(|_| directory.locate("etc/os-release", Links::Inside).err());
        ended.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
}

/// The access control list (`linux/posix_acl_xattr.h`) that gives everything to the user `nobody`.
fn list_for_nobody() -> Vec<u8> {
    let entries = [(1_u16, u32::MAX), (2, 65534), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
    let entry = |(tag, id): (u16, u32)| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
    [vec![2, 0, 0, 0], entries.into_iter().flat_map(entry).collect()].concat()
}

#[test]
fn a_new_directory_inherits_no_access_control_list() {
    use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
    let scratch = Scratch::new();
    let directory = scratch.directory();
    let set = |list| fsetxattr(&directory, list, &list_for_nobody(), XattrFlags::empty());
    if set("system.posix_acl_default") == Err(Errno::NOTSUP) {
        eprintln!("passed over: this file system has no access control lists");
        return;
    }
    let made = directory.create_directory("new", 0o775).unwrap();
    for list in ["system.posix_acl_default", "system.posix_acl_access"] {
        assert_eq!(fgetxattr(&made, list, &mut [0; 100][..]), Err(Errno::NODATA), "{list}");
    }
    assert_eq!(fstat(&made).unwrap().st_mode & 0o7777, 0o775);
}
