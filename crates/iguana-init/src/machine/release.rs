//! The release of the running kernel, and the date of the initrd.

use std::time::{Duration, SystemTime};

/// Written by `iguana build`: `KEY=value` lines.
const BUILD: &str = "/etc/iguana/build";

/// The kernel's release, as `uname -r` prints it.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// When the initrd's parts were made; 1970-01-01 if unknown.
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
