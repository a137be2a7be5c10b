//! The documentation must agree with the language's table, and name only tests that exist. Each failure says what to
//! write where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test panics, also in the functions that tests share"
)]

use iguana_lab::source_tree;
use iguana_lab::test_names::{self, NamedTest};
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use workflow::language::{CONTAINER, OBJECTS, SERVICE};
use workflow::schema::{Key, Object, ValueKind};
use workflow::{MACHINE, check};

const DOCUMENT: &str = "docs/workflow.md";
const TABLE: &str = "## Every key and the test that runs it";
/// Placeholder in a failure message for a test that the developer has to name.
const NO_TEST: &str = "`MODULE::TEST`";
/// The directory of the case files.
const CASES: &str = "crates/iguana/tests";

/// The tests of the source tree.
struct Tests(Vec<NamedTest>);

impl Tests {
    fn read() -> Tests {
        Tests(test_names::all().unwrap())
    }

    /// The test that a page names, if it exists.
    fn find(&self, named: &str) -> Option<&NamedTest> {
        self.0.iter().find(|test| test_names::is_named(&test.path, named))
    }
}

fn document() -> String {
    fs::read_to_string(source_tree().join(DOCUMENT)).unwrap()
}

/// Fails with all items, not only with the first one.
fn assert_nothing_to_do(where_to: &str, to_do: &[String]) {
    assert!(to_do.is_empty(), "{DOCUMENT}, {where_to}:\n\n{}\n", to_do.join("\n"));
}

/// All keys, each with its object.
fn keys() -> impl Iterator<Item = (&'static Object, &'static Key)> {
    OBJECTS.iter().flat_map(|(_, object)| object.keys.iter().map(move |key| (*object, key)))
}

fn spellings(key: &Key) -> impl Iterator<Item = &'static str> {
    [key.name].into_iter().chain(key.aliases.iter().copied())
}

/// Describes what a key takes.
fn in_words(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Text => "text".into(),
        ValueKind::Id => "id".into(),
        ValueKind::Scalar => "scalar".into(),
        ValueKind::Bool => "boolean".into(),
        ValueKind::Integer(only, last) if only == last => only.to_string(),
        ValueKind::Integer(first, last) => format!("whole number from {first} to {last}"),
        ValueKind::Minutes => "minutes".into(),
        ValueKind::Duration => "time".into(),
        ValueKind::Size => "size".into(),
        ValueKind::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        ValueKind::List(item) => format!("list: {}", in_words(item)),
        ValueKind::Map(value) => format!("map: {}", in_words(value)),
        ValueKind::Ids(value) => format!("map by id: {}", in_words(value)),
        ValueKind::Object(object) => object.name.into(),
        ValueKind::Either(kinds) => kinds.iter().map(in_words).collect::<Vec<_>>().join(", or "),
        ValueKind::Ignored => "anything".into(),
    }
}

/// The table's columns for a key, except its tests.
type Facts = [String; 4];

fn facts(object: &Object, key: &Key) -> Facts {
    let names: Vec<String> = spellings(key).map(|name| format!("`{name}`")).collect();
    let required = if key.required { "required; " } else { "" };
    let takes = format!("{required}{}", in_words(&key.kind));
    [object.name.into(), names.join(", "), takes, key.doc.replace('|', "\\|")]
}

/// The rows of the table: the columns, and the tests.
fn rows(document: &str) -> Vec<(Facts, String)> {
    let (_, table) = document.split_once(TABLE).unwrap_or_else(|| panic!("{DOCUMENT} has no `{TABLE}`"));
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(row).collect()
}

fn row(line: &str) -> (Facts, String) {
    let cells: Vec<String> =
        line.trim_matches([' ', '|']).split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let [object, key, takes, meaning, tests] = <[String; 5]>::try_from(cells)
        .unwrap_or_else(|cells| panic!("{DOCUMENT}: a row has five cells, not {}: {line}", cells.len()));
    ([object, key, takes, meaning], tests)
}

fn line(facts: &Facts, tests: &str) -> String {
    format!("| {} | {tests} |", facts.join(" | "))
}

#[test]
fn the_table_has_one_row_for_each_key() {
    let document = document();
    let rows = rows(&document);
    let expected: Vec<Facts> = keys().map(|(object, key)| facts(object, key)).collect();
    let mut to_do = Vec::new();
    for facts in expected.iter().filter(|facts| !rows.iter().any(|(row, _)| row == *facts)) {
        let old = rows.iter().find(|(row, _)| row[..2] == facts[..2]);
        to_do.push(format!("add:    {}", line(facts, old.map_or(NO_TEST, |(_, tests)| tests))));
    }
    let mut seen = HashSet::new();
    for (facts, tests) in rows.iter().filter(|(facts, _)| !expected.contains(facts) || !seen.insert(facts)) {
        to_do.push(format!("remove: {}", line(facts, tests)));
    }
    assert_nothing_to_do(TABLE, &to_do);
}

#[test]
fn every_named_test_exists_and_uses_its_key() {
    let all = Tests::read();
    let document = document();
    let rows = rows(&document);
    let mut to_do = Vec::new();
    for (object, key) in keys() {
        let facts = facts(object, key);
        let Some((_, tests)) = rows.iter().find(|(row, _)| row[..2] == facts[..2]) else { continue };
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            to_do.push(format!("name a test: {}", line(&facts, NO_TEST)));
        }
        let wrong = named.iter().filter_map(|name| why_not(name, key, &all));
        to_do.extend(wrong.map(|why| format!("{why}: {}", line(&facts, tests))));
    }
    assert_nothing_to_do(TABLE, &to_do);
}

/// Why the name of a test is not acceptable for this key.
fn why_not(name: &str, key: &Key, tests: &Tests) -> Option<String> {
    let text = if name.ends_with(".yaml") {
        fs::read_to_string(source_tree().join(CASES).join(name)).ok()
    } else {
        tests.find(name).map(|test| test.source.clone())
    };
    match text {
        None => Some(format!("there is no test `{name}`; name another")),
        Some(text) if !spellings(key).any(|spelling| has_key(&text, spelling)) => {
            Some(format!("`{name}` has no `{}:` in it; name another", key.name))
        }
        Some(_) => None,
    }
}

/// Whether a text sets a key, in block or flow style. It does not tell to which object the key belongs.
fn has_key(text: &str, key: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    text.match_indices(&format!("{key}:")).any(|(at, _)| !text[..at].ends_with(is_word))
}

#[test]
fn every_key_has_a_paragraph_in_the_section_of_its_object() {
    let document = document();
    let mut to_do = Vec::new();
    for (object, key) in keys() {
        let is_told_of_containers = object.name == SERVICE.name && CONTAINER.find(key.name).is_some();
        let heading = format!("\n## Keys of {}\n", object.name);
        let section = document.split_once(&heading).map_or("", |(_, rest)| rest);
        let section = section.split("\n## ").next().unwrap_or_default();
        let paragraph = format!("**`{}`**", key.name);
        if !is_told_of_containers && !section.contains(&paragraph) {
            to_do.push(format!("add below `{}`:\n\n{}: {}.\n", heading.trim(), paragraph.trim(), key.doc));
        }
    }
    assert_nothing_to_do("the sections `Keys of …`", &to_do);
}

/// A block of YAML in the document.
struct Example<'a> {
    line: usize,
    /// The words after `yaml` in the opening line.
    words: Vec<&'a str>,
    text: String,
}

fn examples(document: &str) -> Vec<Example<'_>> {
    let mut examples = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(words) = line.strip_prefix("```") else { continue };
        let text: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        if let Some(words) = words.strip_prefix("yaml") {
            let words = words.split_whitespace().collect();
            examples.push(Example { line: number + 1, words, text: text.join("\n") + "\n" });
        }
    }
    examples
}

const IMAGE: &str = "registry.example.com/tool";

impl Example<'_> {
    /// The workflow to which a fragment belongs, by its word `fragment=PART`; otherwise the example itself.
    fn workflow(&self) -> Result<String, String> {
        let part = self.words.iter().find_map(|word| word.strip_prefix("fragment="));
        Ok(match part {
            None if self.text.lines().any(|line| line.starts_with("jobs:")) => self.text.clone(),
            None => return Err("has no `jobs:`; mark it as a part: ```yaml fragment=job".into()),
            Some("workflow") => format!("{}\njobs: {{example: {{container: {IMAGE}}}}}\n", self.text),
            Some("job") => job(&self.text),
            Some("step") => job(&below("steps", &self.text)),
            Some("container") => job(&container("container", &self.text)),
            Some("volumes") => job(&container("container", &below("volumes", &self.text))),
            Some("service") => job(&below("services", &container("example", &self.text))),
            Some(part) => return Err(format!("has an unknown `fragment={part}`")),
        })
    }

    /// What has to be corrected in the example.
    fn fault(&self) -> Option<String> {
        let told = match self.workflow() {
            Ok(workflow) => self.fault_of(&workflow),
            Err(fault) => Some(fault),
        };
        told.map(|fault| format!("the example in line {} {fault}", self.line))
    }

    /// An unexpected finding. With the word `refused` there must be an error; with `notes` there may be findings
    /// below an error.
    fn fault_of(&self, workflow: &str) -> Option<String> {
        let has = |word| self.words.contains(&word);
        let checked = check(workflow.as_bytes());
        let is_clean = checked.findings.is_empty() || has("notes");
        match checked.into_plan("it") {
            Ok(_) if has("refused") => {
                Some("is a workflow: remove the word `refused`, or correct the text".into())
            }
            Ok(_) if !is_clean => Some("has a warning or a note: correct it, or add the word `notes`".into()),
            Err(error) if !has("refused") => Some(format!("is no workflow: correct it.\n{error}\n")),
            _ => None,
        }
    }
}

fn job(keys: &str) -> String {
    below("jobs", &below("example", &with_key("container", keys)))
}

fn container(name: &str, keys: &str) -> String {
    below(name, &with_key("image", keys))
}

fn with_key(key: &str, keys: &str) -> String {
    match keys.lines().any(|line| line.starts_with(&format!("{key}:"))) {
        true => keys.to_owned(),
        false => format!("{key}: {IMAGE}\n{keys}"),
    }
}

fn below(key: &str, text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("  {line}\n")).collect();
    format!("{key}:\n{lines}")
}

#[test]
fn every_example_is_accepted() {
    let document = document();
    let examples = examples(&document);
    assert!(!examples.is_empty());
    let to_do: Vec<String> = examples.iter().filter_map(Example::fault).collect();
    assert_nothing_to_do("the blocks of YAML", &to_do);
}

#[test]
fn exactly_the_facts_of_the_machine_are_inserted() {
    let document = document();
    let told = |name: &str| document.contains(&format!("\n| `machine.{name}` | "));
    let missing = MACHINE.iter().filter(|name| !told(name));
    let mut to_do: Vec<String> = missing.map(|name| format!("add: | `machine.{name}` | MEANING |")).collect();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `machine.")?.split('`').next());
    let foreign = rows.filter(|name| !MACHINE.contains(name));
    to_do.extend(foreign.map(|name| format!("remove the row of `machine.{name}`")));
    assert_nothing_to_do("the table of `machine`", &to_do);
}

const HANDOVER: &str = "docs/handover.md";
/// Number of arrows in the document's diagram.
const ARROWS: usize = 17;

#[test]
fn every_transition_of_the_handover_has_an_existing_test() {
    let document = fs::read_to_string(source_tree().join(HANDOVER)).unwrap();
    let layouts = fs::read_to_string(source_tree().join("tests/src/disks/layout/rows.rs")).unwrap();
    let (picture, table) = document.split_once("| arrow | tests |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.len(), ARROWS);
    let all = Tests::read();
    for (number, row) in (1..).zip(&rows) {
        assert!(row[1].starts_with(&format!("{number} ")), "{HANDOVER}: the rows are in order: {row:?}");
        let words = picture.split(|letter: char| !letter.is_ascii_alphanumeric());
        assert!(words.clone().any(|word| word == number.to_string()), "the picture has no arrow {number}");
        let tests: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        let named: Vec<&str> = row[2].split(['“', '”']).skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || !named.is_empty(), "{HANDOVER}: name a test of arrow {number}");
        for name in tests {
            assert!(all.find(name).is_some(), "{HANDOVER}: there is no test `{name}`");
        }
        for name in named {
            assert!(
                layouts.contains(&format!("name: \"{name}\"")),
                "{HANDOVER}: there is no layout `{name}`"
            );
        }
    }
}

#[test]
fn every_attack_names_a_test() {
    let page = fs::read_to_string(source_tree().join("docs/security.md")).expect("docs/security.md");
    let (_, attacks) = page.split_once("\n## Attacks\n").expect("a section `Attacks`");
    let rows = attacks.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attack"));
    let rows: Vec<&str> = rows.filter(|line| !line.starts_with("| ---")).collect();
    assert!(rows.len() > 10);
    let tests = |row: &str| row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default().to_owned();
    let unnamed = rows.iter().filter(|row| !tests(row).contains('`'));
    let to_do: Vec<String> = unnamed.map(|row| format!("name a test: {row}")).collect();
    assert_nothing_to_do("docs/security.md", &to_do);
}

/// The pages of the book.
fn pages() -> impl Iterator<Item = PathBuf> {
    let pages = fs::read_dir(source_tree().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.filter(|page| page.extension().is_some_and(|it| it == "md"))
}

/// Whether a page means a test by these words in backticks: `module::a_sentence`.
fn names_test(words: &str) -> bool {
    let is_word =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_:".contains(letter);
    let function = words.rsplit_once("::").map(|(_, function)| function);
    words.chars().all(is_word) && function.is_some_and(|it| it.contains('_'))
}

#[test]
fn every_test_named_in_a_page_exists() {
    let all = Tests::read();
    let mut to_do = Vec::new();
    for page in pages().chain([source_tree().join("docs/internals/waits.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let named = text.split('`').filter(|words| names_test(words));
        let missing = named.filter(|name| all.find(name).is_none());
        to_do.extend(missing.map(|name| format!("{}: there is no test `{name}`", page.display())));
    }
    assert_nothing_to_do("and the other pages", &to_do);
}

/// A path is below `crates/`, from the root of the repository, or beside the one before it.
#[test]
fn every_place_to_make_changes_exists() {
    let page = fs::read_to_string(source_tree().join("docs/internals/where.md")).unwrap();
    let mut to_do = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let mut last = source_tree().to_owned();
        let places = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        for name in places.split('`').skip(1).step_by(2) {
            let beside = last.parent().unwrap_or(&last).to_owned();
            let directories = [source_tree().join("crates"), source_tree().to_owned(), last.clone(), beside];
            match directories.iter().map(|it| it.join(name)).find(|path| path.exists()) {
                Some(path) => last = path,
                None => to_do.push(format!("there is no `{name}`: {row}")),
            }
        }
    }
    assert_nothing_to_do("docs/internals/where.md", &to_do);
}

/// Checks links between pages and to files of the repository.
#[test]
fn links_point_to_files() {
    let mut dead = Vec::new();
    let others = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/internals/where.md"];
    for page in pages().chain(others.map(|name| source_tree().join(name))) {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_here = !target.is_empty() && !target.contains("://") && !target.contains(' ');
            if is_here && !page.parent().unwrap().join(target).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

/// Every page must be in the table of contents of the book.
#[test]
fn the_book_has_every_page() {
    let summary = fs::read_to_string(source_tree().join("docs/SUMMARY.md")).unwrap();
    for entry in fs::read_dir(source_tree().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_page = name.ends_with(".md") && name != "SUMMARY.md";
        assert!(!is_page || summary.contains(&format!("({name})")), "`{name}` is not in docs/SUMMARY.md");
    }
}
