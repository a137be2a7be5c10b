//! URLs in the answers of servers.

/// The schemes that a boot URL may have: those of control files.
const SCHEMES: [&str; 4] = ["http://", "https://", "tftp://", "oci://"];
/// Bytes of the longest URL: no server sends more in the options of one packet.
const LONGEST_URL: usize = 1024;

/// The URL in an option or a field that ends with zeros; `None` when it is none, such as the name of a boot loader.
pub(crate) fn url(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST_URL)?;
    let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))?;
    (!rest.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_boot_loader_is_not_a_url() {
        assert_eq!(
            url(b"http://boot.example/${mac}.yaml\0\0").as_deref(),
            Some("http://boot.example/${mac}.yaml")
        );
        for other in
            ["pxelinux.0", "", "http://", "http://a b", "file:///etc", "http://a\nb", "http://\u{e4}"]
        {
            assert_eq!(url(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(url(format!("http://{}", "a".repeat(LONGEST_URL)).as_bytes()), None);
        assert_eq!(url(b"http://\xff"), None);
    }
}
