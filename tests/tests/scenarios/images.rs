//! Images made by several tools, with two compressions, for several architectures.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::image::{Maker, Packing, Recipe};
use iguana_lab::registry::{self, Registry};
use iguana_lab::scenario::Scenario;

/// An image that prints its name, in which an upper layer replaces a file of a lower one.
fn recipe(name: &str) -> Result<Recipe> {
    Recipe::script(&format!("echo \"{name}: $(cat /word)\""))?
        .file("/word", 0o644, "old\n")?
        .file("/word", 0o644, "new\n")
}

#[test]
fn every_tool_and_compression() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&recipe("spec-gzip")?.make(Maker::Spec)?, "spec-gzip")?;
    registry.push(&recipe("spec-zstd")?.packing(Packing::Zstd).make(Maker::Spec)?, "spec-zstd")?;
    registry.push(&recipe("umoci-gzip")?.make(Maker::Umoci)?, "umoci-gzip")?;
    registry.push(&recipe("buildah-gzip")?.make(Maker::Buildah)?, "buildah-gzip")?;
    registry.push_as_zstd(&recipe("skopeo-zstd")?.make(Maker::Buildah)?, "skopeo-zstd")?;
    registry.push_as_docker(&recipe("skopeo-docker")?.make(Maker::Umoci)?, "skopeo-docker")?;
    let names = ["spec-gzip", "spec-zstd", "umoci-gzip", "buildah-gzip", "skopeo-zstd", "skopeo-docker"];
    let references = names.map(|name| format!("REGISTRY/{name}")).join(",");
    let mut boot = Scenario::new()?
        .registry(registry)
        .image("last", Recipe::script(POWER_OFF)?)?
        .append(format!("rd.iguana.containers={references},REGISTRY/last"))
        .boot()?;
    for name in names {
        boot.expect(&format!("{name}: new"))?;
    }
    boot.ends()?;
    Ok(())
}

#[test]
fn the_image_for_this_architecture_is_chosen() -> Result<()> {
    let other = Recipe::script("echo wrong architecture")?.make(Maker::Spec)?;
    let image = Recipe::script(&format!("echo right architecture\n{POWER_OFF}"))?.make(Maker::Spec)?;
    let mut boot = Scenario::new()?
        .made_image("both", &image.beside_arm64(&other)?)?
        .append("rd.iguana.containers=REGISTRY/both")
        .boot()?;
    boot.expect("right architecture")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn whiteouts_and_odd_files() -> Result<()> {
    let checks = format!(
        "
        [ ! -e /gone ] && [ ! -e /emptied/old ] && [ -e /emptied/new ] && echo whiteouts hold
        [ \"$(cat /link)\" = target ] && echo links hold
        {POWER_OFF}"
    );
    let recipe = Recipe::script(&checks)?
        .file("/gone", 0o644, "x")?
        .file("/.wh.gone", 0o644, "")?
        .file("/emptied/old", 0o644, "x")?
        .file("/emptied/.wh..wh..opq", 0o644, "")?
        .file("/emptied/new", 0o644, "x")?
        .file("/target", 0o644, "target\n")?
        .link("/link", "target")?;
    let mut boot = Scenario::new()?.job(recipe)?.boot()?;
    boot.expect_all(&["whiteouts hold", "links hold"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_registry_may_demand_credentials() -> Result<()> {
    let registry = Registry::demanding_a_password()?;
    let (name, password) = registry::CREDENTIALS;
    let workflow = format!(
        "
jobs:
  wrong: {{container: {{image: REGISTRY/end, credentials: {{username: {name}, password: wrong}}}}}}
  none: {{container: REGISTRY/end}}
  right:
    container: &right {{image: REGISTRY/end, credentials: {{username: {name}, password: '${{{{ cmdline.secret }}}}'}}}}
    services: {{beside: {{<<: *right, command: sleep 99}}}}
"
    );
    let mut boot = Scenario::new()?
        .registry(registry)
        .image("end", Recipe::script(POWER_OFF)?)?
        .workflow(workflow)
        .append(format!("\"secret={password}\""))
        .boot()?;
    boot.expect_all(&[
        "job wrong: failed: cannot pull the image",
        "job none: failed: cannot pull the image",
        "requires a name and a password",
        "job right: succeeded",
        "handover: power off",
    ])?;
    assert!(!boot.ends()?.contains(&format!("iguana: {password}")));
    Ok(())
}
