//! `iguana check`: reports all mistakes in workflows at once, for people and for programs.

mod findings;
mod github;
mod human;
mod json;
mod order;
mod rules;
mod sarif;

use crate::build::inputs::Input;
use crate::failure;
use crate::failure::Exit;
use crate::output;
use crate::output::Color;
use crate::trust;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::error::ErrorKind;
use config::trust::Trust;
use hint::WithHint;
use std::fs::File;
use std::io::{self, Read, stderr, stdout};
use std::path::{Path, PathBuf};
use workflow::{Checked, Severity};

pub(crate) use human::blocks;

/// What to check, and how to report it.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The workflows; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show the jobs in the order in which they run, and what each runs
    #[arg(long)]
    plan: bool,
    /// Also check signature, serial number, digests and image rules against this trust directory
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Plain text with the offending lines
    #[default]
    Human,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
    /// Annotations for GitHub Actions
    Github,
}

/// A workflow that has been read.
#[derive(Debug)]
struct Document {
    /// Its name in the output.
    name: String,
    bytes: Vec<u8>,
    checked: Checked,
}

impl Document {
    fn has_errors(&self) -> bool {
        self.checked.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Reads and checks all files. A file that cannot be read does not stop the others from being reported.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    options.refuse_a_plan_without_a_place();
    let mut unreadable = false;
    let mut documents = Vec::new();
    for path in &options.files {
        match document(path) {
            Ok(document) => documents.push(document),
            Err(error) => {
                failure::tell(&error);
                unreadable = true;
            }
        }
    }
    options.write(&documents)?;
    let trusted = options.trust.as_deref().map_or(Ok(true), |trust| are_trusted(&documents, trust))?;
    Ok(match documents.iter().any(Document::has_errors) {
        _ if unreadable => Exit::Failed,
        false if !trusted => Exit::Findings,
        true => Exit::Findings,
        false => Exit::Fine,
    })
}

/// Whether the trust lets all workflows run. Its objections go to standard error; findings were reported before.
fn are_trusted(documents: &[Document], directory: &Path) -> Result<bool> {
    let trust = Trust::open(directory)?;
    let mut all = true;
    for document in documents.iter().filter(|document| !document.has_errors()) {
        if let Err(error) = trust::examine(&document.name, &document.bytes, &trust) {
            failure::tell(&error);
            all = false;
        }
    }
    Ok(all)
}

fn document(path: &Path) -> Result<Document> {
    if path == Path::new("-") {
        let bytes = bytes(io::stdin())?;
        return Ok(Document { name: "stdin".into(), checked: workflow::check(&bytes), bytes });
    }
    let bytes = read(path).hint("give a YAML file, or `-` for standard input")?.bytes;
    Ok(Document { name: path.display().to_string(), checked: workflow::check(&bytes), bytes })
}

/// The hint of other commands for a workflow with mistakes.
pub(crate) const REMEDY: &str = "correct it; `iguana check FILE` shows all findings";

/// Reads the workflow that the user named. Another file may have its name at any time, so it is read once.
pub(crate) fn read(path: &Path) -> Result<Input> {
    let read = || {
        let file = open(path)?;
        let found = file.metadata()?;
        anyhow::Ok(Input::new(bytes(file)?, &found))
    };
    read().with_context(|| format!("cannot read the workflow `{}`", path.display()))
}

/// Directories of this process's descriptors, by which shells name pipes (`<(…)`), and its standard input.
const DESCRIPTORS: &[&str] = &["/dev/fd", "/proc/self/fd"];
const STANDARD_INPUT: &str = "/dev/stdin";

/// Opens a file, or a descriptor of this process, which may be a pipe. By another path a pipe could be anyone's, and
/// opening it would wait until someone writes to it.
fn open(path: &Path) -> Result<File> {
    let parent = path.parent().unwrap_or(path);
    if path == Path::new(STANDARD_INPUT) || DESCRIPTORS.iter().any(|directory| parent == Path::new(directory))
    {
        return Ok(File::open(path)?);
    }
    Ok(untrusted_fs::open_file(path)?)
}

/// Reads only as many bytes as are needed to detect that a file is too large.
fn bytes(file: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(workflow::LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Options {
    fn refuse_a_plan_without_a_place(&self) {
        if self.plan && matches!(self.format, Format::Sarif | Format::Github) {
            let message = "use `--plan` with `--format human` or `--format json`";
            crate::Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
    }

    fn write(&self, documents: &[Document]) -> Result<()> {
        match self.format {
            Format::Human if self.plan => {
                output::write_lines(stderr(), &human::text(documents, self.color.is_for(&stderr())))?;
                output::write_lines(stdout(), &order::tables(documents))
            }
            Format::Human => {
                output::write_lines(stdout(), &human::text(documents, self.color.is_for(&stdout())))
            }
            Format::Json => output::write_json(stdout(), &json::report(documents, self.plan)),
            Format::Sarif => output::write_json(stdout(), &sarif::report(documents)),
            Format::Github => output::write(stdout(), &github::text(documents)),
        }
    }
}
