//! The images of the examples, made from their Containerfiles. The base is a Debian by mmdebstrap with the packages
//! that the Containerfile installs, because Docker Hub is not part of the lab.

use super::payloads::{self, Payload};
use crate::image::{Packing, Recipe};
use crate::payload::{Debian, Suite};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The product with a line `PACKAGE VERSION` for each package.
const VERSIONS: &str = "versions";

/// What the examples' Containerfiles say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Containerfile {
    suite: String,
    packages: Vec<String>,
    /// Sources, target, and whether archives are unpacked.
    copies: Vec<(Vec<String>, String, bool)>,
    command: String,
}

/// The versions of the packages in a container.
pub(super) struct Versions(String);

impl Versions {
    pub(super) fn of(&self, package: &str) -> Result<String> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(&format!("{package} ")));
        Ok(line.with_context(|| format!("the container has no package `{package}`"))?.to_owned())
    }
}

impl Containerfile {
    /// Reads the last stage.
    ///
    /// # Errors
    /// When an instruction is not one that the examples use.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let joined = text.replace("\\\n", " ");
        let mut file = Self::default();
        let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
            let words = || rest.split_whitespace().filter(|word| !word.starts_with('-')).map(str::to_owned);
            match instruction {
                "FROM" => file = Self { suite: suite(rest), ..Self::default() },
                "RUN" => file.packages.extend(installed(rest)),
                "COPY" | "ADD" => {
                    let mut sources: Vec<String> = words().collect();
                    let target = sources.pop().context("COPY without a target")?;
                    file.copies.push((sources, target, instruction == "ADD"));
                }
                "CMD" => rest.clone_into(&mut file.command),
                _ => bail!("the lab does not know `{line}`"),
            }
        }
        ensure!(!file.command.is_empty(), "no CMD");
        Ok(file)
    }

    /// The image, with files of `directory` and those that the lab puts beside them.
    pub(super) fn recipe(&self, directory: &Path, beside: &[(&str, Payload)]) -> Result<(Recipe, Versions)> {
        let (base, versions) = self.base()?;
        let mut recipe = Recipe::empty()?.packing(Packing::Zstd).tar(&base);
        for (sources, target, is_unpacked) in &self.copies {
            for source in sources {
                let name = source.rsplit('/').next().unwrap_or(source);
                let lab = beside.iter().find(|(beside, _)| *beside == name);
                let file = lab.map_or_else(|| Ok(directory.join(name)), |(_, payload)| payload.file())?;
                recipe = if *is_unpacked && file.extension().is_some_and(|it| it == "tar") {
                    recipe.tar(&payloads::below(&file, target)?)
                } else {
                    put(recipe, &file, &path(target, name))?
                };
            }
        }
        let command: Value = serde_json::from_str(&self.command).context("CMD")?;
        Ok((recipe.set("Cmd", command), versions))
    }

    fn base(&self) -> Result<(PathBuf, Versions)> {
        let suite = match self.suite.as_str() {
            "bookworm" => Suite::Bookworm,
            "trixie" => Suite::Trixie,
            other => bail!("the lab has no Debian `{other}`"),
        };
        let packages = self.packages.join(",").leak();
        let query = r#"chroot "$1" dpkg-query -W -f '${Package} ${Version}\n'"#;
        let hooks = vec![
            format!(r#"{query} > "$PRODUCTS/{VERSIONS}""#),
            r#"rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*"#.into(),
        ];
        let debian =
            Debian { name: "container", suite, packages, recommended: false, hooks, inputs: Vec::new() };
        let tar = debian.tar("tar")?;
        let versions = fs::read_to_string(tar.with_file_name(VERSIONS))?;
        Ok((tar, Versions(versions)))
    }
}

/// `bookworm` of `docker.io/library/debian:bookworm-slim`.
fn suite(from: &str) -> String {
    let tag =
        from.split_whitespace().next().and_then(|image| image.rsplit_once(':')).map_or("", |(_, tag)| tag);
    tag.trim_end_matches("-slim").to_owned()
}

/// The packages that a RUN installs.
fn installed(run: &str) -> Vec<String> {
    let install = run.split("&&").find_map(|command| command.split_once("apt-get install"));
    let words = install.map_or("", |(_, words)| words).split_whitespace();
    words.filter(|word| !word.starts_with('-')).map(str::to_owned).collect()
}

fn path(target: &str, name: &str) -> String {
    if target.ends_with('/') { format!("{target}{name}") } else { target.to_owned() }
}

/// A large file is linked to, and not read into memory.
fn put(recipe: Recipe, file: &Path, path: &str) -> Result<Recipe> {
    let mode = fs::metadata(file).with_context(|| format!("`{}`", file.display()))?.permissions().mode();
    if mode & 0o111 == 0 { recipe.copy(file, path) } else { recipe.file(path, mode & 0o777, fs::read(file)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_counts() {
        let text = "# Beside it: x\nFROM docker.io/library/rust:1 AS build\nRUN cargo install x\n\
            FROM docker.io/library/debian:bookworm-slim\n\
            RUN apt-get update \\\n    && apt-get install -y --no-install-recommends fdisk zstd \\\n    && rm -rf /x\n\
            COPY --from=build /cargo/bin/x /usr/bin/x\nCOPY a b /c/\nADD s.tar /s/\nCMD [\"/install.sh\"]\n";
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = Containerfile {
            suite: "bookworm".into(),
            packages: words(&["fdisk", "zstd"]),
            copies: vec![
                (words(&["/cargo/bin/x"]), "/usr/bin/x".into(), false),
                (words(&["a", "b"]), "/c/".into(), false),
                (words(&["s.tar"]), "/s/".into(), true),
            ],
            command: "[\"/install.sh\"]".into(),
        };
        assert_eq!(Containerfile::parse(text).unwrap(), expected);
        assert_eq!(path("/c/", "a"), "/c/a");
        assert_eq!(path("/c/b", "a"), "/c/b");
        assert!(Containerfile::parse("FROM x\nUSER nobody\nCMD []").is_err());
        assert!(Containerfile::parse("FROM x\n").is_err());
    }
}
