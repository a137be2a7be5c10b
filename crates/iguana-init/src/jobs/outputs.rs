//! The outputs that steps write to the file in `$IGUANA_OUTPUT` and `$GITHUB_OUTPUT`.

use super::scope::StringMap;
use exchange::StepFiles;
use hint::hinted;

/// Outputs of a job, with those of all its steps, and their bytes: they are in the memory of the boot's own process, several
/// times. GitHub allows 1 MB.
const NUMBER_LIMIT: usize = 1000;
const BYTES_LIMIT: usize = 1 << 20;

/// What is left of the limits after some steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    number: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { number: NUMBER_LIMIT, bytes: BYTES_LIMIT }
    }
}

impl Room {
    /// What is left after these outputs.
    ///
    /// # Errors
    /// When that is nothing.
    pub(super) fn after(self, outputs: &StringMap) -> anyhow::Result<Self> {
        let bytes: usize = outputs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let (number, bytes) = (self.number.checked_sub(outputs.len()), self.bytes.checked_sub(bytes));
        number.zip(bytes).map(|(number, bytes)| Self { number, bytes }).ok_or_else(too_many)
    }
}

fn too_many() -> anyhow::Error {
    hinted(
        format!("a job may have at most {NUMBER_LIMIT} outputs of {BYTES_LIMIT} bytes in total"),
        "write longer data to a file in a volume, and output its path",
    )
}

/// Reads the outputs.
///
/// # Errors
/// When the file is too large or not in GitHub's format (workflow commands, "Setting an output parameter").
pub(super) fn read(files: &StepFiles) -> anyhow::Result<StringMap> {
    parse(&String::from_utf8_lossy(&files.read_output()?))
}

/// Parses `NAME=VALUE`, or `NAME<<END`, lines, and `END`.
fn parse(text: &str) -> anyhow::Result<StringMap> {
    let mut outputs = StringMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if outputs.len() > NUMBER_LIMIT {
            return Err(too_many());
        }
        let (equals, opens) = (line.find('='), line.find("<<"));
        match (equals, opens) {
            _ if line.trim().is_empty() => {}
            (equals, Some(at)) if equals.is_none_or(|equals| at < equals) => {
                outputs.insert(name(line, &line[..at])?, until(&line[at + 2..], &mut lines)?);
            }
            (Some(at), _) => {
                outputs.insert(name(line, &line[..at])?, line[at + 1..].to_owned());
            }
            _ => return Err(wrong(format!("the line `{line}` of the output file is not `NAME=VALUE`"))),
        }
    }
    Ok(outputs)
}

fn name(line: &str, name: &str) -> anyhow::Result<String> {
    match name.trim() {
        "" => Err(wrong(format!("the line `{line}` of the output file has no name"))),
        name => Ok(name.to_owned()),
    }
}

/// The lines up to the delimiter.
fn until<'a>(end: &str, lines: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<String> {
    let mut value: Vec<&str> = Vec::new();
    for line in lines {
        if line == end {
            return Ok(value.join("\n"));
        }
        value.push(line);
    }
    Err(wrong(format!("the output file lacks the line `{end}` that ends an output")))
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

    /// 60 steps with 120,000 outputs each took 2.4 GB.
    #[test]
    fn the_number_and_size_of_outputs_are_limited() {
        let many = |count: usize| (0..count).map(|number| format!("{number}=\n")).collect::<String>();
        let full = parse(&many(NUMBER_LIMIT)).unwrap();
        let left = Room::default().after(&full).unwrap();
        left.after(&StringMap::new()).unwrap();
        let told = [
            parse(&many(NUMBER_LIMIT + 2)).unwrap_err(),
            left.after(&parse("a=").unwrap()).unwrap_err(),
            Room::default().after(&StringMap::from([("a".into(), "x".repeat(BYTES_LIMIT))])).unwrap_err(),
        ];
        assert!(
            told.iter()
                .all(|error| error.to_string().contains("at most 1000 outputs of 1048576 bytes in total"))
        );
    }

    #[test]
    fn malformed_outputs_are_reported() {
        for (text, expected) in
            [("word\n", "`word`"), ("=1\n", "has no name"), ("a<<E\nx\n", "lacks the line `E`")]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
