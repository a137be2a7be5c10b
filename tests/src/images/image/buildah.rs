//! Images made by buildah, in a store that is removed with the recipe.

use super::Recipe;
use crate::process::{self, QUICK};
use anyhow::Result;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes the layout of `recipe`.
pub(super) fn make(recipe: &Recipe, layout: &Path) -> Result<()> {
    let store = recipe.home.path().join("store");
    fs::create_dir(&store)?;
    let policy = store.join("policy.json");
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
    let buildah = |words: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        command.args(["--storage-driver", "vfs"]).args(words);
        command
    };
    let container = process::run(&mut buildah(&["from", "scratch"]), QUICK)?;
    let container = container.trim();
    for directory in recipe.directories()? {
        process::run(buildah(&["copy", container]).arg(directory).arg("/"), QUICK)?;
    }
    let mut config = buildah(&["config"]);
    config.args(recipe.words("Env").iter().map(|word| format!("--env={word}")));
    config.arg("--cmd").arg(json!(recipe.words("Cmd")).to_string());
    config.arg("--entrypoint").arg(json!(recipe.words("Entrypoint")).to_string());
    process::run(config.arg(container), QUICK)?;
    let target = format!("oci:{}:latest", layout.display());
    process::run(
        buildah(&["commit", "-q", "--signature-policy"]).arg(policy).args([container, &target]),
        QUICK,
    )?;
    Ok(())
}
