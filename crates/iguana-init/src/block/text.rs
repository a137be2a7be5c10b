//! Text fields of disks: UUIDs, labels, and labels encoded as file names.

/// A UUID in the text form of RFC 9562; empty if all bytes are zero, which means that it was never set.
pub(super) fn uuid(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    let mut text = String::new();
    for (number, byte) in bytes.iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// A GUID, whose first three fields are little-endian (UEFI specification, appendix A).
pub(super) fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    uuid(&order.map(|index| bytes[index]))
}

/// A label. It ends at the first zero byte or with the field; trailing blanks are padding.
pub(super) fn label(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

/// A label in UTF-16, little-endian, with the same rules as [`label`].
pub(super) fn wide_label(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units).trim_end().to_owned()
}

/// A label encoded as the name of a link, as udev and libblkid do it: ASCII other than letters, digits and `#+-.:=@_`
/// becomes an escape such as `\x20`.
pub(crate) fn encoded(label: &str) -> String {
    let mut name = String::new();
    for letter in label.chars() {
        if letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter) || !letter.is_ascii() {
            name.push(letter);
        } else {
            name += &format!("\\x{:02x}", u32::from(letter));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_udev_does() {
        assert_eq!(encoded("my root/2"), r"my\x20root\x2f2");
        assert_eq!(encoded(r"a\b"), r"a\x5cb");
        assert_eq!(encoded("Größe:1.0+x#@=_-"), "Größe:1.0+x#@=_-");
    }

    #[test]
    fn a_zero_uuid_is_not_a_uuid() {
        assert_eq!(uuid(&[0; 16]), "");
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(guid(&bytes), "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }
}
