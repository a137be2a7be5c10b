//! What this initrd is: the kernel that runs, and when it was built.

use std::time::{Duration, SystemTime};

/// Written by `iguana build`: `KEY=value` lines.
const BUILD: &str = "/etc/iguana/build";

/// The running kernel's release, as `uname -r` says it.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// When the initrd's parts were made; the beginning of 1970 when that is not known.
pub(crate) fn build_date() -> SystemTime {
    let text = std::fs::read_to_string(BUILD).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(value(&text, "DATE").unwrap_or(0))
}

fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_found_among_the_lines() {
        assert_eq!(value("VERSION=1\nDATE=1700000000\n", "DATE"), Some(1_700_000_000));
        assert_eq!(value("UPDATE=1\n", "DATE"), None);
    }
}
