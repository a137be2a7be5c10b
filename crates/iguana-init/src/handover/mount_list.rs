//! The mount list: lines of `device mountpoint [options]`, mounted in order.

use super::NEW_ROOT;
use hint::{WithHint as _, hinted};
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::path::{Component, Path, PathBuf};
use sys::LoopPart;

/// One line of the mount list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountEntry {
    pub(super) device: String,
    pub(super) mountpoint: PathBuf,
    options: String,
}

/// What a line mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntrySource {
    /// The file system on a device.
    Device,
    /// A file system without a device, by the kernel's name, which the line has in the place of the device.
    Kernel(&'static str),
    /// An existing directory or file (bind mount), with or without the mounts below it.
    Path { with_mounts: bool },
    /// The file system in a file.
    File(LoopPart),
}

/// File systems that have no device.
const WITHOUT_DEVICE: &[&str] = &["tmpfs", "ramfs", "overlay"];

const NONE: MountFlags = MountFlags::empty();
/// What `user` and `users` bring along (mount(8)).
const OF_USERS: MountFlags = MountFlags::NOEXEC.union(OF_OWNERS);
/// What `owner` and `group` bring along.
const OF_OWNERS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// How files are marked as read.
const ACCESS: MountFlags = MountFlags::NOATIME.union(MountFlags::RELATIME).union(MountFlags::STRICTATIME);

/// The options that mount(8) takes itself, with the flags of mount(2) that they set and clear: a later option wins.
#[rustfmt::skip]
const OPTIONS: &[(&str, MountFlags, MountFlags)] = &[
    ("defaults",     NONE,                    NONE),
    ("ro",           MountFlags::RDONLY,      NONE),
    ("rw",           NONE,                    MountFlags::RDONLY),
    ("nosuid",       MountFlags::NOSUID,      NONE),
    ("suid",         NONE,                    MountFlags::NOSUID),
    ("nodev",        MountFlags::NODEV,       NONE),
    ("dev",          NONE,                    MountFlags::NODEV),
    ("noexec",       MountFlags::NOEXEC,      NONE),
    ("exec",         NONE,                    MountFlags::NOEXEC),
    ("noatime",      MountFlags::NOATIME,     ACCESS),
    ("atime",        NONE,                    MountFlags::NOATIME),
    ("nodiratime",   MountFlags::NODIRATIME,  NONE),
    ("diratime",     NONE,                    MountFlags::NODIRATIME),
    ("relatime",     MountFlags::RELATIME,    ACCESS),
    ("norelatime",   NONE,                    MountFlags::RELATIME),
    ("strictatime",  MountFlags::STRICTATIME, ACCESS),
    ("nostrictatime", NONE,                   MountFlags::STRICTATIME),
    ("sync",         MountFlags::SYNCHRONOUS, NONE),
    ("async",        NONE,                    MountFlags::SYNCHRONOUS),
    ("dirsync",      MountFlags::DIRSYNC,     NONE),
    ("silent",       MountFlags::SILENT,      NONE),
    ("loud",         NONE,                    MountFlags::SILENT),
    ("mand",         MountFlags::PERMIT_MANDATORY_FILE_LOCKING, NONE),
    ("nomand",       NONE,                    MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("nosymfollow",  MountFlags::NOSYMFOLLOW, NONE),
    ("symfollow",    NONE,                    MountFlags::NOSYMFOLLOW),
    ("lazytime",     MountFlags::LAZYTIME,    NONE),
    ("nolazytime",   NONE,                    MountFlags::LAZYTIME),
    ("user",         OF_USERS,                NONE),
    ("users",        OF_USERS,                NONE),
    ("owner",        OF_OWNERS,               NONE),
    ("group",        OF_OWNERS,               NONE),
    ("nouser",       NONE,                    NONE),
    ("nousers",      NONE,                    NONE),
    ("noowner",      NONE,                    NONE),
    ("nogroup",      NONE,                    NONE),
    ("auto",         NONE,                    NONE),
    ("noauto",       NONE,                    NONE),
    ("nofail",       NONE,                    NONE),
    ("_netdev",      NONE,                    NONE),
    ("bind",         NONE,                    NONE),
    ("rbind",        NONE,                    NONE),
    ("loop",         NONE,                    NONE),
];
/// The options for how mounts spread to other namespaces (mount(8), "Shared subtree operations"). They are set after the mount.
const PROPAGATION: &[(&str, MountPropagationFlags)] = &[
    ("private", MountPropagationFlags::PRIVATE),
    ("rprivate", MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC)),
    ("shared", MountPropagationFlags::SHARED),
    ("rshared", MountPropagationFlags::SHARED.union(MountPropagationFlags::REC)),
    ("slave", MountPropagationFlags::DOWNSTREAM),
    ("rslave", MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC)),
    ("unbindable", MountPropagationFlags::UNBINDABLE),
    ("runbindable", MountPropagationFlags::UNBINDABLE.union(MountPropagationFlags::REC)),
];
/// The beginnings of options for other programs, of comments, and of what is not for the file system.
const OF_OTHERS: &[&str] = &["x-", "X-", "comment=", "helper=", "uhelper=", "loop=", "offset=", "sizelimit="];
/// Operations of mount(8) on what is mounted already.
const ON_MOUNTED: &[&str] = &["remount", "move"];

/// A mount list that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountList {
    pub(super) entries: Vec<MountEntry>,
    /// Why lines were skipped.
    pub(super) skipped: Vec<String>,
}

/// Parses a mount list. Empty lines and lines that begin with `#` are ignored. Lines for swap space and those that are not
/// understood are skipped, as by the first Iguana, which went on after each line that it could not mount; with `strict` they
/// are errors. White space in a field is escaped as in fstab(5): `\040`.
///
/// # Errors
/// When it is not text or empty, a line is invalid, or no line mounts the new root.
pub(super) fn parse(text: &str, strict: bool) -> anyhow::Result<MountList> {
    let is_binary =
        |it: char| it == char::REPLACEMENT_CHARACTER || it.is_control() && !it.is_ascii_whitespace();
    if text.contains(is_binary) {
        return Err(hinted(
            "the mount list is not UTF-8 text",
            "have the job write lines of `DEVICE MOUNTPOINT [OPTIONS]`",
        ));
    }
    if text.trim().is_empty() {
        return Err(hinted(
            "the mount list is empty",
            format!(
                "add a line `DEVICE {NEW_ROOT}`, or do not write a mount list: then the root is found \
                     by its partition type"
            ),
        ));
    }
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for line in lines(text) {
        match parse_line(line) {
            Ok(entry) => entries.push(entry),
            Err(error) if strict => return Err(error),
            Err(error) => skipped.push(format!("{error:#}")),
        }
    }
    if !entries.iter().any(MountEntry::is_root) {
        return Err(hinted(
            format!("the mount list has no entry for `{NEW_ROOT}`"),
            format!("add a line `DEVICE {NEW_ROOT}`"),
        ));
    }
    Ok(MountList { entries, skipped })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a line is for swap space, as in fstab(5).
fn is_swap(line: &str) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (mountpoint, kind) = (fields.next(), fields.next());
    mountpoint == Some("swap") || mountpoint == Some("none") && kind == Some("swap")
}

fn parse_line(line: &str) -> anyhow::Result<MountEntry> {
    if is_swap(line) {
        return Err(hinted(
            format!("`{line}` is for swap space, which the new system uses by its own fstab"),
            "remove the line",
        ));
    }
    let mut fields = line.split_ascii_whitespace().map(unescaped);
    let (Some(device), Some(mountpoint)) = (fields.next(), fields.next()) else {
        return Err(hinted(
            format!("`{line}` is not a valid line of a mount list"),
            format!("write `DEVICE MOUNTPOINT [OPTIONS]`; the new root's mountpoint is `{NEW_ROOT}`"),
        ));
    };
    let path = Path::new(&mountpoint);
    let is_below = path.starts_with(NEW_ROOT) && !path.components().any(|part| part == Component::ParentDir);
    if !is_below {
        return Err(anyhow::anyhow!("the mountpoint `{mountpoint}` is not below `{NEW_ROOT}`"))
            .hint(format!("prefix it with `{NEW_ROOT}`: the new system's `/home` is `{NEW_ROOT}/home`"));
    }
    let entry = MountEntry::new(&device, &mountpoint, fields.next().as_deref().unwrap_or("defaults"));
    if let Some(option) = ON_MOUNTED.iter().find(|option| entry.has(option)) {
        return Err(hinted(
            format!("`{option}` in `{line}` is not possible: nothing is mounted there yet"),
            "remove the option",
        ));
    }
    if entry.is_image() && entry.loop_part().is_none() {
        return Err(hinted(
            format!("`offset=` or `sizelimit=` in `{line}` is not a number of bytes"),
            "write bytes, or a number with `K`, `M` or `G`",
        ));
    }
    Ok(entry)
}

/// Decodes the octal escapes of a field: `\ooo`.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match number.filter(u8::is_ascii) {
            Some(number) => text.extend([char::from(number)].into_iter().chain(part[3..].chars())),
            None => text.extend(['\\'].into_iter().chain(part.chars())),
        }
    }
    text
}

impl MountEntry {
    pub(super) fn new(device: &str, mountpoint: &str, options: &str) -> Self {
        Self { device: device.into(), mountpoint: mountpoint.into(), options: options.into() }
    }

    /// Whether the line mounts the new root.
    pub(super) fn is_root(&self) -> bool {
        self.mountpoint == Path::new(NEW_ROOT)
    }

    /// Whether the boot continues if the line fails (systemd.mount(5), `nofail`). The root is always required.
    pub(super) fn may_fail(&self) -> bool {
        !self.is_root() && self.has("nofail")
    }

    pub(super) fn source(&self) -> EntrySource {
        let without = WITHOUT_DEVICE.iter().find(|kind| **kind == self.device);
        if let Some(part) = self.loop_part().filter(|_| self.is_image()) {
            return EntrySource::File(part);
        }
        match (without, self.has("bind"), self.has("rbind")) {
            (_, _, true) => EntrySource::Path { with_mounts: true },
            (_, true, _) => EntrySource::Path { with_mounts: false },
            (Some(kind), ..) => EntrySource::Kernel(kind),
            (None, ..) => EntrySource::Device,
        }
    }

    /// Refuses the directories that containers share: they are not part of an installed system, and are gone after the
    /// switch of the root.
    ///
    /// # Errors
    /// When the line names a path below `/iguana` or `/run/iguana`, or a path that leads there.
    pub(super) fn refuse_containers_files(&self) -> anyhow::Result<()> {
        let has_path = self.source() != EntrySource::Kernel("overlay");
        let named = [Path::new(&self.device)].into_iter().filter(|path| has_path && path.is_absolute());
        let options = self.options.split(',').filter_map(|option| option.split_once('='));
        let mut of_options = options.flat_map(|(_, value)| value.split(':'));
        if named.chain([self.mountpoint.as_path()]).any(exchange::is_of_containers) {
            return Err(self.of_containers());
        }
        // The file system treats an escaped `:` or `,` as a part of the name, so refuse paths with a backslash.
        let is_refused =
            |path: &str| path.contains('\\') || exchange::is_of_containers(&Path::new("/").join(path));
        if of_options.any(is_refused) {
            return Err(self.of_containers());
        }
        Ok(())
    }

    pub(super) fn of_containers(&self) -> anyhow::Error {
        let line = format!("{} {} {}", self.device, self.mountpoint.display(), self.options);
        hinted(
            format!("the line `{line}` of the mount list refers to `/iguana` or `/run/iguana`, or may do so"),
            "name a disk or a path on one: these directories belong to the containers and do not outlive \
             the boot",
        )
    }

    /// Whether the line mounts a file (mount(8), "Loop-device support").
    fn is_image(&self) -> bool {
        self.has("loop") || self.value("loop").is_some()
    }

    /// The part of the file, if its options are numbers.
    fn loop_part(&self) -> Option<LoopPart> {
        let bytes = |name: &str| self.value(name).map_or(Some(0), workflow::duration::bytes);
        let is_writable = !self.flags_and_data().0.contains(MountFlags::RDONLY);
        Some(LoopPart { offset: bytes("offset")?, size_limit: bytes("sizelimit")?, is_writable })
    }

    /// The value of the last `NAME=VALUE`.
    fn value(&self, name: &str) -> Option<&str> {
        let values = self.options.split(',').filter_map(|option| option.split_once('='));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back()
    }

    /// How the mount spreads to other namespaces, in the order written.
    pub(super) fn propagation(&self) -> impl Iterator<Item = MountPropagationFlags> {
        let of = |option: &str| PROPAGATION.iter().find(|(name, _)| *name == option).map(|(_, flags)| *flags);
        self.options.split(',').filter_map(of)
    }

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|it| it == option)
    }

    /// Divides the options of fstab(5) into the flags of mount(2) and the data for the file system.
    pub(super) fn flags_and_data(&self) -> (MountFlags, String) {
        let mut flags = MountFlags::empty();
        let mut data = Vec::new();
        for option in self.options.split(',') {
            let known = OPTIONS.iter().find(|(name, ..)| *name == option);
            let is_of_others = option.is_empty()
                || OF_OTHERS.iter().any(|prefix| option.starts_with(prefix))
                || PROPAGATION.iter().any(|(name, _)| *name == option);
            match known {
                Some((_, set, clear)) => flags = (flags - *clear) | *set,
                None if option.starts_with("user=") => flags |= OF_USERS,
                None if is_of_others => {}
                None => data.push(option),
            }
        }
        (flags, data.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Vec<MountEntry>> {
        Ok(super::parse(text, true)?.entries)
    }

    #[test]
    fn lines_have_two_or_three_fields() {
        let list =
            parse("# made by hand\n/dev/vda1 /sysroot\n\n  UUID=1 /sysroot/boot  ro,nodev \n").unwrap();
        assert_eq!(list[0], MountEntry::new("/dev/vda1", "/sysroot", "defaults"));
        assert_eq!(list[1], MountEntry::new("UUID=1", "/sysroot/boot", "ro,nodev"));
        assert!(parse("/dev/vda1").unwrap_err().to_string().contains("`/dev/vda1`"));
        assert!(
            parse("/dev/vda1 /sysroot/home").unwrap_err().to_string().contains("no entry for `/sysroot`")
        );
        for binary in ["\0\0", "\x7fELF\u{fffd}\u{1}"] {
            assert!(parse(binary).unwrap_err().to_string().contains("not UTF-8 text"), "{binary:?}");
        }
        for empty in ["", " \n\t\n"] {
            assert!(parse(empty).unwrap_err().to_string().contains("is empty"), "{empty:?}");
        }
    }

    #[test]
    fn lines_that_cannot_be_mounted_are_skipped_unless_the_workflow_is_strict() {
        let text = "/dev/vda1 /sysroot\n/dev/vda2 swap\n# /dev/vda9 swap\n/dev/vda3 none swap sw 0 0\n\
            /dev/vda4\n/dev/vda5 /etc\n";
        let list = super::parse(text, false).unwrap();
        assert_eq!(list.entries, [MountEntry::new("/dev/vda1", "/sysroot", "defaults")]);
        for (why, part) in
            list.skipped.iter().zip(["vda2 swap` is for swap", "vda3 none swap", "vda4`", "`/etc`"])
        {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(list.skipped.len(), 4);
        for line in text.lines().filter(|line| *line != "/dev/vda1 /sysroot" && !line.starts_with('#')) {
            assert!(super::parse(&format!("/dev/vda1 /sysroot\n{line}"), true).is_err(), "{line}");
        }
        assert!(super::parse("/dev/vda4\n", false).unwrap_err().to_string().contains("no entry for"));
    }

    #[test]
    fn white_space_in_a_field_is_escaped() {
        let list =
            parse("LABEL=my\\040root\t/sysroot\nLABEL=a\\b /sysroot/with\\040space\\134 ro 0 0\n").unwrap();
        assert_eq!(list[0], MountEntry::new("LABEL=my root", "/sysroot", "defaults"));
        assert_eq!(list[1], MountEntry::new(r"LABEL=a\b", r"/sysroot/with space\", "ro"));
        assert_eq!(unescaped(r"\04é\999\"), r"\04é\999\");
    }

    #[test]
    fn mountpoints_stay_in_the_new_root() {
        for line in ["/dev/vda1 /", "/dev/vda1 /sysroots", "/dev/vda1 /sysroot/../etc"] {
            assert!(parse(line).unwrap_err().to_string().contains("not below"), "{line}");
        }
    }

    #[test]
    fn options_go_where_they_belong() {
        let options = "defaults,ro,noatime,subvol=@,x-systemd.growfs,nofail,errors=remount-ro";
        let entry = MountEntry::new("/dev/vda1", "/sysroot/home", options);
        let expected = (MountFlags::RDONLY | MountFlags::NOATIME, "subvol=@,errors=remount-ro".to_owned());
        assert_eq!(entry.flags_and_data(), expected);
        assert!(entry.may_fail() && !MountEntry::new("/dev/vda1", NEW_ROOT, "nofail").may_fail());
    }

    #[test]
    fn a_later_option_wins_and_options_of_other_programs_are_ignored() {
        let of = |options| MountEntry::new("/dev/vda1", "/sysroot/home", options).flags_and_data();
        let (none, ro) = (MountFlags::empty(), MountFlags::RDONLY);
        assert_eq!(of("ro,rw"), (none, String::new()));
        assert_eq!(of("rw,ro"), (ro, String::new()));
        assert_eq!(of("user,comment=mine,X-mount.mkdir,x-gvfs-show,_netdev"), (OF_USERS, String::new()));
        assert_eq!(of("users,exec"), (OF_OWNERS, String::new()));
        assert_eq!(of("noatime,relatime,owner,dev,suid"), (MountFlags::RELATIME, String::new()));
        assert_eq!(of("uid=0,atime"), (none, "uid=0".to_owned()));
        assert_eq!(
            of("user=ada,loud,rshared,private,loop,offset=1M,uhelper=udisks2"),
            (OF_USERS, String::new())
        );
        assert_eq!(of("nosymfollow,silent"), (MountFlags::NOSYMFOLLOW | MountFlags::SILENT, String::new()));
        let spread: Vec<_> =
            MountEntry::new("tmpfs", "/sysroot/run", "slave,rshared").propagation().collect();
        let recursive = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        assert_eq!(spread, [MountPropagationFlags::DOWNSTREAM, recursive]);
        for line in ["/dev/vda1 /sysroot remount,rw", "/a /sysroot move", "/a /sysroot loop,offset=x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_directories_of_containers_cannot_be_part_of_a_system() {
        let refused = |device: &str, options: &str| {
            MountEntry::new(device, "/sysroot", options).refuse_containers_files().is_err()
        };
        for (device, options) in [
            ("/iguana/new", "bind"),
            ("/iguana", "rbind"),
            ("/tmp/../iguana/new", "bind,ro"),
            ("/run/iguana/store", "bind"),
            ("/iguana/image", "loop"),
            ("overlay", "lowerdir=/usr:/iguana/new"),
            ("overlay", "lowerdir=/usr,upperdir=iguana/new,workdir=/tmp"),
            ("overlay", r"lowerdir=/a\:b"),
        ] {
            assert!(refused(device, options), "{device} {options}");
        }
        for (device, options) in [
            ("/dev/vda1", "subvol=@,errors=remount-ro"),
            ("LABEL=iguana", "defaults"),
            ("/sysroot/iguana", "bind"),
            ("overlay", "lowerdir=/sysroot/a:/sysroot/b"),
        ] {
            assert!(!refused(device, options), "{device} {options}");
        }
        let shown = MountEntry::new("/iguana/new", "/sysroot", "bind").of_containers().to_string();
        assert!(shown.contains("`/iguana/new /sysroot bind`"), "{shown}");
    }

    #[test]
    fn not_everything_is_on_a_device() {
        let source = |device, options| MountEntry::new(device, "/sysroot/x", options).source();
        assert_eq!(source("/dev/vda1", "ro"), EntrySource::Device);
        assert_eq!(source("tmpfs", "size=1m"), EntrySource::Kernel("tmpfs"));
        assert_eq!(source("overlay", "lowerdir=/a"), EntrySource::Kernel("overlay"));
        assert_eq!(source("/sysroot/data", "bind,ro"), EntrySource::Path { with_mounts: false });
        assert_eq!(source("/dev", "rbind"), EntrySource::Path { with_mounts: true });
        let part = LoopPart { offset: 1 << 20, size_limit: 0, is_writable: false };
        assert_eq!(source("/sysroot/image", "ro,loop,offset=1048576"), EntrySource::File(part));
        let part = LoopPart { offset: 0, size_limit: 4096, is_writable: true };
        assert_eq!(source("/sysroot/image", "loop=/dev/loop0,sizelimit=4K"), EntrySource::File(part));
    }
}
