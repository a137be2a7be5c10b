//! The tests of the source tree by their paths, for the pages and tables that name tests.
//!
//! A path begins with the test program, as in `cargo test`: the library (`oci_pull`), the program (`iguana_init`), or
//! the file of integration tests (`scenarios`). A page may name the whole path or its end.

use crate::source_tree;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The directories with tests.
const DIRECTORIES: &[&str] = &["crates", "tests", "xtask"];

/// A test of the source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTest {
    /// `program::module::tests::function`.
    pub path: String,
    /// Its source, up to the next test.
    pub source: String,
}

/// Whether a page means the test at `path` by `named`: the whole path, or the end of it.
pub fn is_named(path: &str, named: &str) -> bool {
    path.strip_suffix(named).is_some_and(|start| start.is_empty() || start.ends_with("::"))
}

/// All tests of the source tree.
///
/// # Errors
/// When a directory or a file cannot be read.
pub fn all() -> Result<Vec<NamedTest>> {
    let mut tests = Vec::new();
    for directory in DIRECTORIES {
        collect(Path::new(directory), &mut tests)?;
    }
    Ok(tests)
}

fn collect(directory: &Path, tests: &mut Vec<NamedTest>) -> Result<()> {
    let whole = source_tree().join(directory);
    let entries = fs::read_dir(&whole).with_context(|| format!("cannot read `{}`", whole.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(&path, tests)?;
        } else if let Some(module) = module(&path) {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            tests.extend(in_file(&module, &text));
        }
    }
    Ok(())
}

/// The path of the module in a source file, beginning with the test program.
fn module(file: &Path) -> Option<String> {
    let file = file.to_str()?.strip_suffix(".rs")?;
    let parts: Vec<&str> = file.split('/').collect();
    let (program, parts) = match parts[..] {
        ["crates", name, "src", ref rest @ ..] => (Some(name.replace('-', "_")), rest),
        ["tests", "src", ref rest @ ..] => (Some("iguana_lab".into()), rest),
        ["xtask", "src", ref rest @ ..] => (Some("xtask".into()), rest),
        ["crates", _, "tests", ref rest @ ..] | ["tests", "tests", ref rest @ ..] => (None, rest),
        _ => return None,
    };
    let parts = match parts {
        [rest @ .., "lib" | "main" | "mod"] => rest,
        _ => parts,
    };
    Some(program.into_iter().chain(parts.iter().map(ToString::to_string)).collect::<Vec<_>>().join("::"))
}

/// The tests of a file, of which those below `mod tests {` are in a module of their own.
fn in_file(module: &str, text: &str) -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    let mut module = module.to_owned();
    let mut is_expected = false;
    for line in text.lines() {
        match line.trim() {
            "mod tests {" => module.push_str("::tests"),
            "#[test]" => is_expected = true,
            line if is_expected && line.starts_with("fn ") => {
                let function = line["fn ".len()..].split('(').next().unwrap_or_default();
                tests.push(NamedTest { path: format!("{module}::{function}"), source: String::new() });
                is_expected = false;
            }
            _ => {}
        }
        if let Some(test) = tests.last_mut().filter(|_| !is_expected) {
            test.source.push_str(line);
            test.source.push('\n');
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_as_cargo_names_it() {
        let module = |file: &str| module(Path::new(file));
        for (file, expected) in [
            ("crates/oci-pull/src/lib.rs", "oci_pull"),
            ("crates/oci-pull/src/pull/mod.rs", "oci_pull::pull"),
            ("crates/oci-pull/src/pull/tests.rs", "oci_pull::pull::tests"),
            ("crates/iguana/tests/check.rs", "check"),
            ("tests/tests/scenarios/main.rs", "scenarios"),
            ("tests/tests/scenarios/jobs.rs", "scenarios::jobs"),
            ("tests/src/tools/cache.rs", "iguana_lab::tools::cache"),
            ("xtask/src/main.rs", "xtask"),
        ] {
            assert_eq!(module(file).as_deref(), Some(expected));
        }
        assert_eq!(module("crates/oci-pull/README.md"), None);
        assert_eq!(module("crates/events/examples/write.rs"), None);
    }

    #[test]
    fn a_test_has_its_path_and_its_source() {
        let text = "fn a() {}\n#[test]\n#[ignore = \"long\"]\nfn b() {\n    key: 1\n}\nmod tests {\n    #[test]\n    \
                    fn c() -> Result<()> {\n        other\n    }\n}\n";
        let tests = in_file("lib::x", text);
        let paths: Vec<&str> = tests.iter().map(|test| test.path.as_str()).collect();
        assert_eq!(paths, ["lib::x::b", "lib::x::tests::c"]);
        assert!(tests[0].source.contains("key: 1") && !tests[0].source.contains("other"));
        assert!(tests[1].source.contains("other"));
    }

    #[test]
    fn a_name_is_a_path_or_the_end_of_one() {
        for (named, expected) in
            [("lib::a::tests::x", true), ("a::tests::x", true), ("ests::x", false), ("b::a::tests::x", false)]
        {
            assert_eq!(is_named("lib::a::tests::x", named), expected, "{named}");
        }
    }

    #[test]
    fn all_tests_of_the_source_tree_are_found() {
        let tests = all().unwrap();
        let own = "iguana_lab::tools::test_names::tests::all_tests_of_the_source_tree_are_found";
        assert!(tests.len() > 1000 && tests.iter().any(|test| test.path == own));
    }
}
