//! The parts of docs/installers.md that are made from the table of installers.

use super::{INSTALLERS, Installer, Outcome};
use crate::layout::Firmware;
use crate::source_tree;
use anyhow::{Context, Result, anyhow, ensure};
use std::fs;

/// The page.
const PAGE: &str = "docs/installers.md";

/// A row of the table: the installer's name, and what became of it.
pub type Row<'a> = (&'a str, Result<Outcome>);

/// The head of the table.
const HEAD: &str = "| installer | maker | version | firmware | s | result | glue |\n\
    | --- | --- | --- | --- | --- | --- | --- |\n";

/// The table of the page with new rows in the place of older ones of the same installers.
///
/// # Errors
/// When the page cannot be read.
pub fn table(rows: &[Row]) -> Result<String> {
    Ok(merged(&page()?, rows))
}

fn merged(page: &str, rows: &[Row]) -> String {
    let row_of = |installer: &Installer| {
        let new =
            rows.iter().find(|(name, _)| *name == installer.name).map(|(_, outcome)| row(installer, outcome));
        let old = || page.lines().find(|line| line.starts_with(&start(installer.name))).map(str::to_owned);
        let none = || row(installer, &Err(anyhow!("not tried yet")));
        format!("{}\n", new.or_else(old).unwrap_or_else(none))
    };
    format!("{HEAD}{}", INSTALLERS.iter().map(row_of).collect::<String>())
}

/// The beginning of an installer's row.
fn start(name: &str) -> String {
    format!("| {name} | ")
}

fn row(installer: &Installer, outcome: &Result<Outcome>) -> String {
    let firmware = match installer.firmware {
        Firmware::SeaBios => "BIOS",
        Firmware::Ovmf => "UEFI",
    };
    let (version, seconds, result) = match outcome {
        Ok(outcome) => (outcome.version.as_str(), format!("{:.0}", outcome.seconds), outcome.result.clone()),
        Err(error) => ("", String::new(), format!("**no**: {}", first_line(error))),
    };
    let cells = [installer.maker, version, firmware, &seconds, &result.replace('|', "\\|")].join(" | ");
    format!("{}{cells} | {} |", start(installer.name), installer.size_of_glue())
}

fn page() -> Result<String> {
    fs::read_to_string(source_tree().join(PAGE)).with_context(|| format!("`{PAGE}`"))
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// The scripts around the installers, each in a section.
///
/// # Errors
/// When one cannot be read.
pub fn glue() -> Result<String> {
    let mut text = String::new();
    let mut shown = Vec::new();
    for installer in INSTALLERS.iter().filter(|installer| installer.is_of_another_maker()) {
        if !shown.contains(&installer.example) {
            shown.push(installer.example);
            text += &format!("### {}\n\n```sh\n{}```\n\n", installer.name, installer.glue()?);
        }
    }
    Ok(text)
}

/// Replaces what is between the markers `NAME` in the page.
///
/// # Errors
/// When the page cannot be read or written, or has no such markers.
pub fn write(name: &str, content: &str) -> Result<()> {
    let path = source_tree().join(PAGE);
    fs::write(&path, replaced(&page()?, name, content)?).with_context(|| format!("`{PAGE}`"))
}

fn replaced(page: &str, name: &str, content: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) =
        page.split_once(&begin).with_context(|| format!("`{PAGE}` has no marker `{name}`"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("`{PAGE}` has no end of `{name}`"))?;
    ensure!(!after.contains(&begin), "`{PAGE}` has the marker `{name}` twice");
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", content.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::super::MOST_GLUE;
    use super::*;

    #[test]
    fn the_scripts_around_installers_are_short_and_shown() {
        for installer in INSTALLERS.iter().filter(|installer| installer.is_of_another_maker()) {
            let lines = installer.glue().unwrap().lines().count();
            assert!(lines <= MOST_GLUE, "`{}` needs {lines} lines", installer.example);
        }
        let page = page().unwrap();
        let wanted = replaced(&page, "glue", &glue().unwrap()).unwrap();
        assert!(page == wanted, "`cargo xtask installers --glue` updates {PAGE}");
    }

    #[test]
    fn every_installer_is_in_the_page() {
        let page = page().unwrap();
        for installer in INSTALLERS {
            assert!(
                page.contains(&format!("\n{}", start(installer.name))),
                "no row for `{}`",
                installer.name
            );
        }
    }

    #[test]
    fn a_new_row_replaces_the_old_one() {
        let old = format!("a\n{}old |\n{}kept |\n", start(INSTALLERS[0].name), start(INSTALLERS[1].name));
        let table = merged(&old, &[(INSTALLERS[0].name, Err(anyhow!("it is\nbroken")))]);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(rows.len(), INSTALLERS.len());
        assert!(rows[0].contains("**no**: it is |"), "{}", rows[0]);
        assert!(rows[1].ends_with("| kept |"), "{}", rows[1]);
        assert!(rows[2].contains("**no**: not tried yet |"), "{}", rows[2]);
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        let new = replaced(page, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n");
        assert_eq!(replaced(&new, "x", "new").unwrap(), new);
        assert!(replaced(page, "y", "").is_err());
    }
}
