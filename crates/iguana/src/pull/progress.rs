//! Progress of a pull on standard error: bars on a terminal, lines otherwise.

use crate::output;
use crate::waiting::Waiting;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci_pull::{LayerProgress, PullEvent};
use oci_reference::Reference;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// Update interval on a terminal: short enough to look smooth.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Interval of lines elsewhere, the same as in a boot.
const LINES_INTERVAL: Duration = Duration::from_secs(5);
/// Digits of a digest that identify a layer, the same number as podman and docker show.
const DIGITS: usize = 12;
/// Template: layer, bar, bytes, rate, time left.
const BAR: &str = "{prefix} {bar:30} {bytes:>11} of {total_bytes:<11} {bytes_per_sec:>13}  {eta:>4} left";
/// Template for a complete layer.
const FULL_BAR: &str = "{prefix} {bar:30} {total_bytes:>11}";

/// Update interval for this kind of standard error.
pub(super) fn interval() -> Duration {
    if stderr().is_terminal() { REDRAW_INTERVAL } else { LINES_INTERVAL }
}

/// Prints the progress.
pub(super) struct ProgressPrinter<'a> {
    image: &'a Reference,
    start: Instant,
    bars: MultiProgress,
    layers: Vec<ProgressBar>,
    is_terminal: bool,
    waiting: Option<Waiting>,
}

impl<'a> ProgressPrinter<'a> {
    pub(super) fn new(image: &'a Reference) -> Self {
        let is_terminal = stderr().is_terminal();
        let (start, bars) = (Instant::now(), MultiProgress::new());
        Self { image, start, bars, layers: Vec::new(), is_terminal, waiting: None }
    }

    pub(super) fn tell(&mut self, event: PullEvent) {
        let image = self.image;
        self.waiting = None;
        match event {
            PullEvent::Elsewhere { place, why } => self.line(&format!("cannot use `{place}`: {why}")),
            PullEvent::Approved { .. } => {}
            PullEvent::Asking { limit } => self.wait_for("the registry", limit),
            PullEvent::Assembling { limit } => {
                self.waiting = Some(Waiting::start(format!("{image}: assembling its layers"), limit));
            }
            PullEvent::Waiting { why, wait, tried, tries } => {
                let seconds = wait.as_secs_f32();
                self.line(&format!("{why}; retrying in {seconds:.1} s ({tried} of {tries})"));
                self.wait_for("the next attempt", wait);
            }
            PullEvent::Resolved { place, layers, bytes, .. } => {
                let place = place.map(|place| format!(" from {place}")).unwrap_or_default();
                let plural = if layers == 1 { "" } else { "s" };
                self.line(&format!("{image}{place}: {layers} layer{plural}, {}", megabytes(bytes)));
            }
            PullEvent::Progress { layers, .. } if self.is_terminal => self.draw(&layers),
            PullEvent::Progress { done, bytes, .. } => {
                let seconds = self.start.elapsed().as_secs();
                self.line(&format!("{image}: {} of {} after {seconds} s", megabytes(done), megabytes(bytes)));
            }
        }
    }

    fn wait_for(&mut self, what: &str, limit: Duration) {
        self.waiting = Some(Waiting::start(format!("{}: waiting for {what}", self.image), limit));
    }

    fn line(&self, text: &str) {
        self.bars.suspend(|| output::note(text));
    }

    fn draw(&mut self, layers: &[LayerProgress]) {
        if self.layers.is_empty() {
            self.layers = layers.iter().map(|layer| self.bars.add(bar(layer))).collect();
        }
        for (bar, layer) in self.layers.iter().zip(layers) {
            bar.set_position(layer.done);
            if layer.done == layer.bytes && !bar.is_finished() {
                bar.set_style(style(FULL_BAR));
                bar.finish();
            }
        }
    }
}

impl Drop for ProgressPrinter<'_> {
    /// Removes the bars: the final message replaces them.
    fn drop(&mut self) {
        self.layers.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn bar(layer: &LayerProgress) -> ProgressBar {
    let digest = layer.digest.to_string();
    let digits = digest.trim_start_matches("sha256:").chars().take(DIGITS).collect::<String>();
    ProgressBar::new(layer.bytes).with_prefix(digits).with_style(style(BAR))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_progress_bars_are_valid() {
        for template in [BAR, FULL_BAR] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
