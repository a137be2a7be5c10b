//! `cargo xtask bench language`: the time to check a workflow, and the cost of hostile ones, compared with a JSON
//! Schema and Python.

use super::figures::Figures;
use super::result;
use crate::dist;
use anyhow::Result;
use iguana_lab::{packages, program, scratch_directory, source_tree};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs of each
    #[arg(long, default_value = "11")]
    runs: usize,
    /// Jobs in the large workflow
    #[arg(long, default_value = "1000")]
    jobs: usize,
}

/// The peer: it checks the structure only, as an editor's language server does.
const PEER: &str = "import sys, json, yaml, jsonschema
schema = json.load(open(sys.argv[1]))
loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
jsonschema.Draft202012Validator(schema).validate(yaml.load(open(sys.argv[2]), loader))";

/// Measures, prints the table, and writes it to `bench/results`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::VALIDATOR, &["time"]].concat())?;
    dist::run()?;
    let room = scratch_directory("bench")?;
    let mut report = header(options)?;
    let large = room.path().join("large.yaml");
    fs::write(&large, workflow(options.jobs))?;
    let (ours, peer) = compare(&large, options.runs)?;
    let name = format!("{} jobs", options.jobs);
    add(&mut report, &format!("{name}, `iguana check`"), &ours);
    let ratio = ours.milliseconds.ratio_of(&peer.milliseconds);
    add(&mut report, &format!("{name}, PyYAML with jsonschema ({ratio:.0} times ours)"), &peer);
    for (name, bytes) in hostile() {
        let file = room.path().join("hostile.yaml");
        fs::write(&file, bytes)?;
        add(&mut report, name, &measure(&|| check(&file), options.runs)?);
    }
    result::keep("language", &report)
}

fn header(options: &Options) -> Result<String> {
    let size = fs::metadata(program("iguana-init"))?.len() as f64 / 1e6;
    Ok(format!(
        "# Checking workflows\n\n\
         `{}`, {}. Medians `[least-most]` of {} runs of the whole process. Host: {}, {} processors. \
         `iguana-init` has {size:.2} MB.\n\n\
         | workflow | ms | memory, MiB |\n| --- | --- | --- |\n",
        result::command_line(),
        result::today()?,
        options.runs,
        result::processor()?,
        std::thread::available_parallelism()?,
    ))
}

fn add(report: &mut String, name: &str, measured: &Measured) {
    let _ = writeln!(report, "| {name} | {} | {} |", measured.milliseconds, measured.mebibytes);
}

/// Typical jobs: each needs the previous one and has a service, steps and expressions.
fn workflow(jobs: usize) -> String {
    let mut text = String::from("name: Large\nenv: {SITE: berlin}\njobs:\n");
    for number in 0..jobs {
        let needs = if number == 0 { String::new() } else { format!("    needs: job-{}\n", number - 1) };
        let _ = write!(
            text,
            "  job-{number}:\n{needs}    container:\n      image: registry.example/tools/part-{number}:1\n      \
             env: {{A: \"${{{{ env.SITE }}}}\"}}\n      volumes: [common:/common]\n    services:\n      \
             db: {{image: registry.example/db, ready: {{port: 5432}}}}\n    steps:\n      \
             - id: one\n        run: echo x=1 >> $IGUANA_OUTPUT\n      - if: steps.one.outputs.x == '1'\n        \
             run: echo done\n        timeout: 5m\n"
        );
    }
    text
}

/// Documents designed to be expensive.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let names = [format!("*a{}", level - 1).as_str(); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{names}]");
    }
    vec![
        ("aliases of aliases, 10^40 nodes", bomb.into_bytes()),
        ("10 MB of text", vec![b'x'; 10_000_000]),
        ("100,000 brackets", vec![b'['; 100_000]),
        ("1 MB of brackets in pairs", b"[]".repeat(500_000)),
        ("1 MB of unknown keys", (0..100_000).flat_map(|n| format!("k{n}: 1\n").into_bytes()).collect()),
        ("bytes that are no text", vec![0xff; 1000]),
    ]
}

/// Measures Iguana and the peer alternately.
fn compare(file: &Path, runs: usize) -> Result<(Measured, Measured)> {
    let schema = source_tree().join("docs/workflow.schema.json");
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for _ in 0..runs {
        ours.add(&mut check(file))?;
        let mut python = Command::new("/usr/bin/python3");
        theirs.add(python.args(["-c", PEER]).arg(&schema).arg(file))?;
    }
    Ok((ours, theirs))
}

fn check(file: &Path) -> Command {
    let mut command = Command::new(program("iguana"));
    command.arg("check").arg(file);
    command
}

fn measure(command: &dyn Fn() -> Command, runs: usize) -> Result<Measured> {
    let mut measured = Measured::default();
    for _ in 0..runs {
        measured.add(&mut command())?;
    }
    Ok(measured)
}

#[derive(Default)]
struct Measured {
    milliseconds: Figures,
    mebibytes: Figures,
}

impl Measured {
    /// Runs the command twice: once for its time, and once under GNU time for its memory.
    fn add(&mut self, command: &mut Command) -> Result<()> {
        let start = Instant::now();
        command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        self.milliseconds.add(start.elapsed().as_secs_f64() * 1e3);
        let peak = scratch_directory("bench")?;
        let peak = peak.path().join("peak");
        let mut timed = Command::new("/usr/bin/time");
        timed.args(["-q", "-f", "%M", "-o"]).arg(&peak).arg(command.get_program()).args(command.get_args());
        timed.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        self.mebibytes.add(fs::read_to_string(peak)?.trim().parse::<f64>()? / 1024.0);
        Ok(())
    }
}
