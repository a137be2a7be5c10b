//! An image whose programs try to escape from a container.

use crate::image::Recipe;
use anyhow::{Result, ensure};
use serde_json::json;
use std::fs;

const ATTEMPTS: &str = include_str!("escapes.sh");
const CALLS: &str = include_str!("escapes.pl");
/// The least number of results; fewer mean that output was lost.
const AT_LEAST: usize = 40;

/// The image. Its command tries one method after another. `VICTIM` names a directory of the host with a file
/// `secret`.
pub fn recipe() -> Result<Recipe> {
    Recipe::busybox()?
        .program("/usr/bin/perl")?
        .program("/usr/bin/id")?
        .file("/set-user-id", 0o4755, fs::read("/usr/bin/id")?)?
        .file("/escapes.sh", 0o755, ATTEMPTS)?
        .file("/escapes.pl", 0o644, CALLS)?
        .file("/mnt/.keep", 0o644, "")?
        .device("/zero-of-the-image", 1, 5)
        .map(|recipe| recipe.set("Cmd", json!(["sh", "/escapes.sh"])))
}

/// Fails with every method that worked in one of `containers` containers.
pub fn assert_all_shut(said: &str, containers: usize) -> Result<()> {
    let tried = said.lines().filter_map(|line| line.split_once("? ")?.1.rsplit_once(" = "));
    let tried: Vec<(&str, &str)> = tried.collect();
    let open: Vec<String> = tried
        .iter()
        .filter(|(_, how)| how.trim() != "shut")
        .map(|(way, how)| format!("{way} = {how}"))
        .collect();
    ensure!(open.is_empty(), "open: {open:#?}");
    ensure!(tried.len() >= containers * AT_LEAST, "only {} attempts:\n{said}", tried.len());
    Ok(())
}
