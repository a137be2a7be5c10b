//! The mount list: lines of `device mountpoint [options]`, mounted in order.

use super::NEW_ROOT;
use hint::{WithHint as _, hinted};
use rustix::mount::MountFlags;
use std::path::{Component, Path, PathBuf};

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
];
/// The beginnings of options for other programs, and of comments.
const OF_OTHERS: &[&str] = &["x-", "X-", "comment="];

/// Parses a mount list. Empty lines, lines that begin with `#` and [`swap_lines`] are ignored. White space in a field is escaped as in
/// fstab(5): `\040`.
///
/// # Errors
/// When it is not text or empty, a line is invalid, or no line mounts the new root.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<MountEntry>> {
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
    let lines = lines(text).filter(|line| !is_swap(line));
    let entries: Vec<MountEntry> = lines.map(parse_line).collect::<anyhow::Result<_>>()?;
    if !entries.iter().any(MountEntry::is_root) {
        return Err(hinted(
            format!("the mount list has no entry for `{NEW_ROOT}`"),
            format!("add a line `DEVICE {NEW_ROOT}`"),
        ));
    }
    Ok(entries)
}

/// The lines for swap space, as in fstab(5): the new system uses it by its own fstab, and nothing is mounted here.
pub(super) fn swap_lines(text: &str) -> impl Iterator<Item = &str> {
    lines(text).filter(|line| is_swap(line))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn is_swap(line: &str) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (mountpoint, kind) = (fields.next(), fields.next());
    mountpoint == Some("swap") || mountpoint == Some("none") && kind == Some("swap")
}

fn parse_line(line: &str) -> anyhow::Result<MountEntry> {
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
    let options = fields.next();
    Ok(MountEntry::new(&device, &mountpoint, options.as_deref().unwrap_or("defaults")))
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

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|it| it == option)
    }

    /// Divides the options of fstab(5) into the flags of mount(2) and the data for the file system.
    pub(super) fn flags_and_data(&self) -> (MountFlags, String) {
        let mut flags = MountFlags::empty();
        let mut data = Vec::new();
        for option in self.options.split(',') {
            let known = OPTIONS.iter().find(|(name, ..)| *name == option);
            let is_of_others = option.is_empty() || OF_OTHERS.iter().any(|prefix| option.starts_with(prefix));
            match known {
                Some((_, set, clear)) => flags = (flags - *clear) | *set,
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
    fn swap_space_is_left_to_the_new_system() {
        let text = "/dev/vda1 /sysroot\n/dev/vda2 swap\n# /dev/vda9 swap\n/dev/vda3 none swap sw 0 0\n";
        assert_eq!(parse(text).unwrap().len(), 1);
        assert_eq!(swap_lines(text).collect::<Vec<_>>(), ["/dev/vda2 swap", "/dev/vda3 none swap sw 0 0"]);
        assert!(parse("/dev/vda1 /sysroot\n/dev/vda2 none").is_err());
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
    }
}
