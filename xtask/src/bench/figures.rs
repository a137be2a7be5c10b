//! Statistics of repeated measurements: the median and the range.

use std::fmt;

/// The measurements of one quantity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    /// Adds one measurement.
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle value, or the mean of the middle two.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => self.0[middle],
            _ => (self.0[middle - 1] + self.0[middle]) / 2.0,
        }
    }

    /// The ratio of the median of `other` to this one's.
    pub(crate) fn ratio_of(&self, other: &Figures) -> f64 {
        other.median() / self.median()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) => {
                let digits = if *most < 1000.0 { 2 } else { 0 };
                write!(out, "{:.digits$} [{least:.digits$}-{most:.digits$}]", self.median())
            }
            _ => out.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[f64]) -> Figures {
        let mut figures = Figures::default();
        all.iter().for_each(|figure| figures.add(*figure));
        figures
    }

    #[test]
    fn median_with_least_and_most() {
        assert_eq!(figures(&[3.0, 1.0, 2.0]).to_string(), "2.00 [1.00-3.00]");
        assert_eq!(figures(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(figures(&[]).to_string(), "none");
        assert_eq!(figures(&[2.0]).ratio_of(&figures(&[12.0])), 6.0);
    }
}
