//! Limits the kernel's requests for modules that do not exist. Any program can cause them under any name and without
//! end: socket(2) of each family, a name of an algorithm, execve(2) of each format. The kernel executes this program
//! for each, outside of the limits of the container.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where requests are counted: in memory, and where only privileged containers can write.
const COUNTS: &str = "/run/iguana/module-requests";
/// Requests in vain of one kind after which those of the kind are refused at once. A usual boot has some ten in all.
pub(super) const LIMIT: u64 = 500;
/// How long they are refused.
const PAUSE: Duration = Duration::from_secs(60);

/// The requests of one kind, such as `crypto-…`, `net-pf-…`, `fs-…`. The kernel chooses the kind, and the kinds that
/// only privileged programs can cause stay available whatever others do.
pub(super) struct Requests {
    /// A file with one byte for each request in vain. Its time is that of the last one that was counted.
    count: PathBuf,
    /// Exists once the limit was reported.
    reported: PathBuf,
}

impl Requests {
    /// Those of the kind of this name.
    pub(super) fn of(name: &str) -> Self {
        Self::counted_in(Path::new(COUNTS), name)
    }

    fn counted_in(directory: &Path, name: &str) -> Self {
        // Without it nothing is counted.
        let _ = fs::create_dir_all(directory);
        let kind = kind(name);
        Self { count: directory.join(kind), reported: directory.join(format!("{kind}.reported")) }
    }

    /// Whether there are so many requests in vain that another one is refused.
    pub(super) fn are_exhausted(&self, now: SystemTime) -> bool {
        let Ok(found) = fs::symlink_metadata(&self.count) else { return false };
        if found.len() < LIMIT {
            return false;
        }
        // Another process may have counted since, but a clock that was set back ends the pause.
        let distance = |last: SystemTime| now.duration_since(last).unwrap_or_else(|error| error.duration());
        let is_over = found.modified().map_or(true, |last| distance(last) >= PAUSE);
        if is_over {
            let _ = fs::remove_file(&self.count);
        }
        !is_over
    }

    /// Counts a request in vain. `true` if the limit is reached for the first time.
    pub(super) fn count_one_in_vain(&self) -> bool {
        self.count().is_ok_and(|count| count >= LIMIT) && self.is_first_report()
    }

    fn count(&self) -> io::Result<u64> {
        let mut file = self.options().append(true).create(true).open(&self.count)?;
        // Processes that append at the same time all count.
        file.write_all(b".")?;
        Ok(file.metadata()?.len())
    }

    fn is_first_report(&self) -> bool {
        let made: io::Result<File> = self.options().write(true).create_new(true).open(&self.reported);
        made.is_ok()
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options
    }
}

/// The letters with which a name begins: `crypto` of `crypto-rot13`.
fn kind(name: &str) -> &str {
    let end = name.find(|letter: char| !letter.is_ascii_lowercase()).unwrap_or(name.len());
    match &name[..end] {
        "" => "other",
        kind => &kind[..kind.len().min(16)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_vain_are_refused_after_so_many_until_a_pause_is_over() {
        let home = tempfile::tempdir().unwrap();
        let requests = |name: &str| Requests::counted_in(&home.path().join("counts"), name);
        let now = SystemTime::now();
        for number in 0..LIMIT {
            let one = requests(&format!("crypto-{number}"));
            assert!(!one.are_exhausted(now));
            assert_eq!(one.count_one_in_vain(), number + 1 == LIMIT);
        }
        assert!(requests("crypto-x").are_exhausted(now) && !requests("fs-ext4").are_exhausted(now));
        // Those that ran at the same time; the limit is reported once.
        assert!(!requests("crypto-y").count_one_in_vain());
        let later = SystemTime::now() + PAUSE;
        assert!(!requests("crypto-x").are_exhausted(later) && !requests("crypto-x").are_exhausted(now));
        (0..LIMIT).for_each(|_| assert!(!requests("crypto-x").count_one_in_vain()));
        assert!(requests("crypto-x").are_exhausted(SystemTime::now()));
        assert!(!requests("crypto-x").are_exhausted(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn the_kernel_chooses_the_kind() {
        let names = [
            "crypto-sha1",
            "net-pf-16-proto-9",
            "fs-xfs",
            "binfmt-0201",
            "pci:v0000",
            "-1",
            "../a",
            "xts(a)",
        ];
        assert_eq!(names.map(kind), ["crypto", "net", "fs", "binfmt", "pci", "other", "other", "xts"]);
        assert_eq!(kind(&"a".repeat(300)).len(), 16);
    }
}
