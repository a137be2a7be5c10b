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

/// Parses a list of names in the form of DNS messages, with compression (RFC 3397, section 2; RFC 1035, section 4.1.4).
/// Names that are none are left out; `None` when the bytes do not follow the form.
pub(crate) fn list(bytes: &[u8]) -> Option<Vec<String>> {
    let (mut names, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (name, end) = name_at(bytes, at)?;
        names.extend(domain(name.as_bytes()));
        at = end;
    }
    Some(names)
}

/// The name that begins at `start`, and where it ends there.
fn name_at(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    const POINTER: u8 = 0xC0;
    let (mut name, mut at, mut end) = (String::new(), start, None);
    loop {
        let length = *bytes.get(at)?;
        at = at.checked_add(1)?;
        match length {
            0 => return Some((name, end.unwrap_or(at))),
            POINTER.. => {
                let low = *bytes.get(at)?;
                end = end.or(at.checked_add(1));
                let to = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                // A pointer leads back, so that every name ends.
                at = Some(to).filter(|to| *to < at.saturating_sub(1))?;
            }
            1..=63 => {
                let after = at.checked_add(length.into())?;
                let label =
                    std::str::from_utf8(bytes.get(at..after)?).ok().filter(|label| !label.contains('.'))?;
                name.push_str(if name.is_empty() { "" } else { "." });
                name.push_str(label);
                at = after;
            }
            _ => return None,
        }
        if name.len() > LONGEST_DOMAIN {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_may_refer_to_earlier_names() {
        // The example of RFC 3397, section 2: `eng.apple.com`, and `marketing` with a pointer to `apple.com`.
        let example = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(list(example).unwrap(), ["eng.apple.com", "marketing.apple.com"]);
        assert_eq!(list(b"\x01a\x00\x02-b\x00\x01c\x00").unwrap(), ["a", "c"]);
        for wrong in [
            &b"\x01a"[..],
            b"\xc0\x00",
            b"\x01a\xc0\x02",
            b"\x01a\xc0\x00",
            b"\x40a\x00",
            b"\x05a\x00",
            b"\xc0",
        ] {
            assert_eq!(list(wrong), None, "{wrong:?}");
        }
    }

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
