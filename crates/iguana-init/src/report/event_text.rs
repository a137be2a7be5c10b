//! Events as text: what the console, the log and the splash screen show.

use super::Level;
use events::{Event, Outcome, Text};

/// A line with its level. Text from outside may contain line breaks.
pub(super) type Line = (Level, String);

/// Megabytes with one decimal.
fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// The lines of an event; none if other events report the same. `log` is the path of the complete log.
pub(super) fn lines(event: &Event, log: Option<&str>) -> Vec<Line> {
    match event {
        Event::Failure { .. } => failure(event, log),
        Event::PullResolved { .. } => resolved(event),
        other => line(other).into_iter().collect(),
    }
}

fn line(event: &Event) -> Option<Line> {
    let (level, text) = match event {
        Event::Boot { version, kernel, memory } => {
            (Level::Info, format!("version {version}, kernel {kernel}, {} MiB memory", memory >> 20))
        }
        Event::JobBegin { job, name: Some(name) } => (Level::Info, format!("job {job}: {name}")),
        Event::JobStarted { job } => (Level::Info, format!("job {job}: started")),
        Event::JobEnd { job, outcome, seconds, why } => {
            let seconds = seconds.map(|seconds| format!(" in {seconds:.1} s"));
            (Level::Info, format!("job {job}: {}", ended(*outcome, seconds, why.as_ref())))
        }
        Event::StepBegin { job, title, .. } => (Level::Info, format!("job {job}: {title}: started")),
        // The failure of a step is reported with that of its job, or as the reason to continue.
        Event::StepEnd { outcome: Outcome::Failure, .. } => return None,
        Event::StepEnd { job, title, outcome, seconds, .. } => {
            let level = if *outcome == Outcome::Success { Level::Debug } else { Level::Info };
            let seconds = seconds.map(|seconds| format!(" in {seconds:.1} s"));
            (level, format!("job {job}: {title}: {}", ended(*outcome, seconds, None)))
        }
        Event::PullBegin { image } => (Level::Info, format!("image {image}: resolving")),
        Event::PullProgress { image, done, bytes, seconds } => {
            let (done, bytes) = (megabytes(*done), megabytes(*bytes));
            (Level::Info, format!("image {image}: {done} of {bytes} MB after {seconds:.0} s"))
        }
        Event::PullEnd { image, outcome: Outcome::Success, seconds } => {
            (Level::Info, format!("image {image}: ready after {seconds:.1} s"))
        }
        Event::JobOutput { job, text } => (Level::LogOnly, format!("job {job}: | {text}")),
        Event::Output { service: None, text, .. } => (Level::Info, format!("progress: {text}")),
        Event::Output { service: Some(service), failed: true, text } => {
            (Level::Warn, format!("warning: {service}: | {text}"))
        }
        Event::Output { service: Some(service), text, .. } => (Level::Info, format!("{service}: | {text}")),
        Event::Warning { text } => (Level::Warn, format!("warning: {text}")),
        Event::Waiting { text, seconds, limit } => {
            (Level::Info, format!("{text} ({seconds:.0} s of {limit:.0} s)"))
        }
        Event::Memory { peak, total } => {
            (Level::Info, format!("memory: peak {} MiB of {} MiB", peak >> 20, total >> 20))
        }
        Event::Network { interface, address, from, seconds } => {
            let waited = seconds.map(|seconds| format!(" after {seconds:.1} s")).unwrap_or_default();
            (Level::Info, format!("network: {interface} has {address} from {from}{waited}"))
        }
        Event::Decided { text, .. } => (Level::Info, text.to_string()),
        Event::Message { level: events::Level::Info, text } => (Level::Info, text.to_string()),
        Event::Message { level: events::Level::Debug, text } => (Level::Debug, text.to_string()),
        _ => return None,
    };
    Some((level, text))
}

fn ended(outcome: Outcome, seconds: Option<String>, why: Option<&Text>) -> String {
    let word = match outcome {
        Outcome::Success => "succeeded",
        Outcome::Failure => "failed",
        Outcome::Skipped => "skipped",
    };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{word}{}{why}", seconds.unwrap_or_default())
}

fn resolved(event: &Event) -> Vec<Line> {
    let Event::PullResolved { image, place, digest, layers, bytes, unpacked, exact } = event else {
        return Vec::new();
    };
    let plural = if *layers == 1 { "" } else { "s" };
    let about = if *exact { "" } else { "about " };
    let (bytes, unpacked) = (megabytes(*bytes), megabytes(*unpacked));
    let mut lines = Vec::new();
    lines.extend(place.as_ref().map(|place| (Level::Info, format!("image {image}: from {place}"))));
    lines.push((Level::Info, format!("image {image}: {layers} layer{plural}, {bytes} MB")));
    let detail = format!("image {image}: {about}{unpacked} MB unpacked; manifest {digest}");
    lines.push((Level::Debug, detail));
    lines
}

/// The block that reports a failure.
fn failure(event: &Event, log: Option<&str>) -> Vec<Line> {
    let Event::Failure { stage, job, error, causes, hint, output } = event else { return Vec::new() };
    let mut lines = vec![format!("error: {error}")];
    lines.extend(causes.iter().map(|cause| format!("  why: {cause}")));
    lines.push(match job {
        Some(job) => format!("  stage: {stage}, job {job}"),
        None => format!("  stage: {stage}"),
    });
    lines.extend(hint.iter().map(|hint| format!("  hint: {hint}")));
    if !output.is_empty() {
        lines.push("  last lines of the job:".into());
        lines.extend(output.iter().map(|line| format!("  | {line}")));
    }
    lines.extend(log.map(|log| format!("  log: {log}")));
    lines.into_iter().map(|line| (Level::Error, line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_text_or_is_reported_elsewhere() {
        let silent = ["log", "stage-begin", "stage-end", "lost"];
        for event in Event::examples() {
            let name = serde_json::to_value(&event).unwrap()["event"].as_str().unwrap().to_owned();
            assert_eq!(lines(&event, None).is_empty(), silent.contains(&name.as_str()), "{name}");
        }
    }
}
