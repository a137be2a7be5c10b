//! Patterns of glob(7) with `*`, `?` and `[...]`, which is all that depmod and boot loader settings use.

/// Whether a pattern matches the whole text. Takes at most (length of pattern) × (length of text) steps even for a
/// hostile pattern, because it only backtracks to the last star.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut place, mut at) = (0, 0);
    // The position after the last star, and the first byte of the text that the star has not consumed.
    let mut last = None;
    while at < text.len() {
        if pattern.get(place) == Some(&b'*') {
            place += 1;
            last = Some((place, at));
        } else if let Some(length) = one(&pattern[place..], text[at]) {
            (place, at) = (place + length, at + 1);
        } else {
            let Some((behind, left)) = last else { return false };
            (place, at) = (behind, left + 1);
            last = Some((behind, at));
        }
    }
    pattern[place..].iter().all(|rest| *rest == b'*')
}

/// The length of the pattern's first element if it matches this byte; `None` otherwise.
fn one(pattern: &[u8], letter: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|end| *end == b']')?;
            in_set(&rest[..end], letter).then_some(end + 2)
        }
        [wanted, ..] => (*wanted == letter).then_some(1),
        [] => None,
    }
}

fn in_set(mut set: &[u8], letter: u8) -> bool {
    loop {
        set = match set {
            [low, b'-', high, ..] if (*low..=*high).contains(&letter) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [only, ..] if *only == letter => return true,
            [_, rest @ ..] => rest,
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_depmod() {
        for (pattern, text, expected) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4", false),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true),
            ("usb:v0451p[0-9A]*d?", "usb:v0451pA0d7", true),
            ("usb:v0451p[0-9]*", "usb:v0451pB", false),
            ("a", "", false),
            ("", "", true),
            ("*", "", true),
            ("a**", "a", true),
            ("*ab*ab", "abxab", true),
            ("*ab?", "ababc", true),
            ("[", "[", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// Boot loader settings are untrusted: anyone with access to the disk may have written them.
    #[test]
    fn a_pathological_pattern_matches_quickly() {
        let text = "a".repeat(255);
        assert!(!matches(&("*a".repeat(120) + "b"), &text));
        assert!(matches(&"*".repeat(1 << 20), &text));
        assert!(!matches(&format!("[{}]", "b".repeat(1 << 20)), &text));
    }
}
