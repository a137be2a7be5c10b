//! The machine-id (machine-id(5)): that of the system already installed, or a new one.

use crate::report::Report;
use anyhow::Context as _;
use config::cmdline::Settings;
use std::fs::File;
use std::io::Read as _;

/// Where the existing root file system is mounted while its machine-id is read.
const EXISTING_ROOT: &str = "/run/iguana/root";

/// The machine-id of this boot: 32 hexadecimal digits.
///
/// # Errors
/// When there are no random numbers.
pub(crate) fn machine_id(settings: &Settings, report: &Report) -> anyhow::Result<String> {
    let existing = settings.root.as_deref().and_then(|root| existing_machine_id(root, report));
    existing.map_or_else(new_machine_id, Ok)
}

/// A new machine-id: 128 random bits in the form that machine-id(5) requires.
fn new_machine_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes).context("cannot read `/dev/urandom`")?;
    // RFC 9562, section 5.4: the version and variant of a random UUID.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The machine-id of the system that is already on `root=`.
fn existing_machine_id(root: &str, report: &Report) -> Option<String> {
    let found = super::peek(root, EXISTING_ROOT, "etc/machine-id", report);
    match found {
        Ok(text) => {
            let id = text.trim();
            let is_id = id.len() == 32 && id.bytes().all(|letter| letter.is_ascii_hexdigit());
            is_id.then(|| id.to_owned())
        }
        Err(error) => {
            report.warn(format_args!("cannot take the machine-id from `root={root}`: {error:#}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_identity_is_32_digits_and_never_the_same() {
        let id = new_machine_id().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|letter| letter.is_ascii_hexdigit()), "{id}");
        assert_ne!(id, new_machine_id().unwrap());
    }
}
