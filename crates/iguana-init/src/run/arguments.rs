//! The command line of `iguana-init run` and of `iguana-workflow`, compatible with the first Iguana.

use crate::report::Level;
use anyhow::bail;
use lexopt::prelude::*;
use std::path::PathBuf;

/// What `--help` prints.
pub(super) const HELP: &str = "\
Run a workflow on this system

Usage: iguana-init run [OPTIONS] FILE
       iguana-workflow [OPTIONS] FILE

Options:
      --newroot DIR       What containers see as NEWROOT [default: /sysroot]
      --trust DIR         The keys, policies and registries that count [default: /etc/containers]
      --dry-run           Print what would be done, and do nothing
      --log-level LEVEL   error, warn, info or debug [default: info]
      --debug             The same as `--log-level debug`; images are kept until the end
      --unprivileged      Give no container more rights than podman gives by default
  -h, --help              Print this

Exit status: 0 all went well, 1 a job failed or the run could not begin, 2 wrong command line,
             3 the workflow has a mistake and nothing was run
";

/// The parsed arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) file: String,
    pub(super) new_root: String,
    pub(super) trust: Option<PathBuf>,
    pub(super) dry_run: bool,
    pub(super) level: Level,
    pub(super) debug: bool,
    pub(super) unprivileged: bool,
}

/// Parses the arguments; `None` if only help was requested.
pub(super) fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Arguments>> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut file = None;
    let mut parsed = Arguments {
        file: String::new(),
        new_root: crate::handover::NEW_ROOT.into(),
        trust: None,
        dry_run: false,
        level: Level::Info,
        debug: false,
        unprivileged: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("newroot") => parsed.new_root = parser.value()?.string()?,
            Long("trust") => parsed.trust = Some(parser.value()?.into()),
            Long("dry-run") => parsed.dry_run = true,
            Long("log-level") => parsed.level = level(&parser.value()?.string()?)?,
            Long("debug") => (parsed.debug, parsed.level) = (true, Level::Debug),
            Long("unprivileged") => parsed.unprivileged = true,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if file.is_none() => file = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match file {
        Some(file) => Ok(Some(Arguments { file, ..parsed })),
        None => bail!("no workflow is named"),
    }
}

fn level(word: &str) -> anyhow::Result<Level> {
    Ok(match word {
        "error" => Level::Error,
        "warn" | "warning" => Level::Warn,
        "info" => Level::Info,
        "debug" | "trace" => Level::Debug,
        _ => bail!("`{word}` is not a log level: there are `error`, `warn`, `info` and `debug`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> anyhow::Result<Option<Arguments>> {
        parse(text.split_whitespace().map(Into::into))
    }

    #[test]
    fn the_classic_command_line_is_read() {
        let parsed =
            arguments("--newroot /mnt --dry-run --log-level=warn --unprivileged w.yaml").unwrap().unwrap();
        let expected = Arguments {
            file: "w.yaml".into(),
            new_root: "/mnt".into(),
            trust: None,
            dry_run: true,
            level: Level::Warn,
            debug: false,
            unprivileged: true,
        };
        assert_eq!(parsed, expected);
        assert_eq!(arguments("w.yaml --debug").unwrap().unwrap().level, Level::Debug);
        assert_eq!(arguments("--help").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in
            [("", "no workflow"), ("--fast a", "--fast"), ("a b", "\"b\""), ("--log-level=x a", "`x`")]
        {
            let error = format!("{:#}", arguments(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
