//! `cargo xtask attack`: runs the tests that docs/security.md lists for each attack, and reports their results.

use crate::cargo::cargo;
use crate::test;
use anyhow::{Context, Result, bail, ensure};
use iguana_lab::process::{self, LONG};
use iguana_lab::{source_tree, test_names};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The page with the attacks.
const PAGE: &str = "docs/security.md";

/// The heading of the table.
const SECTION: &str = "\n## Attacks\n";

/// Number of concurrent machines, as in [`test`].
const THREADS: &str = "--test-threads=2";

/// Which attacks to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only attacks with this in their row.
    filter: Option<String>,
    /// Say which tests there are, and run none.
    #[arg(long)]
    list: bool,
}

/// Runs every listed test, including those that take minutes. Fails when a test fails or does not exist.
pub(crate) fn run(options: &Options) -> Result<()> {
    let page = std::fs::read_to_string(source_tree().join(PAGE)).with_context(|| format!("`{PAGE}`"))?;
    let wanted = options.filter.as_deref().unwrap_or_default();
    let attacks: Vec<Attack> =
        attacks(&page)?.into_iter().filter(|attack| attack.row.contains(wanted)).collect();
    ensure!(!attacks.is_empty(), "no attack in `{PAGE}` has `{wanted}` in its row");
    if !options.list {
        test::prepare()?;
    }
    let outcomes = try_all(&attacks, &programs()?, options.list)?;
    print!("{}", outcomes.table(&attacks));
    outcomes.judge(&attacks, if options.list { "have tests" } else { "passed" })
}

/// Runs, or with `only_lists` finds, the tests of all `attacks`, by test program.
fn try_all(attacks: &[Attack], programs: &[Program], only_lists: bool) -> Result<Outcomes> {
    let mut outcomes = Outcomes::default();
    for program in programs {
        let named = attacks.iter().flat_map(|attack| &attack.tests).map(String::as_str);
        let named: BTreeSet<&str> = named.filter(|name| program.test(name).is_some()).collect();
        let tests: BTreeSet<&str> = named.iter().filter_map(|name| program.test(name)).collect();
        let results = match (only_lists, tests.is_empty()) {
            (_, true) => continue,
            (true, _) => tests.iter().map(|test| ((*test).to_owned(), Outcome::Listed)).collect(),
            (false, _) => program.run(&tests)?,
        };
        outcomes.add(program, &named, &results);
    }
    Ok(outcomes)
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Attack {
    row: String,
    /// The attack.
    name: String,
    /// The tests of the attack, as the page names them.
    tests: Vec<String>,
}

/// The rows of the table in `page`. Each row must name a test.
fn attacks(page: &str) -> Result<Vec<Attack>> {
    let (_, section) =
        page.split_once(SECTION).with_context(|| format!("`{PAGE}` has no section `Attacks`"))?;
    let rows = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let attack = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let named = cells.last().unwrap_or(&"").split('`').skip(1).step_by(2);
        let tests: Vec<String> = named.map(str::to_owned).collect();
        ensure!(
            cells.len() == 3 && !tests.is_empty(),
            "this row of `{PAGE}` is not `| attack | outcome | test |`: {row}"
        );
        Ok(Attack { row: row.to_owned(), name: cells[0].to_owned(), tests })
    };
    rows.take_while(|line| line.starts_with('|')).map(attack).collect()
}

/// A test program built by cargo.
struct Program {
    file: PathBuf,
    /// The directory of its package, which is its working directory in cargo.
    home: PathBuf,
    /// The name of the library, the program or the test file.
    name: String,
    tests: Vec<String>,
}

/// A message of cargo about a build artifact.
#[derive(Deserialize)]
struct Message {
    manifest_path: PathBuf,
    target: Target,
    executable: Option<PathBuf>,
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds all tests of the workspace, and asks each test program for its tests.
fn programs() -> Result<Vec<Program>> {
    let mut build = cargo(&["test", "--locked", "--workspace", "--no-run", "--message-format=json"]);
    let messages = process::run(&mut build, LONG)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages.filter_map(Program::of).collect()
}

impl Program {
    fn of(message: Message) -> Option<Result<Program>> {
        // The programs that tests call are built too.
        let (file, home) = (message.executable?, message.manifest_path.parent()?.to_owned());
        message.profile.test.then_some(())?;
        let listed = process::run(Command::new(&file).args(["--list", "--format", "terse"]), LONG);
        let tests = |listed: String| {
            listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
        };
        let name = message.target.name.replace('-', "_");
        Some(listed.map(|listed| Program { file, home, name, tests: tests(listed) }))
    }

    /// The test that the page calls `named`: either its whole path including the program's name, or the end of the
    /// path.
    fn test(&self, named: &str) -> Option<&str> {
        let is_named = |test: &&String| test_names::is_named(&format!("{}::{test}", self.name), named);
        self.tests.iter().find(is_named).map(String::as_str)
    }

    /// Runs its `tests` and prints the results as they come.
    fn run(&self, tests: &BTreeSet<&str>) -> Result<BTreeMap<String, Outcome>> {
        eprintln!("{}: {} tests", self.name, tests.len());
        let mut run = Command::new(&self.file);
        run.current_dir(&self.home).env("CARGO_MANIFEST_DIR", &self.home);
        run.args(["--exact", "--include-ignored", THREADS]).args(tests);
        let mut child =
            run.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{}`", self.name))?;
        let said = child.stdout.take().map(BufReader::new).context("cannot read its output")?;
        let mut outcomes = BTreeMap::new();
        for line in said.lines() {
            let line = line?;
            println!("{line}");
            outcomes.extend(outcome(&line));
        }
        child.wait()?;
        Ok(outcomes)
    }
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// The test exists and is not run.
    Listed,
}

/// Parses a result line of a test program: `test NAME ... ok`.
fn outcome(line: &str) -> Option<(String, Outcome)> {
    let (test, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let test = test.strip_suffix(" - should panic").unwrap_or(test);
    match result {
        "ok" => Some((test.to_owned(), Outcome::Passed)),
        "FAILED" => Some((test.to_owned(), Outcome::Failed)),
        _ => None,
    }
}

/// The results of the tests by their names in the page. A test without an entry was not found, or did not end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcomes(BTreeMap<String, Outcome>);

impl Outcomes {
    /// Adds the results of the tests of `program`. If two tests have the same name in the page, a failure takes
    /// precedence.
    fn add(&mut self, program: &Program, named: &BTreeSet<&str>, results: &BTreeMap<String, Outcome>) {
        for name in named {
            let result = program.test(name).and_then(|test| results.get(test));
            let Some(result) = result else { continue };
            let known = self.0.entry((*name).to_owned()).or_insert(*result);
            if *result == Outcome::Failed {
                *known = *result;
            }
        }
    }

    fn word(&self, test: &str) -> &'static str {
        match self.0.get(test) {
            Some(Outcome::Passed) => "passed",
            Some(Outcome::Failed) => "FAILED",
            Some(Outcome::Listed) => "there",
            None => "NOT FOUND",
        }
    }

    /// A line for each test of each attack.
    fn table(&self, attacks: &[Attack]) -> String {
        let lines = attacks.iter().flat_map(|attack| attack.tests.iter().map(move |test| (attack, test)));
        let width = lines.clone().map(|(attack, _)| attack.name.chars().count()).max().unwrap_or_default();
        lines
            .map(|(attack, test)| format!("{:<9}  {:<width$}  {test}\n", self.word(test), attack.name))
            .collect()
    }

    /// Prints how many attacks were tested, and fails unless all their tests have the expected result.
    fn judge(&self, attacks: &[Attack], good_word: &str) -> Result<()> {
        let is_good = |test: &String| matches!(self.0.get(test), Some(Outcome::Passed | Outcome::Listed));
        let good = attacks.iter().filter(|attack| attack.tests.iter().all(is_good)).count();
        println!("attacks: {good} {good_word}, {} failed", attacks.len() - good);
        if good < attacks.len() {
            bail!("{} of {} attacks have a failed or missing test", attacks.len() - good, attacks.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# S\n\n## Attacks\n\nText.\n\n| attack | outcome | test |\n| --- | --- | --- |\n\
        | a \\| b | refused | `trust::x` |\n| c | told | `d::tests::y`; and `scenarios::trust::z` |\n\n## More\n\n\
        | no | attack | `e` |\n";

    fn program(name: &str, tests: &[&str]) -> Program {
        let tests = tests.iter().map(|test| (*test).to_owned()).collect();
        Program { file: PathBuf::new(), home: PathBuf::new(), name: name.into(), tests }
    }

    #[test]
    fn the_table_is_read_to_its_end() {
        let attacks = attacks(PAGE).unwrap();
        assert_eq!(attacks.len(), 2);
        assert_eq!(attacks[0].tests, ["trust::x"]);
        assert_eq!((attacks[1].name.as_str(), attacks[1].tests.len()), ("c", 2));
        assert!(super::attacks("# S\n").is_err());
        let unnamed = "\n## Attacks\n| attack | outcome | test |\n| --- | --- | --- |\n| a | b | none |\n";
        assert!(super::attacks(unnamed).unwrap_err().to_string().contains("| a | b | none |"));
    }

    #[test]
    fn a_test_is_found_by_its_path_or_a_suffix_of_it() {
        let library = program("a_library", &["trust::policy::tests::a", "http::tests::a"]);
        assert_eq!(library.test("trust::policy::tests::a"), Some("trust::policy::tests::a"));
        assert_eq!(library.test("a_library::http::tests::a"), Some("http::tests::a"));
        assert_eq!(library.test("rust::policy::tests::a"), None);
        assert_eq!(program("trust", &["x"]).test("trust::x"), Some("x"));
        assert_eq!(program("scenarios", &["trust::x"]).test("scenarios::trust::x"), Some("trust::x"));
        assert_eq!(program("trust", &["x"]).test("scenarios::trust::x"), None);
    }

    #[test]
    fn an_attack_fails_with_one_of_its_tests() {
        let attacks = attacks(PAGE).unwrap();
        let [one, other] = [program("trust", &["x"]), program("lib", &["d::tests::y"])];
        let results = |lines: &str| lines.lines().filter_map(outcome).collect::<BTreeMap<_, _>>();
        let mut outcomes = Outcomes::default();
        outcomes.add(&one, &["trust::x"].into(), &results("test x ... ok\n\ntest result: ok. 1 passed\n"));
        assert!(
            outcomes.judge(&attacks[..1], "passed").is_ok() && outcomes.judge(&attacks, "passed").is_err()
        );
        outcomes.add(&other, &["d::tests::y"].into(), &results("test d::tests::y ... FAILED\n"));
        let table = outcomes.table(&attacks);
        let words: Vec<&str> = table.lines().filter_map(|line| line.split("  ").next()).collect();
        assert_eq!(words, ["passed", "FAILED", "NOT FOUND"]);
    }
}
