//! Values that are not shown.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is shown in place of a value.
const HIDDEN: &str = "***";
/// Values, and bytes of each: every byte of output is compared with them, and a terminal shows the beginning of one only
/// when it is known to be something else.
const NUMBER_LIMIT: usize = 100;
const LENGTH_LIMIT: usize = 4096;

/// Values that are hidden wherever they would be shown. Clones share them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Vec<String>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Secrets({})", self.values().len())
    }
}

impl Secrets {
    /// Adds a value, each of its lines by itself. Returns whether there was room for all of it.
    pub fn add(&self, value: &str) -> bool {
        let mut values = self.values();
        let mut has_room = true;
        for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if values.iter().any(|known| known == line) {
                continue;
            }
            if line.len() > LENGTH_LIMIT || values.len() == NUMBER_LIMIT {
                has_room = false;
                continue;
            }
            // The longest first: one may contain another.
            let at = values.partition_point(|known| known.len() >= line.len());
            values.insert(at, line.to_owned());
        }
        has_room
    }

    /// The same values, to which values can be added without effect on these.
    #[must_use]
    pub fn separate(&self) -> Self {
        Self(Arc::new(Mutex::new(self.values().clone())))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().is_empty()
    }

    /// The text without the values.
    #[must_use]
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let values = self.values();
        if !values.iter().any(|value| text.contains(value)) {
            return Cow::Borrowed(text);
        }
        let mut shown = text.as_bytes().to_vec();
        let mut hidden = Vec::new();
        hide(&values, &mut shown, &mut hidden, true);
        Cow::Owned(String::from_utf8_lossy(&hidden).into_owned())
    }

    /// Moves bytes from `held` to `shown`, without the values. What may be the beginning of a value stays in `held`, unless
    /// this is the end.
    pub fn hide_in(&self, held: &mut Vec<u8>, shown: &mut Vec<u8>, is_end: bool) {
        hide(&self.values(), held, shown, is_end);
    }

    fn values(&self) -> MutexGuard<'_, Vec<String>> {
        // Each value is added whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hide(values: &[String], held: &mut Vec<u8>, shown: &mut Vec<u8>, is_end: bool) {
    if values.is_empty() {
        return shown.append(held);
    }
    let mut at = 0;
    while at < held.len() {
        let rest = &held[at..];
        let may_begin = |value: &String| rest.len() < value.len() && value.as_bytes().starts_with(rest);
        if !is_end && values.iter().any(may_begin) {
            break;
        }
        match values.iter().find(|value| rest.starts_with(value.as_bytes())) {
            Some(value) => {
                shown.extend(HIDDEN.bytes());
                at += value.len();
            }
            None => {
                shown.push(held[at]);
                at += 1;
            }
        }
    }
    held.drain(..at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_the_longest_first() {
        let secrets = Secrets::default();
        assert!(secrets.is_empty() && secrets.hide("s3cret") == "s3cret");
        assert!(secrets.add("s3cret\r\n\nä longer s3cret\n") && secrets.add("s3cret"));
        assert_eq!(secrets.hide("a s3cret, an ä longer s3cret, s3cre"), "a ***, an ***, s3cre");
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
    }

    #[test]
    fn a_value_in_several_parts_is_hidden_too() {
        let secrets = Secrets::default();
        secrets.add("abcabd");
        let (mut held, mut shown) = (Vec::new(), Vec::new());
        for byte in b"xabcabcabd abca" {
            held.push(*byte);
            secrets.hide_in(&mut held, &mut shown, false);
            assert!(!shown.ends_with(b"abcabd"));
        }
        assert_eq!((&shown[..], &held[..]), (&b"xabc*** "[..], &b"abca"[..]));
        secrets.hide_in(&mut held, &mut shown, true);
        assert_eq!(shown, b"xabc*** abca");
    }

    #[test]
    fn their_number_and_length_are_limited() {
        let secrets = Secrets::default();
        assert!(!secrets.add(&"x".repeat(LENGTH_LIMIT + 1)) && secrets.is_empty());
        assert!((0..NUMBER_LIMIT).all(|number| secrets.add(&format!("value {number}"))));
        assert!(!secrets.add("one more") && secrets.add("value 7"));
    }
}
