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
fn the_hello_example_works() -> Result<()> {
    let mut trial = trial("hello.sh", &example("hello/hello.sh")?, &["--disk", "64M"])?;
    let said = process::run(&mut trial.command, LONG)?;
    assert!(said.contains("hello from ") && said.contains("handover: power off"), "{said}");
    Ok(())
}

#[test]
fn a_failed_workflow_is_reported_by_exit_status_and_as_json() -> Result<()> {
    let mut trial = trial("fails.sh", "echo its last words; exit 3", &["--output", "json"])?;
    let ended = process::end(&mut trial.command, LONG)?;
    let console = ended.errors;
    assert_eq!(ended.status.code(), Some(4), "{console}");
    assert!(console.contains("iguana: error: the job `hello` failed"), "{console}");
    let result: serde_json::Value = serde_json::from_str(&ended.output)?;
    assert_eq!(result["failure"]["job"], "hello", "{result:#}");
    assert_eq!(result["failure"]["output"], json!(["its last words"]));
    assert_eq!(result["jobs"][0]["outcome"], "failure");
    assert!(result["decision"].as_str().is_some_and(|text| text.contains("power off")), "{result:#}");
    Ok(())
}

/// `iguana try` with the example, whose image runs this script, and what it needs.
struct Trial {
    command: Command,
    _registry: Registry,
    _home: tempfile::TempDir,
}

fn trial(name: &str, script: &str, options: &[&str]) -> Result<Trial> {
    let registry = Registry::plain()?;
    let recipe = Recipe::busybox()?.file(&format!("/{name}"), 0o755, script)?;
    let words = if script.starts_with("#!") {
        vec![format!("/{name}")]
    } else {
        vec!["sh".into(), format!("/{name}")]
    };
    registry.push_recipe(recipe.set("Cmd", json!(words)), "hello")?;
    let home = tempfile::tempdir()?;
    let workflow = home.path().join("workflow.yaml");
    fs::write(&workflow, example("hello/workflow.yaml")?.replace(EXAMPLE_REGISTRY, &registry.address()))?;
    let mut command = Command::new(program("iguana"));
    command.arg("try").arg(&workflow).args(initrd::options(&Kernel::debian(Flavour::Cloud)?)?);
    command.args(["--memory", "256"]).args(options);
    Ok(Trial { command, _registry: registry, _home: home })
}

#[test]
fn without_qemu_it_says_what_to_install() -> Result<()> {
    let mut trial = Command::new(program("iguana"));
    trial.arg("try").arg(source_tree().join("examples/hello/workflow.yaml")).env("PATH", "/nowhere");
    let error = process::run(&mut trial, QUICK).unwrap_err().to_string();
    assert!(error.contains("hint:") && error.contains("qemu-system-x86"), "{error}");
    Ok(())
}
