//! Checks of the names that a server sends: an answer from the network must not be able to add lines or words to files.

/// The longest host name that the kernel accepts (gethostname(2), `HOST_NAME_MAX`), in bytes.
const LONGEST_HOST_NAME: usize = 64;
/// RFC 1035, section 2.3.4, in bytes.
const LONGEST_LABEL: usize = 63;
/// RFC 1035, section 2.3.4: 255 bytes on the wire are 253 in text.
const LONGEST_DOMAIN: usize = 253;

/// Parses the name in an option: letters, digits and hyphens between dots (RFC 1123, section 2.1), and also
/// underscores, which are common.
pub(crate) fn domain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let text = text.strip_suffix('.').unwrap_or(text);
    // A name whose last label is a number would be read as an address.
    let last_is_number = text.rsplit('.').next().is_some_and(|label| label.parse::<u64>().is_ok());
    (text.len() <= LONGEST_DOMAIN && text.split('.').all(is_label) && !(last_is_number && text.contains('.')))
        .then(|| text.to_owned())
}

fn is_label(label: &str) -> bool {
    let is_of_names = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_';
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(is_of_names)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Like [`domain`], for the host name. The domain is cut off when the whole is too long for the kernel.
pub(crate) fn host(bytes: &[u8]) -> Option<String> {
    let name = domain(bytes)?;
    if name.len() <= LONGEST_HOST_NAME {
        return Some(name);
    }
    name.split('.').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_hyphens() {
        for good in ["host", "host-1.lab.example", "3com", "a_b", "host\0", "lab.example.", "7"] {
            assert!(domain(good.as_bytes()).is_some(), "{good:?}");
        }
        let long = "a".repeat(64);
        for wrong in [
            "",
            "\0",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a b",
            "a\nnameserver 6.6.6.6",
            "a\0b",
            "a/b",
            "ä",
            "\x1b[2J",
            "10.0.0.1",
            "a.1",
            &long,
        ] {
            assert_eq!(domain(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(domain(b"\xff\xfe"), None);
        assert_eq!(domain("a.".repeat(127).as_bytes()).map(|name| name.len()), Some(253));
        assert_eq!(domain("ab.".repeat(85).as_bytes()), None);
    }

    #[test]
    fn a_host_name_that_the_kernel_would_refuse_loses_its_domain() {
        let label = "a".repeat(63);
        assert_eq!(host(label.as_bytes()).as_deref(), Some(&*label));
        assert_eq!(host(format!("{label}.lab.example").as_bytes()).as_deref(), Some(&*label));
        assert_eq!(host("a".repeat(65).as_bytes()), None);
    }
}
