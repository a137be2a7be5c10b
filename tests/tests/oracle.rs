//! Compares the environment of a process under Iguana and under podman, question by question. Every difference is
//! listed with its reason in `docs/containers.md`. It must be run by root.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test tells how far it is, and what it compared"
)]

use anyhow::{Context, Result, anyhow, ensure};
use iguana_lab::image::{Recipe, put};
use iguana_lab::live::LiveSystem;
use iguana_lab::podman::{self, Podman};
use iguana_lab::registry::Registry;
use iguana_lab::{packages, program, source_tree, test_names};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

const DOCUMENT: &str = "docs/containers.md";
const ASK: &str = include_str!("oracle/ask.sh");
const CALLS: &str = include_str!("oracle/calls.pl");
/// Script with the machine's own values, for comparison in a container.
const MACHINE: &str = include_str!("oracle/machine.sh");
/// The least number of questions, so that none is lost unnoticed.
const QUESTIONS_AT_LEAST: usize = 50;

/// Heading of the table with podman's documented defaults and Iguana's behaviour.
const DEFAULTS: &str = "### podman's defaults, one by one";
const DEFAULTS_AT_LEAST: usize = 60;

/// Answers by question.
type Answers = BTreeMap<String, String>;

/// A container: its questions, and its options.
#[derive(Clone, Copy)]
struct Run {
    /// The question, if the container answers only one.
    name: &'static str,
    image: &'static str,
    /// Keys of the workflow language with their values; podman's options have the same names.
    options: &'static [(&'static str, &'static str)],
    words: &'static [&'static str],
}

const fn run(
    name: &'static str,
    image: &'static str,
    options: &'static [(&'static str, &'static str)],
    words: &'static [&'static str],
) -> Run {
    Run { name, image, options, words }
}

/// The options that the first Iguana passed to podman.
const ALL_RIGHTS: &[&str] = &["--privileged", "--volume=/dev:/dev"];
/// podman's defaults. Without a cgroup there is no device filter. crun would raise the limit of locked memory for the
/// filter, which a root user without CAP_SYS_RESOURCE, as in many CI systems, cannot do.
const LESS_RIGHTS: &[&str] = &["--cgroups=disabled"];

const WHO: &[&str] = &["sh", "/ask.sh", "who"];
const FORM: &[&str] = &["sh", "/ask.sh", "form"];

/// Run privileged and unprivileged.
const RUNS: &[Run] = &[
    run("surroundings", "ask", &[], &["sh", "/ask.sh", "all"]),
    run("user by name", "ask", &[("user", "guest")], WHO),
    run("user by number", "ask", &[("user", "1000")], WHO),
    run("user and group that the image does not have", "ask", &[("user", "77:88")], WHO),
    run("read-only root", "ask", &[("read-only", "true")], &["sh", "/ask.sh", "fixed"]),
    run("named volume", "ask", &[("volumes", "name:/full")], &["sh", "/ask.sh", "volume", "/full"]),
    run(
        "directory of the machine, read-only",
        "ask",
        &[("volumes", "/srv:/full:ro")],
        &["sh", "/ask.sh", "volume", "/full"],
    ),
    run("32-bit program", "ask", &[], &["/32-bit"]),
];

/// Run privileged only, because privileges make no difference. podman without a cgroup refuses the last one.
const PRIVILEGED_ONLY: &[Run] = &[
    run("user and group by name", "ask", &[("user", "guest:wheel")], WHO),
    run("user and group by number", "ask", &[("user", "1000:10")], WHO),
    run("user by name, group by number", "ask", &[("user", "guest:88")], WHO),
    run("user that the image does not have", "ask", &[("user", "77")], WHO),
    run("root by number", "ask", &[("user", "0")], WHO),
    run("root with a group", "ask", &[("user", "root:wheel")], WHO),
    run("user of the image", "odd", &[], WHO),
    run("no such user", "ask", &[("user", "nobody-here")], WHO),
    run("no such group", "ask", &[("user", "guest:nobody-here")], WHO),
    run("command of the image", "both", &[], &[]),
    run("another command", "both", &[], &["another", "two words"]),
    run("another entrypoint", "both", &[("entrypoint", r#"["sh","/ask.sh","form","own"]"#)], &[]),
    run(
        "another entrypoint and command",
        "both",
        &[("entrypoint", r#"["sh","/ask.sh","form"]"#)],
        &["a", "b"],
    ),
    run("only a command", "ask", &[], FORM),
    run("an empty argument", "ask", &[], &["sh", "/ask.sh", "form", "", "end"]),
    run("no PATH in the image", "bare", &[], FORM),
    run("working directory of the image, which it lacks", "odd", &[], FORM),
    run("working directory", "ask", &[("workdir", "/tmp")], FORM),
    run("value with a line break", "ask", &[("env", "BROKEN=one\ntwo")], &["sh", "/ask.sh", "value"]),
    run("value with an equals sign", "ask", &[("env", "BROKEN=a=b")], &["sh", "/ask.sh", "value"]),
    run("empty value", "ask", &[("env", "BROKEN=")], &["sh", "/ask.sh", "value"]),
    run("HOME in place of the user's", "ask", &[("env", "HOME=/else"), ("user", "guest")], WHO),
    run("anonymous volume", "ask", &[("volumes", "/full")], &["sh", "/ask.sh", "volume", "/full"]),
    run(
        "directory of the machine",
        "ask",
        &[("volumes", "/srv:/full")],
        &["sh", "/ask.sh", "volume", "/full"],
    ),
    run("exit status 0", "ask", &[], &["true"]),
    run("exit status 3", "ask", &[], &["sh", "-c", "exit 3"]),
    run("exit status 200", "ask", &[], &["sh", "-c", "exit 200"]),
    run("reads what is not there", "ask", &[], &["perl", "-e", "unpack('p', pack('Q', 1))"]),
    run("sends SIGTERM to itself", "ask", &[], &["sh", "-c", "kill -TERM $$"]),
    run("sends SIGKILL to itself", "ask", &[], &["sh", "-c", "kill -KILL $$"]),
    run("no such program", "ask", &[], &["no-such-program"]),
    run("no such file", "ask", &[], &["/no/such/file"]),
    run("file that is not executable", "ask", &[], &["/etc/passwd"]),
    run("directory in place of a program", "ask", &[], &["/etc"]),
    run("script whose interpreter is missing", "ask", &[], &["/lost.sh"]),
    run("script without a first line", "ask", &[], &["/plain.sh"]),
    run("program of another architecture", "ask", &[], &["/foreign"]),
    run("program that is an empty file", "ask", &[], &["/empty"]),
    run("machine's processes", "ask", &[("pid", "host")], &["sh", "/ask.sh", "processes"]),
];

/// Run unprivileged only: the result of every system call. Without a filter the kernel would answer.
const ALL_CALLS: &[Run] = &[run("calls", "ask", &[], &["sh", "/ask.sh", "calls"])];

#[test]
fn a_container_has_the_same_environment_as_under_podman() -> Result<()> {
    compare("### With all rights", &[RUNS, PRIVILEGED_ONLY].concat(), true)
}

#[test]
fn an_unprivileged_container_has_the_same_environment_as_under_podman() -> Result<()> {
    compare("### With `privileged: false`", &[RUNS, ALL_CALLS].concat(), false)
}

#[test]
fn every_promise_of_the_contract_has_its_tests() -> Result<()> {
    let document = fs::read_to_string(source_tree().join(DOCUMENT))?;
    let rows = rows::<2>(&document, "## The contract")?;
    ensure!(!rows.is_empty(), "{DOCUMENT} has no promises");
    let all = test_names::all()?;
    let has_test = |name: &&str| all.iter().any(|test| test_names::is_named(&test.path, name));
    let mut wrong = Vec::new();
    for [promise, tests] in rows {
        let named: Vec<&str> = tests.split('`').filter(|name| name.contains("::")).collect();
        if named.is_empty() {
            wrong.push(format!("name a test: {promise}"));
        }
        wrong
            .extend(named.into_iter().filter(|name| !has_test(name)).map(|name| format!("no test `{name}`")));
    }
    ensure!(wrong.is_empty(), "{DOCUMENT}:\n{}", wrong.join("\n"));
    Ok(())
}

/// Two containers that listen on the same port of the machine would disturb each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn compare(section: &str, runs: &[Run], privileged: bool) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    packages::ensure(packages::ORACLE)?;
    let system = LiveSystem::new(registry()?)?;
    let machine = machine(&system)?;
    let (ours, theirs) = (
        under_iguana(&system, runs, &machine, privileged)?,
        under_podman(&system, runs, &machine, privileged)?,
    );
    ensure!(ours.len() >= QUESTIONS_AT_LEAST, "only {} questions were answered", ours.len());
    let document = fs::read_to_string(source_tree().join(DOCUMENT))?;
    let listed: Vec<_> =
        rows(&document, section)?.into_iter().map(|row: [String; 4]| row.map(unquoted)).collect();
    let mut findings = differences_from_list(&ours, &theirs, &listed);
    if !privileged {
        findings.extend(differences_from_defaults(&ours, &theirs, &rows(&document, DEFAULTS)?));
    }
    eprintln!("{} questions", ours.len());
    ensure!(findings.is_empty(), "{DOCUMENT}, {section}:\n{}", findings.join("\n"));
    Ok(())
}

/// A registry with the images: `ask` has minimal settings, `both` has entrypoint and command, `odd` has another user
/// and a missing working directory, `bare` has no environment.
fn registry() -> Result<Registry> {
    let registry = Registry::plain()?;
    let both = asking()?
        .set("Entrypoint", json!(["sh", "/ask.sh", "form", "entrypoint"]))
        .set("Cmd", json!(["command", "two words"]));
    let odd = asking()?.set("User", json!("guest")).set("WorkingDir", json!("/not/there"));
    let bare = asking()?.set("Env", json!([]));
    for (name, recipe) in [("ask", asking()?), ("both", both), ("odd", odd), ("bare", bare)] {
        registry.push_recipe(recipe, name)?;
    }
    Ok(registry)
}

/// Busybox with the questions and their tools.
fn asking() -> Result<Recipe> {
    let elf_of_another = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0";
    Recipe::busybox()?
        .program("/usr/bin/perl")?
        .program("/usr/bin/id")?
        .file("/set-user-id", 0o4755, fs::read("/usr/bin/id")?)?
        .file("/ask.sh", 0o755, ASK)?
        .file("/calls.pl", 0o644, CALLS)?
        .file("/lost.sh", 0o755, "#!/no/such/shell\n")?
        .file("/plain.sh", 0o755, "exit 5\n")?
        .file("/foreign", 0o755, elf_of_another)?
        .file("/empty", 0o755, "")?
        .file("/32-bit", 0o755, ends_with_0_in_32_bits())?
        .file("/full/file", 0o644, "")?
        .file("/mnt/.keep", 0o644, "")?
        .file("/etc/group", 0o644, "root:x:0:\nguest:x:1000:\nwheel:x:10:root,guest\naudio:x:29:guest\n")
        .map(|recipe| recipe.set("Env", json!(["PATH=/usr/bin:/bin", "FROM_IMAGE=yes"])))
}

/// A program for i386 that ends with exit status 0: the ELF headers, and `exit(0)` by `int 0x80`.
fn ends_with_0_in_32_bits() -> Vec<u8> {
    const CODE: &[u8] = &[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80];
    const START: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let size = HEADERS + CODE.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    for number in [1, START + HEADERS, 52, 0, 0] {
        file.extend(u32::to_le_bytes(number));
    }
    for number in [52_u16, 32, 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    for number in [1, 0, START, START, size, size, 5, 0x1000] {
        file.extend(u32::to_le_bytes(number));
    }
    [&file, CODE].concat()
}

/// The machine's own answers, as variables.
fn machine(system: &LiveSystem) -> Result<Vec<String>> {
    put(system.room(), "/calls.pl", 0o644, CALLS.as_bytes())?;
    let room = system.room().display().to_string();
    let output = podman::run_in_one_cgroup_tree(system, &["sh", "-c", MACHINE, "sh", &room])?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout).lines().map(Into::into).collect())
}

/// All containers as jobs of one workflow.
fn under_iguana(system: &LiveSystem, runs: &[Run], machine: &[String], privileged: bool) -> Result<Answers> {
    let jobs: Map<String, Value> =
        runs.iter().enumerate().map(|(number, run)| (id(number), job(run, privileged))).collect();
    let env: Map<String, Value> = machine.iter().filter_map(|text| variable(text)).collect();
    let file = system.workflow(&json!({"env": env, "jobs": jobs}).to_string())?;
    let init = program("iguana-init").display().to_string();
    let output = podman::run_in_one_cgroup_tree(system, &[&init, "run", &file])?;
    let (said, log) = (text(&output.stdout), text(&output.stderr));
    let mut answers = answers(&said);
    for (number, run) in runs.iter().enumerate() {
        let end = log.lines().find_map(|line| end_of_job(line, &id(number)));
        let end = end.with_context(|| format!("the job of `{}` has no end:\n{log}", run.name))?;
        answers_nothing(&mut answers, run, || end);
    }
    Ok(answers)
}

fn id(number: usize) -> String {
    format!("run-{number}")
}

fn job(run: &Run, privileged: bool) -> Value {
    let mut container = json!({"image": format!("REGISTRY/{}", run.image), "privileged": privileged, "env": {"RUN": run.name}});
    if !run.words.is_empty() {
        container["command"] = json!(run.words);
    }
    for (key, value) in run.options {
        match *key {
            "env" => {
                if let Some(env) = container["env"].as_object_mut() {
                    env.extend(variable(value));
                }
            }
            "volumes" => container["volumes"] = json!([value]),
            "entrypoint" | "read-only" => container[key] = serde_json::from_str(value).unwrap_or_default(),
            _ => container[key] = json!(value),
        }
    }
    json!({"container": container, "continue-on-error": true})
}

fn variable(text: &str) -> Option<(String, Value)> {
    text.split_once('=').map(|(name, value)| (name.into(), value.into()))
}

/// The end of the job according to a line of Iguana's log.
fn end_of_job(line: &str, job: &str) -> Option<String> {
    let end = line.strip_prefix(&format!("iguana: job {job}: "))?;
    match end.strip_prefix("failed: ") {
        Some(why) if why.starts_with("exit status ") => Some(why.split(" (").next()?.into()),
        Some(_) => Some("refused".into()),
        None => end.starts_with("succeeded").then(|| "exit status 0".into()),
    }
}

fn under_podman(system: &LiveSystem, runs: &[Run], machine: &[String], privileged: bool) -> Result<Answers> {
    let podman = Podman::with_images(system, &["ask", "both", "odd", "bare"])?;
    let mut answers = Answers::new();
    for run in runs {
        let options = podman_options(run, machine, privileged);
        let output =
            podman.run(&options.iter().map(String::as_str).collect::<Vec<_>>(), run.image, run.words)?;
        answers.extend(self::answers(&text(&output.stdout)));
        let end = output.status.code().context("podman was killed")?;
        answers_nothing(&mut answers, run, || match end {
            // podman-run(1), "Exit Status": failure of podman itself, cannot be invoked, cannot be found.
            125..=127 => "refused".into(),
            status => format!("exit status {status}"),
        });
    }
    Ok(answers)
}

fn podman_options(run: &Run, machine: &[String], privileged: bool) -> Vec<String> {
    let mut options: Vec<String> =
        machine.iter().chain([&format!("RUN={}", run.name)]).map(|text| format!("--env={text}")).collect();
    let rights = if privileged { ALL_RIGHTS } else { LESS_RIGHTS };
    options.extend(rights.iter().map(ToString::to_string));
    let named = |(key, value): &(&str, &str)| format!("--{}={value}", key.trim_end_matches('s'));
    options.extend(run.options.iter().map(named));
    options
}

/// If a container printed nothing, its end is the answer.
fn answers_nothing(answers: &mut Answers, run: &Run, end: impl FnOnce() -> String) {
    let begins = |question: &String| question == run.name || question.starts_with(&format!("{}: ", run.name));
    let says_much = ["all", "calls"].iter().any(|asked| run.words.contains(asked));
    if !says_much && !answers.keys().any(begins) {
        answers.insert(run.name.into(), end());
    }
}

fn answers(said: &str) -> Answers {
    let lines = said.lines().filter_map(|line| line.strip_prefix("? ")?.split_once(" ="));
    lines.map(|(question, answer)| (question.into(), answer.trim().into())).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The rows of the first table below a heading.
fn rows<const CELLS: usize>(document: &str, heading: &str) -> Result<Vec<[String; CELLS]>> {
    let heading = format!("\n{heading}\n");
    let (_, rest) =
        document.split_once(&heading).with_context(|| format!("{DOCUMENT} has no `{heading}`"))?;
    let section = rest.split("\n#").next().unwrap_or(rest);
    let row = |line: &str| {
        let cells: Vec<String> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().into()).collect();
        cells.try_into().map_err(|_| anyhow!("{DOCUMENT}: this row has not {CELLS} cells: {line}"))
    };
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(row).collect()
}

fn unquoted(cell: String) -> String {
    cell.trim_matches('`').into()
}

/// The documented defaults of podman that are wrong: for `same` both answers must be equal, otherwise different.
fn differences_from_defaults(ours: &Answers, theirs: &Answers, defaults: &[[String; 3]]) -> Vec<String> {
    let mut findings = Vec::new();
    if defaults.len() < DEFAULTS_AT_LEAST {
        findings.push(format!("only {} of podman's defaults are asked", defaults.len()));
    }
    for [question, default, stated] in defaults {
        let (our, their) = (ours.get(question), theirs.get(question));
        eprintln!("{question}: {default} | podman: {their:?} | Iguana: {our:?}");
        if our.is_none() && their.is_none() || (our == their) != (stated == "same") {
            findings.push(format!("| {question} | {default} | {stated} | but `{our:?}` and `{their:?}`"));
        }
    }
    findings
}

/// Differences that are not listed, and listed ones that do not exist, as rows of the table.
fn differences_from_list(ours: &Answers, theirs: &Answers, listed: &[[String; 4]]) -> Vec<String> {
    let answer =
        |answers: &Answers, question: &str| answers.get(question).cloned().unwrap_or("no response".into());
    let mut questions: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    questions.sort();
    questions.dedup();
    let mut findings = Vec::new();
    for question in questions {
        let (our, their) = (answer(ours, question), answer(theirs, question));
        let is_listed = listed.iter().any(|row| row[..3] == [question.clone(), our.clone(), their.clone()]);
        if our != their && !is_listed {
            findings.push(format!("| {question} | `{our}` | `{their}` | WHY? |"));
        }
    }
    for [question, our, their, _] in listed {
        let found = (answer(ours, question), answer(theirs, question));
        if found != (our.clone(), their.clone()) || our == their {
            findings.push(format!("not so any more: | {question} | `{our}` | `{their}` |"));
        }
    }
    findings
}
