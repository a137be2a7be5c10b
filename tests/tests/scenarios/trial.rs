//! `iguana try` with the examples that the documentation begins with.

use anyhow::{Context, Result};
use iguana_lab::image::Recipe;
use iguana_lab::initrd;
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::{program, source_tree};
use serde_json::json;
use std::fs;
use std::process::Command;

/// The registry in the examples.
const EXAMPLE_REGISTRY: &str = "registry.example.com";

fn example(name: &str) -> Result<String> {
    let file = source_tree().join("examples").join(name);
    fs::read_to_string(&file).with_context(|| format!("`{}`", file.display()))
}

#[test]
fn the_hello_example_greets() -> Result<()> {
    let registry = Registry::plain()?;
    let recipe = Recipe::busybox()?.file("/hello.sh", 0o755, example("hello/hello.sh")?)?;
    registry.push_recipe(recipe.set("Cmd", json!(["/hello.sh"])), "hello")?;
    let home = tempfile::tempdir()?;
    let workflow = home.path().join("workflow.yaml");
    fs::write(&workflow, example("hello/workflow.yaml")?.replace(EXAMPLE_REGISTRY, &registry.address()))?;

    let mut trial = Command::new(program("iguana"));
    trial.arg("try").arg(&workflow).args(initrd::options(&Kernel::debian(Flavour::Cloud)?)?);
    let said = process::run(trial.args(["--memory", "256", "--disk", "64M"]), LONG)?;
    assert!(said.contains("hello from ") && said.contains("handover: power off"), "{said}");
    Ok(())
}

#[test]
fn without_qemu_it_says_what_to_install() -> Result<()> {
    let mut trial = Command::new(program("iguana"));
    trial.arg("try").arg(source_tree().join("examples/hello/workflow.yaml")).env("PATH", "/nowhere");
    let error = process::run(&mut trial, QUICK).unwrap_err().to_string();
    assert!(error.contains("hint:") && error.contains("qemu-system-x86"), "{error}");
    Ok(())
}
