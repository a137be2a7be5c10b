//! Suggests a known word for a mistyped one.

/// Words that are compared with one: each comparison takes microseconds, and a hostile document has many mistakes.
const MOST_COMPARED: usize = 500;

/// The most similar word of `known`. At most a third of its letters may differ, and not all of them.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let measured = known.into_iter().take(MOST_COMPARED).filter_map(|candidate| {
        let letters = candidate.len().max(word.len());
        // The distance is at least the difference in length.
        let is_hopeless = candidate.len().abs_diff(word.len()) * 3 > letters.max(3);
        let distance = if is_hopeless { return None } else { distance(word, candidate) };
        (distance * 3 <= letters.max(3) && distance < letters).then_some((distance, candidate))
    });
    measured.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Number of letters to change, add, remove or swap with their neighbour (the optimal string alignment distance). Case
/// is ignored, and `_` equals `-`.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| -> Vec<char> {
        text.chars().map(|letter| if letter == '_' { '-' } else { letter.to_ascii_lowercase() }).collect()
    };
    let (one, other) = (letters(one), letters(other));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let changed = last[column] + usize::from(letter != against);
            let mut best = changed.min(last[column + 1] + 1).min(this[column] + 1);
            let is_swap = row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *against;
            if is_swap {
                best = best.min(before[column - 1] + 1);
            }
            this.push(best);
        }
        before = std::mem::replace(&mut last, this);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_another_word_is_not() {
        let known = ["a", "container", "continue-on-error", "env", "needs", "steps"];
        for (word, expected) in [
            ("contianer", Some("container")),
            ("continue_on_error", Some("continue-on-error")),
            ("Env", Some("env")),
            ("need", Some("needs")),
            ("step", Some("steps")),
            ("image", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
