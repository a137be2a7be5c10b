//! Tests of the lab itself, without a VM.

use anyhow::{Context, Result};
use events::{Event, Record};
use iguana_lab::authority::Authority;
use iguana_lab::image::{Maker, Packing, Recipe};
use iguana_lab::process::{self, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::{program, source_tree};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

fn manifest(registry: &Registry, name: &str) -> Result<String> {
    let here = registry.address().replace(iguana_lab::HOST, "127.0.0.1");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"]);
    process::run(skopeo.arg(format!("docker://{here}/{name}:latest")), QUICK)
}

#[test]
fn a_registry_accepts_images_of_every_tool() -> Result<()> {
    let registry = Registry::plain()?;
    for maker in [Maker::Spec, Maker::Umoci, Maker::Buildah] {
        registry.push(&Recipe::script("echo hello")?.make(maker)?, "hello")?;
        assert!(manifest(&registry, "hello")?.contains("tar+gzip"), "{maker:?}");
    }
    Ok(())
}

#[test]
fn layers_may_be_compressed_by_zstd() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&Recipe::script("echo hello")?.packing(Packing::Zstd).make(Maker::Spec)?, "made")?;
    assert!(manifest(&registry, "made")?.contains("tar+zstd"));
    registry.push_as_zstd(&Recipe::script("echo hello")?.make(Maker::Umoci)?, "repacked")?;
    assert!(manifest(&registry, "repacked")?.contains("tar+zstd"));
    Ok(())
}

#[test]
fn a_pushed_multi_architecture_image_keeps_its_index() -> Result<()> {
    let registry = Registry::tls(&Authority::named("lab")?)?;
    let other = Recipe::script("exec wrong")?.make(Maker::Spec)?;
    let image = Recipe::script("echo hello")?.make(Maker::Spec)?.beside_arm64(&other)?;
    registry.push_all(&image, "hello")?;
    assert!(manifest(&registry, "hello")?.contains("arm64"));
    Ok(())
}

/// Reads workflows as YAML 1.2, and prints for each whether the schema, the first argument, accepts it.
const VALIDATE: &str = r#"
import json, re, sys, yaml
from jsonschema import Draft202012Validator

class Core(yaml.SafeLoader):
    yaml_implicit_resolvers = {}

def implicit(tag, pattern, first):
    Core.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile("^(?:" + pattern + ")$"), first)

implicit("null", "~|null|Null|NULL|", ["~", "n", "N", ""])
implicit("bool", "true|True|TRUE|false|False|FALSE", list("tTfF"))
implicit("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"))
implicit("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789"))
implicit("merge", "<<", ["<"])
Core.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value, 0 if "x" in node.value or "o" in node.value else 10))

def as_json(value):
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value

def refusal(path):
    try:
        document = as_json(yaml.load(open(path, encoding="utf-8-sig"), Core))
    except (yaml.YAMLError, TypeError, UnicodeError) as error:
        return "not YAML: " + str(error)
    errors = validator.iter_errors(document)
    return "; ".join(error.json_path + ": " + error.message for error in errors)

schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
print(json.dumps([refusal(path) for path in sys.argv[2:]]))
"#;

fn workflows(directory: &str) -> Result<Vec<PathBuf>> {
    let directory = source_tree().join(directory);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("`{}`", directory.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect())
}

/// The objections of a third-party validator to each workflow; empty if it is accepted.
fn refusals(workflows: &[PathBuf]) -> Result<Vec<String>> {
    refusals_of("workflow.schema.json", workflows)
}

/// The same with a schema in `docs/` and any documents.
fn refusals_of(schema: &str, documents: &[PathBuf]) -> Result<Vec<String>> {
    let mut python = Command::new("python3");
    python.args(["-c", VALIDATE]).arg(source_tree().join("docs").join(schema)).args(documents);
    Ok(serde_json::from_str(&process::run(&mut python, QUICK)?)?)
}

#[test]
fn the_schema_of_events_accepts_exactly_the_events() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut lines = Vec::new();
    for event in Event::examples() {
        lines.push(Record::new(1.5, SystemTime::now(), event).line()?);
    }
    let right = lines.len();
    let stage = lines.iter().find(|line| line.contains("\"stage-end\"")).context("no stage")?.clone();
    lines.push(stage.replace("\"success\"", "\"perhaps\""));
    lines.push(stage.replace("stage-end", "stage-pause"));
    lines.push(stage.replace("\"seconds\":", "\"minutes\":"));
    lines.push(stage.replace("\"uptime\":1.5", "\"uptime\":\"soon\""));
    let write = |(number, line): (usize, &String)| {
        let path = home.path().join(format!("{number}.json"));
        std::fs::write(&path, line).map(|()| path)
    };
    let paths: Vec<PathBuf> = lines.iter().enumerate().map(write).collect::<Result<_, _>>()?;
    let refusals = refusals_of("events.schema.json", &paths)?;
    for (number, (line, refusal)) in lines.iter().zip(&refusals).enumerate() {
        assert_eq!(refusal.is_empty(), number < right, "{line}: {refusal}");
    }
    Ok(())
}

#[test]
fn the_schema_accepts_every_valid_workflow() -> Result<()> {
    let mut paths = workflows("crates/iguana/tests/valid")?;
    for directory in ["examples", "examples/installers"] {
        for example in std::fs::read_dir(source_tree().join(directory))? {
            let example = example?;
            if example.file_type()?.is_dir() {
                paths.extend(workflows(&format!("{directory}/{}", example.file_name().display()))?);
            }
        }
    }
    assert!(paths.len() > 12);
    for (path, refusal) in paths.iter().zip(refusals(&paths)?) {
        assert!(refusal.is_empty(), "{}: {refusal}", path.display());
    }
    Ok(())
}

#[test]
fn the_schema_refuses_every_workflow_with_a_wrong_structure() -> Result<()> {
    let mut paths = Vec::new();
    for path in workflows("crates/iguana/tests/invalid")? {
        paths.extend(is_of_a_wrong_shape(&path)?.then_some(path));
    }
    assert!(paths.len() > 30);
    for (path, refusal) in paths.iter().zip(refusals(&paths)?) {
        assert!(!refusal.is_empty(), "{} is taken", path.display());
    }
    Ok(())
}

/// Whether one of the mistakes can be detected by a schema.
fn is_of_a_wrong_shape(workflow: &Path) -> Result<bool> {
    let mut check = Command::new(program("iguana"));
    let output = check.args(["check", "--format", "json"]).arg(workflow).output()?;
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let findings = document["files"][0]["findings"].as_array().context("no findings")?;
    let structural = ["type", "unknown-key", "missing-key", "id"];
    Ok(findings.iter().any(|finding| structural.iter().any(|rule| finding["rule"] == *rule)))
}
