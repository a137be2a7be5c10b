//! Hides secrets in events, so that no screen and no log has them.

use events::{Event, Level, Text};
use printable::Secrets;
use serde_json::Value;

/// Fields whose words are not text from outside.
const VOCABULARY: &[&str] = &["event", "stage", "outcome", "decision", "level"];

/// The event without the values.
pub(super) fn hidden(event: Event, secrets: &Secrets) -> Event {
    if secrets.is_empty() {
        return event;
    }
    let hidden = serde_json::to_value(&event).and_then(|mut value| {
        hide(&mut value, secrets);
        serde_json::from_value(value)
    });
    // Every event can be written and read; should one not be, it is better lost than shown.
    let text = || Text::of("a message is not shown: a secret cannot be removed from it");
    hidden.unwrap_or_else(|_| Event::Message { level: Level::Info, text: text() })
}

fn hide(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::String(text) => *text = secrets.hide(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, secrets)),
        Value::Object(fields) => {
            let texts = fields.iter_mut().filter(|(key, _)| !VOCABULARY.contains(&key.as_str()));
            texts.for_each(|(_, value)| hide(value, secrets));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_the_same_except_for_the_values() {
        let secrets = Secrets::default();
        secrets.add("text");
        secrets.add("message");
        for event in Event::examples() {
            let written = |event: &Event| serde_json::to_value(event).unwrap();
            let (before, after) = (written(&event), written(&hidden(event, &secrets)));
            assert_eq!(before["event"], after["event"]);
            assert_eq!(
                before.to_string().replace(":\"text\"", ":\"***\"").replace("[\"text\"", "[\"***\""),
                after.to_string()
            );
        }
    }
}
