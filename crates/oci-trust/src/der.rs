//! The part of DER (X.690) that is needed to parse keys and certificates.

/// Universal tags (X.690, section 8.1.2; X.680, section 8.4).
#[cfg(feature = "keyless")]
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
#[cfg(feature = "keyless")]
pub(super) const OCTET_STRING: u8 = 0x04;
#[cfg(feature = "keyless")]
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
#[cfg(feature = "keyless")]
pub(super) const UTF8_STRING: u8 = 0x0c;
#[cfg(feature = "keyless")]
pub(super) const UTC_TIME: u8 = 0x17;
#[cfg(feature = "keyless")]
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The content of a value with the tag `tag`, and the bytes after it (X.690, section 8.1; lengths of at most two
/// bytes).
pub(super) fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, value, rest) = any(der)?;
    (found == tag).then_some((value, rest))
}

/// The first value with any tag: tag, content, and the bytes after it.
pub(super) fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match (length, rest) {
        (0..=0x7f, _) => (usize::from(length), rest),
        (0x81, [one, rest @ ..]) => (usize::from(*one), rest),
        (0x82, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// All values with their tags; `None` if the last one is truncated.
#[cfg(feature = "keyless")]
pub(super) fn all(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut values = Vec::new();
    while !der.is_empty() {
        let (tag, value, rest) = any(der)?;
        values.push((tag, value));
        der = rest;
    }
    Some(values)
}
