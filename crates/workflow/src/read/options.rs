//! `container.options`, with the options of `docker create` and `podman create`.

use super::Reader;
use crate::duration;
use crate::expression::Template;
use crate::model::Container;
use crate::nearest::nearest;
use crate::volume::{Volume, VolumeSource, target_path};
use std::iter::Peekable;
use std::ops::Range;
use std::path::Path;
use yaml_tree::document::Node;
use yaml_tree::finding::Severity;

/// How an option is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By itself, or with `=true` or `=false`.
    Flag,
    /// With a value.
    Value,
}

use Form::{Flag, Value};

/// The options that have an effect, by their long and short names.
const EFFECTIVE: &[(&str, &str, Form)] = &[
    ("entrypoint", "", Value),
    ("env", "e", Value),
    ("memory", "m", Value),
    ("pid", "", Value),
    ("pids-limit", "", Value),
    ("privileged", "", Flag),
    ("read-only", "", Flag),
    ("tmpfs", "", Value),
    ("tty", "t", Flag),
    ("user", "u", Value),
    ("volume", "v", Value),
    ("workdir", "w", Value),
];

/// Options that every container has anyway.
const GRANTED: &[(&str, &str, Form)] = &[
    ("init", "", Flag),
    ("interactive", "i", Flag),
    ("ipc", "", Value),
    ("net", "", Value),
    ("network", "", Value),
    ("rm", "", Flag),
];

/// Options that privileged containers have anyway, and no others.
const GRANTED_TO_PRIVILEGED: &[(&str, &str, Form)] =
    &[("cap-add", "", Value), ("device", "", Value), ("security-opt", "", Value)];

impl Reader<'_> {
    /// Applies the options to the container.
    pub(super) fn options(&mut self, node: &Node, container: &mut Container) {
        let Some(words) = self.plain_words(node).filter(|_| node.is_text()) else { return };
        let mut words = words.into_iter().flat_map(single_flags).peekable();
        while let Some(word) = words.next() {
            if self.findings.are_enough() {
                return;
            }
            if let Err((message, hint)) = self.option(node, &word, &mut words, container) {
                let span = self.word(node, &word);
                self.findings.error("options", &span, message, hint);
            }
        }
    }

    /// The span of a word; the first one if there are several equal words.
    fn word(&self, node: &Node, word: &str) -> Range<usize> {
        let text = node.text().unwrap_or_default();
        match text.find(word) {
            Some(offset) => self.place(node, text, offset, word.len()),
            None => node.span.clone(),
        }
    }

    fn option(
        &mut self,
        node: &Node,
        word: &str,
        rest: &mut Peekable<impl Iterator<Item = String>>,
        container: &mut Container,
    ) -> Result<(), (String, String)> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let Some((known, form)) = find(name) else {
            // The next word is probably the value of an unknown option, not another mistake.
            let _ = rest.next_if(|next| value.is_none() && !next.starts_with('-'));
            return Err(unknown(name));
        };
        let value = match (form, value) {
            (_, Some(value)) => value,
            (Flag, None) => "true".into(),
            (Value, None) => rest.next_if(|next| !next.starts_with('-')).ok_or_else(|| {
                (format!("`{name}` needs a value"), format!("write `{name} VALUE` or `--{known}=VALUE`"))
            })?,
        };
        let is_among = |options: &[(&str, &str, Form)]| options.iter().any(|(name, ..)| *name == known);
        if is_among(GRANTED_TO_PRIVILEGED) && !container.privileged {
            let message = format!("`--{known}` cannot be combined with `privileged: false`");
            return Err((message, "remove one of them".into()));
        }
        if is_among(GRANTED) || is_among(GRANTED_TO_PRIVILEGED) {
            return self.granted(node, word, known, &value);
        }
        apply(known, &value, container).map_err(|why| (format!("`{word}`: {why}"), remedy(known)))
    }

    fn granted(&mut self, node: &Node, word: &str, name: &str, value: &str) -> Result<(), (String, String)> {
        if ["net", "network"].contains(&name) && value != "host" {
            let message =
                format!("`--{name}={value}` is not supported: every container uses the machine's network");
            return Err((message, "remove it".into()));
        }
        let message = format!("`--{name}` has no effect: it always applies");
        let span = self.word(node, word);
        self.findings.add(Severity::Note, "options", &span, message, Some("it can be removed".into()));
        Ok(())
    }
}

/// Splits combined flags: `-it` is `-i -t`.
fn single_flags(word: String) -> Vec<String> {
    let is_flag = |letter: char| all().any(|(_, short, form)| *form == Flag && short.chars().eq([letter]));
    match word.strip_prefix('-') {
        Some(letters) if letters.len() > 1 && letters.chars().all(is_flag) => {
            letters.chars().map(|letter| format!("-{letter}")).collect()
        }
        _ => vec![word],
    }
}

fn all() -> impl Iterator<Item = &'static (&'static str, &'static str, Form)> {
    EFFECTIVE.iter().chain(GRANTED).chain(GRANTED_TO_PRIVILEGED)
}

fn find(name: &str) -> Option<(&'static str, Form)> {
    let mut all = all();
    let is_it = |(long, short): (&str, &str)| match name.strip_prefix("--") {
        Some(name) => name == long,
        None => name.strip_prefix('-').is_some_and(|name| !name.is_empty() && name == short),
    };
    all.find(|(long, short, _)| is_it((long, short))).map(|(long, _, form)| (*long, *form))
}

fn unknown(name: &str) -> (String, String) {
    if !name.starts_with('-') {
        let hint = "move the image to `image`, and its arguments to `command`";
        return (format!("`{name}` is not an option"), hint.into());
    }
    if name.starts_with("--health") {
        return (format!("unknown option `{name}`"), "use the service's `ready: {command: …}`".into());
    }
    let names: Vec<&str> = all().map(|(long, ..)| *long).collect();
    let hint = match nearest(name.trim_start_matches('-'), names.iter().copied()) {
        Some(near) => format!("did you mean `--{near}`?"),
        None => format!("use one of `--{}`", names.join("`, `--")),
    };
    (format!("unknown option `{name}`"), hint)
}

fn remedy(name: &str) -> String {
    let value = match name {
        "env" => "NAME=VALUE",
        "memory" => "64M",
        "pid" => "host",
        "pids-limit" => "100",
        "tmpfs" => "/PATH:size=64M",
        "user" => "NAME",
        "volume" => "SOURCE:/PATH",
        "workdir" => "/PATH",
        _ => return format!("write `--{name}` or `--{name}=false`"),
    };
    format!("write `--{name}={value}`")
}

fn apply(name: &str, value: &str, container: &mut Container) -> Result<(), String> {
    let flag = || value.parse::<bool>().map_err(|_| format!("`{value}` is neither `true` nor `false`"));
    match name {
        "entrypoint" => container.entrypoint = Some(vec![Template::literal(value)]),
        "env" => {
            let (key, value) =
                value.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("it must be `NAME=VALUE`")?;
            container.env.insert(key.to_owned(), Template::literal(value));
        }
        "memory" => {
            let size = duration::bytes(value).ok_or(format!("`{value}` is not a size"))?;
            container.memory = Some(size);
        }
        "pids-limit" => {
            let count = value.parse().ok().filter(|count| *count > 0);
            container.pids = Some(count.ok_or(format!("`{value}` is not a number of processes"))?);
        }
        "pid" if value == "host" => container.pid_host = true,
        "pid" => return Err("only `host` is supported".into()),
        "privileged" => container.privileged = flag()?,
        "read-only" => container.read_only = flag()?,
        "tmpfs" => container.volumes.push(tmpfs(value)?),
        "tty" => container.tty = flag()?,
        "user" if value.is_empty() => return Err("it names no user".into()),
        "user" => container.user = Some(value.to_owned()),
        "volume" => container.volumes.push(Volume::parse(value)?),
        "workdir" if Path::new(value).is_absolute() => container.directory = Some(value.to_owned()),
        _ => return Err(format!("`{value}` is not an absolute path")),
    }
    Ok(())
}

/// Parses `PATH[:OPTION,…]`. Only the option `size=` has an effect.
fn tmpfs(value: &str) -> Result<Volume, String> {
    let (path, options) = value.split_once(':').unwrap_or((value, ""));
    if let Some(other) = options.split(',').find(|option| !option.is_empty() && !option.starts_with("size="))
    {
        return Err(format!("unknown option `{other}`: only `size=` is supported"));
    }
    let size = options.split(',').find_map(|option| option.strip_prefix("size="));
    let size = size.map(|size| duration::bytes(size).ok_or(format!("`{size}` is not a size"))).transpose()?;
    Ok(Volume { source: VolumeSource::Tmpfs(size), target: target_path(path)?, read_only: false })
}
