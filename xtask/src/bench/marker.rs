//! The benchmark's images in three sizes. Each prints when its first process runs.

use anyhow::{Context, Result};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::payload::{Debian, Suite};
use iguana_lab::source_tree;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// The size of an image. The figures are from one day; Debian grows slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Busybox: 1 MB compressed, 2 MB unpacked.
    Tiny,
    /// A minimal Debian: 60 MB compressed, 170 MB unpacked.
    Medium,
    /// That Debian and four layers with programs: 250 MB compressed, 700 MB unpacked.
    Large,
}

/// The packages that each layer of the large image adds.
const LAYERS: &[&str] = &[
    "python3 perl ca-certificates curl",
    "gcc g++ make",
    "git vim rsync openssh-client",
    "gdb btrfs-progs xfsprogs lvm2 mdadm parted cryptsetup-bin",
];

/// The image of that size.
pub(crate) fn image(size: Size) -> Result<Image> {
    let base = match size {
        Size::Tiny => Recipe::busybox()?,
        Size::Medium => with_layers(1)?,
        Size::Large => with_layers(LAYERS.len() + 1)?,
    };
    let file = source_tree().join("bench/marker.sh");
    let marker = fs::read(&file).with_context(|| format!("`{}`", file.display()))?;
    base.file("/marker.sh", 0o755, marker)?.set("Cmd", json!(["/bin/sh", "/marker.sh"])).make(Maker::Spec)
}

/// The tar file of one layer of the large image; number 0 is the lowest.
pub(crate) fn layer(number: usize) -> Result<PathBuf> {
    Ok(layers().products()?.join(format!("layer-{number}.tar")))
}

fn with_layers(count: usize) -> Result<Recipe> {
    (0..count).try_fold(Recipe::empty()?, |recipe, number| Ok(recipe.tar(&layer(number)?)))
}

/// A Debian that is extended layer by layer. Each layer has the files that have changed.
fn layers() -> Debian {
    let mut hooks = vec![take_layer(0, "")];
    for (number, packages) in LAYERS.iter().enumerate() {
        hooks.push(format!(
            "touch \"$PRODUCTS/stamp\"; sleep 1; APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get -qq -y \
             --no-install-recommends -o DPkg::Chroot-Directory=\"$1\" install {packages}"
        ));
        hooks.push(take_layer(number + 1, "-cnewer \"$PRODUCTS/stamp\""));
    }
    Debian {
        name: "layers",
        suite: Suite::Bookworm,
        packages: "mount",
        recommended: false,
        hooks,
        inputs: Vec::new(),
    }
}

fn take_layer(number: usize, which: &str) -> String {
    format!(
        "cd \"$1\" && find . -xdev {which} ! -path './var/cache/apt/*' ! -path './var/lib/apt/lists/*' \
         ! -path './dev/*' ! -type s -print0 | sort -z | tar --null --no-recursion --files-from=- \
         --numeric-owner -cf \"$PRODUCTS/layer-{number}.tar\""
    )
}
