//! `iguana check` from its command line, on workflows with known mistakes.
//!
//! Each `invalid/NAME.yaml` has its expected output in `NAME.txt`. The workflows in `valid/` have no errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test panics, also in the functions that tests share"
)]
#![allow(clippy::disallowed_methods, reason = "tests write to temporary directories")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Limit of processor time for one check in seconds, in a build without optimization. Wall time would depend on the
/// load of the machine.
const MOST_PROCESSOR_TIME: u32 = 2;
/// After this time the program is considered to hang.
const LONGEST: Duration = Duration::from_secs(60);

/// Memory limit for one document, in KiB of address space. The program itself takes a fifth of it.
const MOST_MEMORY: &str = "307200";

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The workflows in a directory, sorted.
fn workflows(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// `iguana check` with these arguments and a memory limit.
fn check(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args([
        "-c",
        &format!("ulimit -v {MOST_MEMORY}; ulimit -t {MOST_PROCESSOR_TIME}; exec \"$@\""),
        "sh",
        env!("CARGO_BIN_EXE_iguana"),
    ]);
    command.arg("check").args(arguments).current_dir(directory).env_remove("NO_COLOR");
    command
}

fn in_time(command: &mut Command, what: &str) -> Output {
    let start = Instant::now();
    let output = command.output().unwrap();
    assert!(start.elapsed() < LONGEST, "{what}: {:?}", start.elapsed());
    output
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn every_mistake_is_reported_as_expected() {
    let is_update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for path in workflows("invalid") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = in_time(&mut check(&directory("invalid"), &[name]), name);
        assert_eq!(output.status.code(), Some(3), "{name}: {}", told(&output));
        let expected = path.with_extension("txt");
        if is_update {
            fs::write(&expected, said(&output)).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said(&output) {
            wrong.push(format!("--- {name}\n{}", said(&output)));
        }
    }
    let remedy = "to take this as expected: UPDATE_EXPECTED=1 cargo test -p iguana --test check";
    assert!(wrong.is_empty(), "{}\n{remedy}", wrong.join("\n"));
}

#[test]
fn a_workflow_without_a_mistake_has_no_error() {
    for path in workflows("valid") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = in_time(&mut check(&directory("valid"), &["--color", "never", name]), name);
        assert!(output.status.success(), "{name}: {}", said(&output));
    }
}

/// Documents that are too large for the example directories, each with the expected message.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let repeated = |times: usize, line: &dyn Fn(usize) -> String| (0..times).map(line).collect::<String>();
    let aliases = |line: &dyn Fn(usize) -> String| format!("x0: &x0 {{a: b}}\n{}", repeated(1000, line));
    let ten = |item: &dyn Fn(usize) -> String| repeated(10, &|number| item(number) + ", ");
    let texts = [
        (
            "lists of aliases",
            aliases(&|n| format!("x{0}: &x{0} [{1}]\n", n + 1, ten(&|_| format!("*x{n}")))),
            "too-large",
        ),
        (
            "maps of aliases",
            aliases(&|n| format!("x{0}: &x{0} {{{1}}}\n", n + 1, ten(&|key| format!("k{key}: *x{n}")))),
            "too-large",
        ),
        (
            "merged maps",
            aliases(&|n| format!("x{0}: &x{0} {{<<: [{1}], k{0}: v}}\n", n + 1, ten(&|_| format!("*x{n}")))),
            "too-large",
        ),
        (
            "a long key, merged",
            format!("a: &a {{? {} : v}}\nl:\n{}", "k".repeat(500_000), "- {<<: *a}\n".repeat(1900)),
            "too-large",
        ),
        (
            "a long text, aliased",
            format!(
                "env:\n  a: &a {}\n{}",
                "v".repeat(500_000),
                repeated(1900, &|n| format!("  v{n}: *a\n"))
            ),
            "too-large",
        ),
        (
            "a long default",
            format!(
                "defaults: {{run: {{shell: '{} {{0}}'}}}}\njobs: {{a: {{container: r.example/a, steps: [{}]}}}}",
                "s".repeat(400_000),
                "{run: a},".repeat(1900)
            ),
            "too-large",
        ),
        ("open brackets", format!("jobs: {}", "[".repeat(500_000)), "too-deep"),
        ("open braces", format!("jobs: {}", "{a: ".repeat(200_000)), "too-deep"),
        ("dashes", "- ".repeat(500_000), "too-deep"),
        ("steps of indentation", repeated(1000, &|n| format!("{}a:\n", " ".repeat(n))), "too-deep"),
        ("10 MB", "jobs: {a: {container: r.example/a}}\n".repeat(300_000), "too-large"),
        ("a list without end", format!("jobs: [{}]", "a,".repeat(20_000)), "too-large"),
        (
            "more mistakes than anybody reads",
            format!("jobs:\n{}", repeated(1000, &|n| format!("  j{n}: {{x: 1}}\n"))),
            "more",
        ),
        ("keys given again", format!("jobs:\n{}", "  a: {}\n".repeat(20_000)), "duplicate-key"),
        (
            "a long circle",
            format!(
                "jobs:\n{}",
                repeated(500, &|n| format!("  j{n}: {{container: a, needs: j{}}}\n", (n + 1) % 500))
            ),
            "needs",
        ),
        (
            "a deep expression",
            format!("jobs: {{a: {{container: a, if: '{}'}}}}", "(".repeat(20_000)),
            "expression",
        ),
        (
            "a long expression",
            format!("jobs: {{a: {{container: a, if: \"true{}\"}}}}", " && true".repeat(3000)),
            "expression",
        ),
        ("zeros", "\0".repeat(100_000), "yaml"),
        ("a long word", format!("jobs: {{a: {{container: a, {}: 1}}}}", "k".repeat(1000)), "unknown-key"),
    ];
    texts.map(|(name, text, rule)| (name, text.into_bytes(), rule)).into()
}

#[test]
fn a_malicious_workflow_is_refused_at_little_cost() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes, rule) in hostile() {
        fs::write(directory.path().join("flow.yaml"), bytes).unwrap();
        let output = in_time(&mut check(directory.path(), &["--format", "json", "flow.yaml"]), name);
        assert_eq!(output.status.code(), Some(3), "{name}: {}", told(&output));
        assert!(rules(&json(&output)).contains(rule), "{name}: {:?}", rules(&json(&output)));
        assert!(said(&output).len() < 200_000, "{name}: {} bytes", said(&output).len());
        // The text form takes longer to write.
        let output = in_time(&mut check(directory.path(), &["flow.yaml"]), name);
        assert!(output.status.code() == Some(3) && output.stdout.len() < 200_000, "{name}");
    }
    fs::write(directory.path().join("large.yaml"), vec![b' '; 2 << 20]).unwrap();
    for (file, refusal) in
        [("large.yaml", "the file exceeds 1048576 bytes"), ("/dev/zero", "not a regular file")]
    {
        let output = in_time(&mut check(directory.path(), &[file]), file);
        let text = said(&output) + &told(&output);
        assert!(text.contains(refusal), "{text}");
    }
}

fn rules(document: &Value) -> BTreeSet<String> {
    let files = document["files"].as_array().unwrap();
    let findings = files.iter().flat_map(|file| file["findings"].as_array().unwrap());
    findings.map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let names: Vec<String> = workflows("invalid").iter().map(|path| path.display().to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = rules(&json(
        &check(&directory("invalid"), &[&["--format", "json"], &names[..]].concat()).output().unwrap(),
    ));
    found.extend(hostile().into_iter().map(|(_, _, rule)| rule.to_owned()));
    let sarif = json(&check(&directory("valid"), &["--format", "sarif", "smallest.yaml"]).output().unwrap());
    let known = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    let known: BTreeSet<String> = known.iter().map(|rule| rule["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found, known);
}

#[test]
fn all_files_are_checked_and_the_exit_code_is_the_worst_result() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("good.yaml", "jobs: {a: {container: r.example/a}}");
    write("noted.yaml", "{on: push, jobs: {a: {container: r.example/a}}}");
    write("bad.yaml", "jobs: {a: {}}");
    let run = |arguments: &[&str]| check(directory.path(), arguments).output().unwrap();
    let output = run(&["good.yaml"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "good.yaml: ok\n"));
    assert_eq!(run(&["noted.yaml"]).status.code(), Some(0));
    let output = run(&["bad.yaml", "good.yaml", "noted.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).ends_with("\nchecked 3 workflows: 1 error, 1 note\n"), "{}", said(&output));
    let output = run(&["bad.yaml", "absent.yaml", "noted.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).ends_with("\nchecked 2 workflows: 1 error, 1 note\n"), "{}", said(&output));
    assert!(told(&output).starts_with("iguana: error: cannot read the workflow `absent.yaml`\n  why: "));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--plan", "--format", "sarif", "good.yaml"]).status.code(), Some(2));
    assert!(said(&run(&["--help"])).ends_with("  3  a workflow has errors\n"));
}

#[test]
fn the_standard_input_is_a_file_too() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    fs::write(&text, "jobs: {a: {}}").unwrap();
    let output = check(directory.path(), &["-"]).stdin(fs::File::open(&text).unwrap()).output().unwrap();
    assert!(output.status.code() == Some(3) && said(&output).contains("--> stdin:1:8"), "{}", said(&output));
}

#[test]
fn colours_are_for_terminals_or_on_request() {
    let is_coloured = |arguments: &[&str]| {
        said(&check(&directory("invalid"), arguments).output().unwrap()).contains('\x1b')
    };
    assert!(!is_coloured(&["no-jobs.yaml"]));
    assert!(is_coloured(&["--color", "always", "no-jobs.yaml"]));
    assert!(!is_coloured(&["--color", "never", "no-jobs.yaml"]));
    // Control characters in the document never reach the terminal.
    assert!(!is_coloured(&["control-characters.yaml"]));
    assert!(!is_coloured(&["--format", "github", "control-characters.yaml"]));
}

#[test]
fn a_reader_that_stops_early_is_not_a_failure() {
    let mut command = check(&directory("invalid"), &["unknown-key-everywhere.yaml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), told(&output)), (Some(3), String::new()));
}

#[test]
fn machine_readable_findings_have_lines_and_columns() {
    let run = |format: &str| {
        check(&directory("invalid"), &["--format", format, "wide-letters.yaml", "../valid/smallest.yaml"])
            .output()
            .unwrap()
    };
    let document = json(&run("json"));
    assert_eq!(document["files"][1], serde_json::json!({ "file": "../valid/smallest.yaml", "findings": [] }));
    let finding = &document["files"][0]["findings"][2];
    let place = ["line", "column", "end_line", "end_column"].map(|key| finding[key].as_u64().unwrap());
    assert_eq!((place, &finding["rule"]), ([5, 45, 5, 50], &Value::from("name")));
    let sarif = json(&run("sarif"));
    assert_eq!((&sarif["version"], sarif["runs"].as_array().unwrap().len()), (&Value::from("2.1.0"), 1));
    let result = &sarif["runs"][0]["results"][2];
    assert_eq!((&result["ruleId"], &result["level"]), (&Value::from("name"), &Value::from("error")));
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "wide-letters.yaml");
    assert_eq!(location["region"]["startColumn"], 45);
    let github = said(&run("github"));
    let expected = "::error file=wide-letters.yaml,line=5,col=45,endLine=5,endColumn=50,title=name::\
                    unknown variable `C`%0Ahint: define it in `env:`";
    assert_eq!(github.lines().nth(2), Some(expected));
}

#[test]
fn a_valid_plan_is_shown() {
    let run = |arguments: &[&str]| check(&directory("valid"), arguments).output().unwrap();
    let output = run(&["--plan", "order.yaml"]);
    let expected = "\
#  job     image             needs
1  first   r.example/first
2  second  r.example/second  first
3  last    r.example/last    second, first
4  alone   r.example/alone
";
    assert_eq!(said(&output), expected);
    assert_eq!(told(&output), "order.yaml: ok\n");
    let output = run(&["--plan", "../invalid/no-jobs.yaml"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(3), ""));
    assert!(told(&output).contains("the workflow has no jobs"));
    let document = json(&run(&["--plan", "--format", "json", "order.yaml", "../invalid/no-jobs.yaml"]));
    assert_eq!(document["files"][0]["plan"]["jobs"][3]["id"], "alone");
    assert_eq!(document["files"][1]["plan"], Value::Null);
}
