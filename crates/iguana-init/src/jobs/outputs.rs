//! What steps write to the file that `$IGUANA_OUTPUT` and `$GITHUB_OUTPUT` name.

use super::scope::Texts;
use anyhow::Context as _;
use iguana_core::hint::hinted;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// The file's name in the exchange folder.
pub(super) const NAME: &str = "output";
/// Bytes that the outputs of one step may have: GitHub's limit for a job.
const MOST: u64 = 1 << 20;

/// Makes the file empty, for any user to write to.
pub(super) fn prepare(exchange: &Path) -> anyhow::Result<()> {
    let path = exchange.join(NAME);
    // A container may have put anything there.
    let _ = fs::remove_file(&path);
    fs::write(&path, "").with_context(|| format!("cannot make `{}`", path.display()))?;
    Ok(rustix::fs::chmod(&path, Mode::from_raw_mode(0o666))?)
}

/// Reads what was written.
///
/// # Errors
/// When it is not in GitHub's format (workflow commands, "Setting an output parameter").
pub(super) fn read(exchange: &Path) -> anyhow::Result<Texts> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(CWD, exchange.join(NAME), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(Texts::new()),
        Err(error) => return Err(error).context("cannot read the output file"),
    };
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).context("cannot read the output file")?;
    if bytes.len() as u64 > MOST {
        let message = format!("the output file has more than {MOST} bytes");
        return Err(hinted(message, "pass large data through a volume or `/iguana`"));
    }
    parse(&String::from_utf8_lossy(&bytes))
}

/// `NAME=VALUE`, or `NAME<<END`, lines, and `END`.
fn parse(text: &str) -> anyhow::Result<Texts> {
    let mut outputs = Texts::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (equals, opens) = (line.find('='), line.find("<<"));
        match (equals, opens) {
            _ if line.trim().is_empty() => {}
            (equals, Some(at)) if equals.is_none_or(|equals| at < equals) => {
                outputs.insert(name(line, &line[..at])?, until(&line[at + 2..], &mut lines)?);
            }
            (Some(at), _) => {
                outputs.insert(name(line, &line[..at])?, line[at + 1..].to_owned());
            }
            _ => return Err(wrong(format!("the line `{line}` of the output file is not an output"))),
        }
    }
    Ok(outputs)
}

fn name(line: &str, name: &str) -> anyhow::Result<String> {
    match name.trim() {
        "" => Err(wrong(format!("the line `{line}` of the output file names nothing"))),
        name => Ok(name.to_owned()),
    }
}

/// The lines up to the one that ends them.
fn until<'a>(end: &str, lines: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<String> {
    let mut value: Vec<&str> = Vec::new();
    for line in lines {
        if line == end {
            return Ok(value.join("\n"));
        }
        value.push(line);
    }
    Err(wrong(format!("the output file has no line `{end}` that would end an output")))
}

fn wrong(message: String) -> anyhow::Error {
    hinted(message, "write lines `NAME=VALUE` to it: `echo disk=/dev/sda >> $IGUANA_OUTPUT`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let outputs = parse("a=1\n\nb<<END\none\ntwo=2\nEND\nc=x<<y\na=2\n").unwrap();
        let pairs: Vec<(&str, &str)> = outputs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("a", "2"), ("b", "one\ntwo=2"), ("c", "x<<y")]);
    }

    #[test]
    fn what_is_no_output_is_said() {
        for (text, expected) in
            [("word\n", "`word`"), ("=1\n", "names nothing"), ("a<<E\nx\n", "no line `E`")]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("iguana-outputs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        prepare(&folder).unwrap();
        assert!(read(&folder).unwrap().is_empty());
        fs::remove_file(folder.join(NAME)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join(NAME)).unwrap();
        assert!(read(&folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
