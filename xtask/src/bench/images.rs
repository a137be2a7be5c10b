//! The images for the benchmark of pulls.

use super::marker::{self, Size};
use anyhow::{Context, Result};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::lab_directory;
use iguana_lab::registry::Registry;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Layers of the image with many layers.
const LAYERS: usize = 40;
/// The image with many small files: number of files, and bytes of each.
const FILES: usize = 50_000;
const FILE_BYTES: usize = 700;

/// The kinds of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageKind {
    Tiny,
    Medium,
    Large,
    LargeZstd,
    ManyLayers,
    SmallFiles,
}

/// An image in the registry.
pub(super) struct Pushed {
    pub(super) image: Image,
    /// Its reference on this host.
    pub(super) reference: String,
}

impl ImageKind {
    pub(super) const ALL: [ImageKind; 6] = [
        ImageKind::Tiny,
        ImageKind::Medium,
        ImageKind::Large,
        ImageKind::LargeZstd,
        ImageKind::ManyLayers,
        ImageKind::SmallFiles,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            ImageKind::Tiny => "tiny",
            ImageKind::Medium => "medium",
            ImageKind::Large => "large",
            ImageKind::LargeZstd => "large-zstd",
            ImageKind::ManyLayers => "many-layers",
            ImageKind::SmallFiles => "small-files",
        }
    }

    pub(super) fn named(name: &str) -> Option<ImageKind> {
        ImageKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn describe(self) -> String {
        match self {
            ImageKind::Tiny => "Tiny: busybox, 2 layers, gzip".into(),
            ImageKind::Medium => "Medium: a minimal Debian, 2 layers, gzip".into(),
            ImageKind::Large => "Large: a Debian with compilers, 6 layers, gzip".into(),
            ImageKind::LargeZstd => "The same, zstd".into(),
            ImageKind::ManyLayers => format!("Many layers: the medium one's bytes in {LAYERS} layers, gzip"),
            ImageKind::SmallFiles => format!("Small files: {FILES} of {FILE_BYTES} bytes in one layer, gzip"),
        }
    }

    pub(super) fn push(self, registry: &Registry) -> Result<Pushed> {
        let image = self.image()?;
        match self {
            ImageKind::LargeZstd => registry.push_as_zstd(&image, self.name())?,
            _ => registry.push(&image, self.name())?,
        };
        self.check(&registry.layer_types(self.name())?)?;
        let (_, port) = registry
            .address()
            .rsplit_once(':')
            .map(|(host, port)| (host.to_owned(), port.to_owned()))
            .context("no port")?;
        Ok(Pushed { image, reference: format!("127.0.0.1:{port}/{}", self.name()) })
    }

    /// Fails unless the layers are what the heading of the row says.
    fn check(self, types: &[String]) -> Result<()> {
        let (ending, count) = match self {
            ImageKind::Tiny | ImageKind::Medium | ImageKind::SmallFiles => ("+gzip", 2),
            ImageKind::Large => ("+gzip", 6),
            ImageKind::LargeZstd => ("+zstd", 6),
            ImageKind::ManyLayers => ("+gzip", LAYERS),
        };
        let is_right = types.len() == count && types.iter().all(|it| it.ends_with(ending));
        anyhow::ensure!(is_right, "`{}` was pushed with the layers {types:?}", self.name());
        Ok(())
    }

    fn image(self) -> Result<Image> {
        match self {
            ImageKind::Tiny => marker::image(Size::Tiny),
            ImageKind::Medium => marker::image(Size::Medium),
            ImageKind::Large | ImageKind::LargeZstd => marker::image(Size::Large),
            ImageKind::ManyLayers => many_layers(),
            ImageKind::SmallFiles => small_files(),
        }
    }
}

fn many_layers() -> Result<Image> {
    let tar = marker::layer(0)?;
    let bytes = fs::read(&tar)?;
    let size = bytes.len().div_ceil(LAYERS - 1);
    let pieces = bytes.chunks(size).enumerate();
    let recipe = pieces.fold(Recipe::busybox(), |recipe, (number, piece)| {
        recipe?.file(&format!("/pieces/{number}"), 0o644, piece)
    });
    recipe?.make(Maker::Spec)
}

/// The files have hexadecimal numbers, which compress to a half. Words would compress too well, random bytes not at
/// all.
fn small_files() -> Result<Image> {
    let directory = lab_directory("bench")?.join("small-files");
    let tar = directory.with_extension("tar");
    if !tar.exists() {
        fill(&directory)?;
        let status = Command::new("tar").arg("-C").arg(&directory).arg("-cf").arg(&tar).arg(".").status()?;
        anyhow::ensure!(status.success(), "tar ended with {status}");
    }
    Recipe::busybox()?.tar(&tar).make(Maker::Spec)
}

fn fill(directory: &Path) -> Result<()> {
    let mut state = 1_u64;
    for number in 0..FILES {
        let place = directory.join(format!("usr/share/many/{}", number / 500));
        fs::create_dir_all(&place)?;
        let mut content = String::new();
        while content.len() < FILE_BYTES {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            content += &format!("{state:016x}");
        }
        fs::write(place.join(number.to_string()), &content[..FILE_BYTES])?;
    }
    Ok(())
}
