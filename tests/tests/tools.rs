//! The lab itself, without a VM: what the scenarios rely on.

use anyhow::Result;
use iguana_lab::authority::Authority;
use iguana_lab::image::{Maker, Packing, Recipe};
use iguana_lab::process::{self, QUICK};
use iguana_lab::registry::Registry;
use std::process::Command;

fn manifest(registry: &Registry, name: &str) -> Result<String> {
    let here = registry.address().replace(iguana_lab::HOST, "127.0.0.1");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"]);
    process::run(skopeo.arg(format!("docker://{here}/{name}:latest")), QUICK)
}

#[test]
fn images_of_every_maker_are_taken_by_a_registry() -> Result<()> {
    let registry = Registry::plain()?;
    for maker in [Maker::Spec, Maker::Umoci, Maker::Buildah] {
        registry.push(&Recipe::script("echo hello")?.make(maker)?, "hello")?;
        assert!(manifest(&registry, "hello")?.contains("tar+gzip"), "{maker:?}");
    }
    Ok(())
}

#[test]
fn layers_may_be_packed_by_zstd() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&Recipe::script("echo hello")?.packing(Packing::Zstd).make(Maker::Spec)?, "made")?;
    assert!(manifest(&registry, "made")?.contains("tar+zstd"));
    registry.push_as_zstd(&Recipe::script("echo hello")?.make(Maker::Umoci)?, "repacked")?;
    assert!(manifest(&registry, "repacked")?.contains("tar+zstd"));
    Ok(())
}

#[test]
fn an_image_for_two_architectures_stays_one() -> Result<()> {
    let registry = Registry::tls(&Authority::named("lab")?)?;
    let other = Recipe::script("exec wrong")?.make(Maker::Spec)?;
    let image = Recipe::script("echo hello")?.make(Maker::Spec)?.beside_arm64(&other)?;
    registry.push_all(&image, "hello")?;
    assert!(manifest(&registry, "hello")?.contains("arm64"));
    Ok(())
}
