//! Images made by umoci.

use super::Recipe;
use crate::process::{self, QUICK};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Makes the layout of `recipe`.
pub(super) fn make(recipe: &Recipe, layout: &Path) -> Result<()> {
    let image = format!("{}:latest", layout.display());
    let umoci = |words: &[&str]| {
        let mut command = Command::new("umoci");
        command.args(words);
        command
    };
    process::run(umoci(&["init", "--layout"]).arg(layout), QUICK)?;
    process::run(&mut umoci(&["new", "--image", &image]), QUICK)?;
    for directory in recipe.directories()? {
        process::run(umoci(&["insert", "--image", &image]).arg(directory).arg("/"), QUICK)?;
    }
    let mut config = umoci(&["config", "--image", &image]);
    for (flag, key) in [("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("env", "Env")] {
        config.args(recipe.words(key).iter().map(|word| format!("--config.{flag}={word}")));
    }
    process::run(&mut config, QUICK)?;
    Ok(())
}
