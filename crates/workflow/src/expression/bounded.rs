//! Texts with a size limit.

use std::fmt;

/// Bytes of the longest text that an expression can make: GitHub's limit for the outputs of a job. The kernel takes
/// at most 128 KiB in an environment variable. Without a limit, fifty nested calls of `format`, `join` or `toJSON`,
/// each of which doubles its text, would exhaust the memory.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A text of at most [`MAX_BYTES`]; the rest is dropped.
#[derive(Default)]
pub(super) struct BoundedText(String);

impl BoundedText {
    pub(super) fn push(&mut self, text: &str) {
        let room = MAX_BYTES - self.0.len();
        let end = text.floor_char_boundary(room);
        self.0.push_str(&text[..end]);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let mut text = BoundedText::default();
        text.push(&"a".repeat(MAX_BYTES - 1));
        text.push("éb");
        assert_eq!(text.into_string().len(), MAX_BYTES - 1);
    }
}
