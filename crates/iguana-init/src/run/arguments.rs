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
  -n, --newroot DIR       The root of the new system, as NEWROOT in containers [default: /sysroot]
      --trust DIR         The trust directory: keys, policies, registries [default: /etc/containers]
      --dry-run           Print what would be done without doing it
      --log-level LEVEL   off, error, warn, info, debug or trace [default: info];
                          RUST_LOG takes precedence
      --debug             Same as `--log-level debug`, and keep images until the end
  -u, --unprivileged      Restrict all containers to podman's default rights
  -h, --help              Print this help

Exit status: 0 success, 1 a job failed or the run could not start, 2 invalid command line,
             3 the workflow has errors and no job was run
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

/// Parses the arguments, and the value of `RUST_LOG`, whose level takes precedence as in the first Iguana; `None` if only
/// help was requested.
pub(super) fn parse(
    arguments: impl Iterator<Item = String>,
    rust_log: Option<&str>,
) -> anyhow::Result<Option<Arguments>> {
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
            Short('n') | Long("newroot") => parsed.new_root = absolute(parser.value()?.string()?)?,
            Long("trust") => parsed.trust = Some(parser.value()?.into()),
            Long("dry-run") => parsed.dry_run = true,
            Long("log-level") => parsed.level = level(&parser.value()?.string()?)?,
            Long("debug") => (parsed.debug, parsed.level) = (true, Level::Debug),
            Short('u') | Long("unprivileged") => parsed.unprivileged = true,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if file.is_none() => file = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    parsed.level = rust_log.and_then(level_of_rust_log).unwrap_or(parsed.level);
    match file {
        Some(file) => Ok(Some(Arguments { file, ..parsed })),
        None => bail!("no workflow given"),
    }
}

/// Containers have it as `NEWROOT`, and a relative path would mean another directory in each of them.
fn absolute(path: String) -> anyhow::Result<String> {
    if !path.starts_with('/') {
        bail!("the new root `{path}` is not an absolute path: begin it with `/`");
    }
    Ok(path)
}

fn level(word: &str) -> anyhow::Result<Level> {
    let Some(level) = known_level(word) else {
        bail!("unknown log level `{word}`: use `off`, `error`, `warn`, `info`, `debug` or `trace`");
    };
    Ok(level)
}

fn known_level(word: &str) -> Option<Level> {
    Some(match word.to_ascii_lowercase().as_str() {
        "off" => Level::Off,
        "error" => Level::Error,
        "warn" | "warning" => Level::Warn,
        "info" => Level::Info,
        "debug" | "trace" => Level::Debug,
        _ => return None,
    })
}

/// The level in `RUST_LOG`: `LEVEL` or `TARGET=LEVEL` for this program, separated by commas (env_logger). The last one
/// counts; those for other programs, and what is none, are passed over.
fn level_of_rust_log(value: &str) -> Option<Level> {
    let own = |directive: &str| {
        let (target, word) =
            directive.trim().split_once('=').unwrap_or(("iguana_workflow", directive.trim()));
        target.starts_with("iguana").then(|| known_level(word)).flatten()
    };
    value.split('/').next()?.split(',').filter_map(own).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> anyhow::Result<Option<Arguments>> {
        parse(text.split_whitespace().map(Into::into), None)
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
        assert_eq!(arguments("-n /mnt --dry-run --log-level warning -u w.yaml").unwrap().unwrap(), expected);
        assert_eq!(arguments("w.yaml --debug").unwrap().unwrap().level, Level::Debug);
        assert_eq!(arguments("--log-level off w.yaml").unwrap().unwrap().level, Level::Off);
        assert_eq!(arguments("--help").unwrap(), None);
    }

    #[test]
    fn the_variable_of_the_first_iguana_takes_precedence() {
        for (value, expected) in [
            ("debug", Level::Debug),
            ("OFF", Level::Off),
            ("warn,iguana_workflow::workflow=trace", Level::Debug),
            ("hyper=trace", Level::Error),
            ("loud", Level::Error),
            ("", Level::Error),
        ] {
            let words = ["--log-level", "error", "w.yaml"].map(String::from);
            let level = parse(words.into_iter(), Some(value)).unwrap().unwrap().level;
            assert_eq!(level, expected, "{value}");
        }
    }

    #[test]
    fn invalid_arguments_are_named() {
        for (text, expected) in [
            ("", "no workflow"),
            ("--fast a", "--fast"),
            ("a b", "\"b\""),
            ("--log-level=x a", "`x`"),
            ("--newroot mnt a", "`mnt`"),
        ] {
            let error = format!("{:#}", arguments(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
