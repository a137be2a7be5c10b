//! Checks that every call that may block without a limit of its own is in the table of docs/internals/waits.md, and
//! that every row exists in the source. clippy's `disallowed-methods` cannot distinguish them from the other calls
//! that modules are exempt from.

use anyhow::{Context as _, Result, ensure};
use iguana_lab::source_tree;
use std::collections::BTreeSet;
use std::fs;

/// The page, and the text before its table.
const PAGE: &str = "docs/internals/waits.md";
const TABLE: &str = "| file | call | why it ends |";

/// The calls as they appear in the source.
const CALLS: &[&str] = &[
    "tcdrain(",
    "fs::sync",
    "fsync(",
    ".recv()",
    ".join()",
    ".wait()",
    "wait_with_output()",
    ".output()",
    "command.status()",
    ".status()?",
    ".status().context(",
    "thread::park()",
    "poll(",
    "unmount(",
    "waitpid(",
    "process::wait(",
    "waitid(",
    "changed.wait(",
    "= wait(",
    "match wait(",
];

/// Crates whose waits could block a boot or a command.
const CRATES: &[&str] = &[
    "config",
    "exchange",
    "fetch",
    "iguana",
    "iguana-init",
    "oci-layer",
    "oci-pull",
    "oci-trust",
    "runtime",
    "sys",
    "untrusted-fs",
];

/// The exempt module: it implements waits, and each has a limit.
const EXEMPT: &str = "crates/iguana-init/src/bounded.rs";

/// A file, and a call in it.
type Wait = (String, String);

/// Compares the source with the table.
pub(crate) fn check(files: &[String]) -> Result<()> {
    let is_meant = |file: &&String| {
        let of_crate = |name: &&str| file.starts_with(&format!("crates/{name}/src/"));
        CRATES.iter().any(of_crate)
            && !file.ends_with("tests.rs")
            && *file != EXEMPT
            && !file.contains("/tests/")
    };
    let mut found = BTreeSet::new();
    for file in files.iter().filter(is_meant) {
        let text = fs::read_to_string(source_tree().join(file)).unwrap_or_default();
        found.extend(waits(&text).map(|call| (file.clone(), call.to_owned())));
    }
    let page = fs::read_to_string(source_tree().join(PAGE)).with_context(|| format!("no `{PAGE}`"))?;
    let listed = rows(&page);
    let names = |waits: Vec<&Wait>| -> Vec<String> {
        waits.iter().map(|(file, call)| format!("| `{file}` | `{call}` |")).collect()
    };
    let unlisted = names(found.difference(&listed).collect());
    ensure!(
        unlisted.is_empty(),
        "these may wait without a limit:\n  {}\n  hint: use `bounded` of iguana-init, or add a row to {PAGE} that says why it ends",
        unlisted.join("\n  ")
    );
    let gone = names(listed.difference(&found).collect());
    ensure!(gone.is_empty(), "{PAGE} lists waits that no longer exist:\n  {}", gone.join("\n  "));
    Ok(())
}

/// The calls in a source file, up to its tests.
fn waits(text: &str) -> impl Iterator<Item = &'static str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines =
        code.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with("use "));
    let lines: Vec<&str> = lines.collect();
    CALLS.iter().copied().filter(move |call| lines.iter().any(|line| line.contains(call)))
}

fn rows(page: &str) -> BTreeSet<Wait> {
    let table = page.split(TABLE).nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
        Some((cells.next()?, cells.next()?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_matches_the_sources() {
        check(&crate::conventions::tracked_files(&["*.rs"]).unwrap()).unwrap();
    }

    #[test]
    fn a_wait_is_found_and_a_row_is_read() {
        let text = "use x::unmount;\nfn a() {\n    // .join()\n    receiver.recv();\n}\n#[cfg(test)]\nmod tests {\n    a.join();\n}\n";
        assert_eq!(waits(text).collect::<Vec<_>>(), [".recv()"]);
        let page =
            format!("{TABLE}\n| --- | --- | --- |\n| `a.rs` | `.recv()` | soon |\n\n| `b.rs` | `c` | d |\n");
        assert_eq!(rows(&page), BTreeSet::from([("a.rs".into(), ".recv()".into())]));
    }
}
