//! What containers write to their progress files, as events `output`.

use super::Report;
use events::{Event, Text};
use exchange::ProgressSink;
use std::sync::Arc;

impl Report {
    /// The sink for what containers write to their progress files; it uses the same console and log.
    pub(crate) fn progress_sink(&self) -> Arc<dyn ProgressSink> {
        Arc::new(self.clone())
    }
}

impl ProgressSink for Report {
    fn log(&self, line: &str) {
        self.tell(written(line));
    }

    fn log_end(&self) {
        self.detail("progress: too many lines; the rest is not logged");
    }

    fn show(&self, line: &str) {
        Report::show(self, written(line));
    }
}

fn written(line: &str) -> Event {
    Event::Output { service: None, failed: false, text: Text::of(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_log_line_is_bounded() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let report = Report::to_log(log.path());
        report.log("first");
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert!(text.ends_with("iguana: progress: first\n"), "{text}");
        assert!(text.len() <= "first".len() + exchange::LOG_LINE_COST, "{text}");
        report.log_end();
        ProgressSink::show(&report, "second");
        report.say("the log goes on");
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(text.matches("too many lines").count(), 1);
        assert!(!text.contains("second") && text.ends_with("iguana: the log goes on\n"), "{text}");
    }
}
