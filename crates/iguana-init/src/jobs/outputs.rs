//! What steps write to their files: `$IGUANA_OUTPUT`, which is `$GITHUB_OUTPUT`, `$GITHUB_ENV`, `$GITHUB_PATH` and
//! `$GITHUB_STEP_SUMMARY`.

use super::scope::StringMap;
use exchange::{StepFile, StepFiles};
use hint::hinted;

/// Outputs of a job, with those of all its steps, and their bytes: they are in the memory of the boot's own process, several
/// times. GitHub allows 1 MB. The same limits hold for the variables and directories of later steps.
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
    /// What is left after a step that has written this.
    ///
    /// # Errors
    /// When that is nothing.
    pub(super) fn after(self, written: &Written) -> anyhow::Result<Self> {
        let values = || written.outputs.iter().chain(&written.env);
        let bytes: usize = values().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = bytes + written.path.iter().map(String::len).sum::<usize>();
        let number = values().count() + written.path.len();
        let (number, bytes) = (self.number.checked_sub(number), self.bytes.checked_sub(bytes));
        number.zip(bytes).map(|(number, bytes)| Self { number, bytes }).ok_or_else(too_many)
    }
}

fn too_many() -> anyhow::Error {
    hinted(
        format!(
            "a job may have at most {NUMBER_LIMIT} outputs and variables of {BYTES_LIMIT} bytes in total"
        ),
        "write longer data to a file in a volume, and output its path",
    )
}

/// What one step has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) outputs: StringMap,
    /// Variables for later steps.
    pub(super) env: StringMap,
    /// Directories that later steps search for programs, in the order written.
    pub(super) path: Vec<String>,
    /// Text for the person at the machine.
    pub(super) summary: String,
}

/// Reads what a step has written.
///
/// # Errors
/// When a file is too large or not in GitHub's format (workflow commands, "Environment files").
pub(super) fn read(files: &StepFiles) -> anyhow::Result<Written> {
    let text = |file| anyhow::Ok(String::from_utf8_lossy(&files.read(file)?).into_owned());
    let path = text(StepFile::Path)?;
    Ok(Written {
        outputs: parse(&text(StepFile::Output)?, StepFile::Output)?,
        env: variables(parse(&text(StepFile::Env)?, StepFile::Env)?)?,
        path: path.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect(),
        summary: text(StepFile::Summary)?,
    })
}

/// The same, if they can be variables of a program and are not Iguana's own.
fn variables(env: StringMap) -> anyhow::Result<StringMap> {
    let is_own = |name: &str| {
        ["IGUANA", "GITHUB_", "iguana"].iter().any(|own| name.starts_with(own)) || name == "NEWROOT"
    };
    for (name, value) in &env {
        if is_own(name) {
            let hint = "choose another name: Iguana sets this one";
            return Err(hinted(format!("the env file sets `{name}`"), hint));
        }
        if name.contains(['\0', ' ', '\t']) || value.contains('\0') {
            let message = format!("the env file sets `{name}`, which cannot be a variable");
            return Err(hinted(message, "use letters, digits and `_` in its name, and no NUL byte"));
        }
    }
    Ok(env)
}

/// Parses `NAME=VALUE`, or `NAME<<END`, lines, and `END`.
fn parse(text: &str, file: StepFile) -> anyhow::Result<StringMap> {
    let mut values = StringMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if values.len() > NUMBER_LIMIT {
            return Err(too_many());
        }
        let (equals, opens) = (line.find('='), line.find("<<"));
        match (equals, opens) {
            _ if line.trim().is_empty() => {}
            (equals, Some(at)) if equals.is_none_or(|equals| at < equals) => {
                values.insert(name(line, &line[..at], file)?, until(&line[at + 2..], &mut lines, file)?);
            }
            (Some(at), _) => {
                values.insert(name(line, &line[..at], file)?, line[at + 1..].to_owned());
            }
            _ => return Err(wrong(&format!("the line `{line}` of"), "is not `NAME=VALUE`", file)),
        }
    }
    Ok(values)
}

fn name(line: &str, name: &str, file: StepFile) -> anyhow::Result<String> {
    match name.trim() {
        "" => Err(wrong(&format!("the line `{line}` of"), "has no name", file)),
        name => Ok(name.to_owned()),
    }
}

/// The lines up to the delimiter.
fn until<'a>(end: &str, lines: &mut impl Iterator<Item = &'a str>, file: StepFile) -> anyhow::Result<String> {
    let mut value: Vec<&str> = Vec::new();
    for line in lines {
        if line == end {
            return Ok(value.join("\n"));
        }
        value.push(line);
    }
    Err(wrong("", &format!("lacks the line `{end}` that ends a value"), file))
}

fn wrong(before: &str, after: &str, file: StepFile) -> anyhow::Error {
    let (name, variable) = (file.name(), file.variables()[0]);
    hinted(
        format!("{before} the {name} file {after}").trim().to_owned(),
        format!("write lines `NAME=VALUE` to it: `echo disk=/dev/sda >> ${variable}`"),
    )
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let outputs = parse("a=1\n\nb<<END\none\ntwo=2\nEND\nc=x<<y\na=2\n", StepFile::Output).unwrap();
        let pairs: Vec<(&str, &str)> = outputs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("a", "2"), ("b", "one\ntwo=2"), ("c", "x<<y")]);
    }

    /// 60 steps with 120,000 outputs each took 2.4 GB.
    #[test]
    fn the_number_and_size_of_outputs_are_limited() {
        let many = |count: usize| (0..count).map(|number| format!("{number}=\n")).collect::<String>();
        let written = |outputs| Written { outputs, ..Written::default() };
        let full = written(parse(&many(NUMBER_LIMIT), StepFile::Output).unwrap());
        let left = Room::default().after(&full).unwrap();
        left.after(&Written::default()).unwrap();
        let told = [
            parse(&many(NUMBER_LIMIT + 2), StepFile::Output).unwrap_err(),
            left.after(&written(parse("a=", StepFile::Output).unwrap())).unwrap_err(),
            Room::default()
                .after(&written(StringMap::from([("a".into(), "x".repeat(BYTES_LIMIT))])))
                .unwrap_err(),
        ];
        assert!(told.iter().all(|error| {
            error.to_string().contains("at most 1000 outputs and variables of 1048576 bytes in total")
        }));
    }

    #[test]
    fn malformed_outputs_are_reported() {
        for (text, expected) in
            [("word\n", "`word`"), ("=1\n", "has no name"), ("a<<E\nx\n", "lacks the line `E`")]
        {
            let error = parse(text, StepFile::Output).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_file_of_a_step_is_read() {
        let home = tempfile::tempdir().unwrap();
        let files = StepFiles::create(home.path(), "files").unwrap();
        let texts = ["disk=vda\n", "MODE=fast\nLIST<<E\na\nb\nE\n", "/opt/bin\n\n/srv/bin\n", "# Done\n"];
        for (file, text) in StepFile::ALL.iter().zip(texts) {
            std::fs::write(home.path().join("files").join(file.name()), text).unwrap();
        }
        let written = read(&files).unwrap();
        let pairs =
            |map: &StringMap| map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        assert_eq!(pairs(&written.outputs), ["disk=vda"]);
        assert_eq!(pairs(&written.env), ["MODE=fast", "LIST=a\nb"]);
        assert_eq!(written.path, ["/opt/bin", "/srv/bin"]);
        assert_eq!(written.summary, "# Done\n");
        files.clear().unwrap();
        assert_eq!(read(&files).unwrap(), Written::default());
    }

    #[test]
    fn later_steps_get_no_variable_of_iguanas_or_of_no_program() {
        for name in ["IGUANA_OUTPUT", "GITHUB_ENV", "NEWROOT", "A B", "A\0"] {
            let error = variables(StringMap::from([(name.into(), "x".into())])).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let error = parse("word", StepFile::Env).unwrap_err();
        assert!(
            error.to_string().contains("of the env file") && hint::of(&error).unwrap().contains("GITHUB_ENV")
        );
    }
}
