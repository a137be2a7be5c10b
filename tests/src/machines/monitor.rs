//! A client for QEMU's monitor protocol (QMP), for hot-plugging and for pressing keys.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Time limit for an answer. QEMU answers at once, but the host may be busy.
const LIMIT: Duration = Duration::from_secs(30);

/// Milliseconds for which a key is held down. The buffer of the keyboard has 16 bytes, four of them for a key with
/// Shift, and a slow guest must have read the earlier ones.
const HELD: u64 = 10;

/// The monitor socket of a machine.
#[derive(Debug)]
pub struct Monitor {
    socket: PathBuf,
    _home: TempDir,
}

impl Monitor {
    /// A path for the monitor socket of one machine.
    pub fn new() -> Result<Monitor> {
        let home = tempfile::tempdir()?; // not in target: the path of a socket is short
        Ok(Monitor { socket: home.path().join("qmp"), _home: home })
    }

    /// QEMU's argument for the socket.
    pub fn argument(&self) -> String {
        format!("unix:{},server=on,wait=off", self.socket.display())
    }

    /// Plugs in a device: `driver` with its properties, which are all strings.
    pub fn plug(&self, driver: &str, properties: &[(&str, &str)]) -> Result<()> {
        let mut arguments = json!({ "driver": driver });
        for (name, value) in properties {
            arguments[name] = json!(value);
        }
        self.execute("device_add", &arguments).with_context(|| format!("plugging in a `{driver}`"))
    }

    /// Unplugs a device.
    pub fn unplug(&self, device: &str) -> Result<()> {
        self.execute("device_del", &json!({"id": device})).with_context(|| format!("unplugging `{device}`"))
    }

    /// Connects a network interface with its network, or disconnects it.
    pub fn set_link(&self, interface: &str, is_up: bool) -> Result<()> {
        self.execute("set_link", &json!({"name": interface, "up": is_up}))
    }

    /// Presses the keys of a US keyboard for `text`.
    pub fn types(&self, text: &str) -> Result<()> {
        for letter in text.chars() {
            let keys = keys(letter).with_context(|| format!("there is no key for {letter:?}"))?;
            let keys: Vec<Value> = keys.iter().map(|key| json!({"type": "qcode", "data": key})).collect();
            self.execute("send-key", &json!({"keys": keys, "hold-time": HELD}))?;
        }
        Ok(())
    }

    fn execute(&self, command: &str, arguments: &Value) -> Result<()> {
        let stream = UnixStream::connect(&self.socket).context("QEMU's monitor")?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        send(&stream, &json!({"execute": "qmp_capabilities"}))?;
        answer(&mut answers)?;
        send(&stream, &json!({"execute": command, "arguments": arguments}))?;
        answer(&mut answers)
    }
}

/// Keys besides letters and digits: QEMU's names, and their characters without and with Shift.
const KEYS: &[(&str, char, char)] = &[
    ("spc", ' ', ' '),
    ("ret", '\n', '\n'),
    ("tab", '\t', '\t'),
    ("esc", '\x1b', '\x1b'),
    ("minus", '-', '_'),
    ("equal", '=', '+'),
    ("semicolon", ';', ':'),
    ("apostrophe", '\'', '"'),
    ("backslash", '\\', '|'),
    ("comma", ',', '<'),
    ("dot", '.', '>'),
    ("slash", '/', '?'),
    ("1", '1', '!'),
    ("2", '2', '@'),
    ("4", '4', '$'),
    ("7", '7', '&'),
    ("8", '8', '*'),
    ("9", '9', '('),
    ("0", '0', ')'),
];

/// The keys to press together for a character.
fn keys(letter: char) -> Option<Vec<String>> {
    if let Some((name, plain, _)) =
        KEYS.iter().find(|(_, plain, shifted)| [*plain, *shifted].contains(&letter))
    {
        let shift = (*plain != letter).then(|| "shift".to_owned());
        return Some(shift.into_iter().chain([(*name).to_owned()]).collect());
    }
    match letter {
        'a'..='z' | '0'..='9' => Some(vec![letter.into()]),
        'A'..='Z' => Some(vec!["shift".into(), letter.to_ascii_lowercase().into()]),
        '\x01'..='\x1a' => Some(vec!["ctrl".into(), char::from(letter as u8 + b'a' - 1).into()]),
        _ => None,
    }
}

fn send(mut stream: &UnixStream, message: &Value) -> Result<()> {
    Ok(stream.write_all(format!("{message}\n").as_bytes())?)
}

/// Reads up to the next answer, and skips the greeting and events.
fn answer(stream: &mut impl BufRead) -> Result<()> {
    for line in stream.lines() {
        let message: Value = serde_json::from_str(&line?)?;
        if message.get("return").is_some() {
            return Ok(());
        }
        if let Some(error) = message.get("error") {
            bail!("QEMU refuses: {}", error["desc"].as_str().unwrap_or_default());
        }
    }
    bail!("QEMU closed its monitor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_made_by_keys() {
        let pressed = |letter| keys(letter).unwrap().join("-");
        let all = ['a', 'Z', '3', '$', ':', '\n', '\x03', '\x1a', '\x1b'].map(pressed);
        assert_eq!(
            all,
            ["a", "shift-z", "3", "shift-4", "shift-semicolon", "ret", "ctrl-c", "ctrl-z", "esc"]
        );
        assert_eq!(keys('é'), None);
    }

    #[test]
    fn greeting_and_events_are_not_answers() {
        let mut said = "{\"QMP\": {}}\n{\"event\": \"X\"}\n{\"return\": {}}\n".as_bytes();
        assert!(answer(&mut said).is_ok());
        let mut refused = "{\"error\": {\"desc\": \"no such bus\"}}\n".as_bytes();
        assert!(answer(&mut refused).unwrap_err().to_string().contains("no such bus"));
        assert!(answer(&mut "".as_bytes()).is_err());
    }
}
