//! glob(7) with `*`, `?` and `[...]`: all that depmod and boot loaders' settings use.

/// Whether a pattern matches a whole text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    fn from(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*'], _) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| from(rest, &text[skip..])),
            ([b'?', rest @ ..], [_, text @ ..]) => from(rest, text),
            ([b'[', rest @ ..], [letter, text @ ..]) => match rest.iter().position(|end| *end == b']') {
                Some(end) => in_set(&rest[..end], *letter) && from(&rest[end + 1..], text),
                None => false,
            },
            ([wanted, rest @ ..], [letter, text @ ..]) => wanted == letter && from(rest, text),
            _ => false,
        }
    }
    from(pattern.as_bytes(), text.as_bytes())
}

fn in_set(set: &[u8], letter: u8) -> bool {
    match set {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&letter) || in_set(rest, letter),
        [one, rest @ ..] => *one == letter || in_set(rest, letter),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_depmod_means_them() {
        for (pattern, text, expected) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4", false),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true),
            ("usb:v0451p[0-9A]*d?", "usb:v0451pA0d7", true),
            ("usb:v0451p[0-9]*", "usb:v0451pB", false),
            ("a", "", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
