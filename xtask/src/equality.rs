//! `cargo xtask equality`: compares the tree of every image with the one that the OCI image-spec's layer rules
//! define, and with those of third-party tools.

use crate::bench::result;
use crate::dist;
use anyhow::{Result, ensure};
use iguana_lab::equality::{Campaign, Differences, Subject, Unpacker, differences};
use iguana_lab::packages;
use std::fmt::Write as _;

/// How much to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Files in the image that has many.
    #[arg(long, default_value_t = 100_000)]
    many: usize,
}

/// Number of reported differences for each image; further ones have the same reason.
const SHOWN: usize = 2;

/// The sentence that decides when a tool differs: from the specification's layer.md, or a document that it refers to.
/// It is selected by a word in the description of the image; the first match is used.
const SENTENCES: &[(&str, &str)] = &[
    (
        "zstd",
        "“The media type `application/vnd.oci.image.layer.v1.tar+zstd` represents an `application/vnd.oci.image.layer.v1.tar` payload which has been compressed with zstd.”",
    ),
    ("not there", "“Once a whiteout is applied, the whiteout itself MUST also be hidden.”"),
    ("whiteout in the lowest", "“Once a whiteout is applied, the whiteout itself MUST also be hidden.”"),
    ("whiteout", "“Whiteout files MUST only apply to resources in lower/parent layers.”"),
    (
        "opaque",
        "“An opaque whiteout entry is a file with the name `.wh..wh..opq` indicating that all siblings are hidden in the lower layer.” Of the directory itself it says nothing.",
    ),
    (
        "aufs",
        "“As files prefixed with `.wh.` are special whiteout markers, it is not possible to create a filesystem which has a file or directory with a name beginning with `.wh.`.”",
    ),
    (
        "root",
        "“If the entry and the existing path are both directories, then the existing path's attributes MUST be replaced by those of the entry in the changeset.” The root has an entry in “./”.",
    ),
    (
        "before 1970",
        "“MUST include file attributes for Additions and Modifications include: Modification Time (`mtime`)”",
    ),
    (
        "after 2038",
        "“MUST include file attributes for Additions and Modifications include: Modification Time (`mtime`)”",
    ),
    (
        "attributes",
        "“MUST include file attributes …: Extended Attributes (`xattrs`)”, “where supported”; xattr(7) and overlayfs say where.",
    ),
    (
        "hard link",
        "“Hardlinked files … have the same inode.” and “Extracting a layer with hardlink references to files outside of the layer may fail.”",
    ),
    (
        "below",
        "“In the absence of any whiteout files in a layer changeset, the archive is extracted like a regular tar archive.” tar goes where a link on the way leads.",
    ),
    (
        "same layer",
        "“In the absence of any whiteout files in a layer changeset, the archive is extracted like a regular tar archive.” tar goes where a link on the way leads.",
    ),
    (
        "without an entry",
        "“In the absence of any whiteout files in a layer changeset, the archive is extracted like a regular tar archive.” What has no entry is not changed.",
    ),
    (
        "without entries",
        "“In the absence of any whiteout files in a layer changeset, the archive is extracted like a regular tar archive.” What has no entry is not changed.",
    ),
    (
        "in place of",
        "“In all other cases, the implementation MUST do the semantic equivalent of … removing the file path …, recreating the file path”",
    ),
    (
        "duplicate",
        "“In all other cases, the implementation MUST do the semantic equivalent of … removing the file path …, recreating the file path”",
    ),
    (
        "empty and repeated",
        "The specification has no sentence of its own for it; we leave unchanged what has no entry, the root as any directory.",
    ),
    ("127", "“One or more layers are applied on top of each other to create a complete filesystem.”"),
    ("", "“the archive is extracted like a regular tar archive”"),
];

/// Compares, prints, and writes the report to `bench/results`. Fails when Iguana differs anywhere.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::ORACLE].concat())?;
    dist::run()?;
    let campaign = Campaign::new(options.many)?;
    let expected = campaign.expected()?;
    let ours: Vec<Differences> =
        expected.iter().zip(campaign.seen()?).map(|(expected, seen)| differences(expected, &seen)).collect();
    let mut witnesses = Vec::new();
    for unpacker in [Unpacker::Umoci, Unpacker::Podman] {
        let told = expected.iter().zip(campaign.witnessed(unpacker)?).map(|(expected, seen)| match seen {
            Ok(seen) => differences(expected, &seen),
            Err(error) => vec![format!("it fails: {}", last_line(&format!("{error:#}")))],
        });
        witnesses.push(told.collect::<Vec<Differences>>());
    }
    let mut report = header(campaign.subjects().len(), &ours)?;
    for (number, subject) in campaign.subjects().iter().enumerate() {
        let _ = writeln!(
            report,
            "| {} | {} | {} | {} | {} | {} |",
            subject.oddity,
            subject.maker,
            expected[number].len(),
            verdict(&ours[number]),
            verdict(&witnesses[0][number]),
            verdict(&witnesses[1][number])
        );
    }
    report += "\n## Where they differ\n";
    for (number, subject) in campaign.subjects().iter().enumerate() {
        let told =
            [("Iguana", &ours[number]), ("umoci", &witnesses[0][number]), ("podman", &witnesses[1][number])];
        report += &explained(subject, &told);
    }
    result::keep("equality", &report)?;
    let wrong = ours.iter().filter(|differences| !differences.is_empty()).count();
    ensure!(wrong == 0, "{wrong} images unpack to other trees than the specification says");
    Ok(())
}

fn header(images: usize, ours: &[Differences]) -> Result<String> {
    let equal = ours.iter().filter(|differences| differences.is_empty()).count();
    Ok(format!(
        "# Equality: images and the trees that they unpack to\n\n\
         `{}`, {}. **{equal} of {images} images are equal** in type, mode, owner, size, content, extended attributes, \
         links and time to what the layer rules of the OCI image-spec give (`tests/src/images/equality/model.py`, which \
         shares nothing with Iguana). The trees of Iguana are those that a container sees: pulled from a registry, \
         unpacked side by side, put together by overlayfs. `umoci unpack` and `podman image mount` are witnesses.\n\n\
         | oddity | made by | things | Iguana | umoci | podman |\n| --- | --- | --- | --- | --- | --- |\n",
        result::command_line(),
        result::today()?,
    ))
}

fn verdict(differences: &Differences) -> String {
    match differences.as_slice() {
        [] => "equal".into(),
        [one] if one.starts_with("it fails") => "fails".into(),
        more => format!("{} differ", more.len()),
    }
}

fn explained(subject: &Subject, told: &[(&str, &Differences)]) -> String {
    let mut text = String::new();
    for (who, differences) in told.iter().filter(|(_, differences)| !differences.is_empty()) {
        let shown: Vec<&str> = differences.iter().take(SHOWN).map(String::as_str).collect();
        let more = differences.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let _ = writeln!(text, "- {who}: {}{more}", shown.join("; "));
    }
    if text.is_empty() {
        return text;
    }
    let oddity = subject.oddity.to_lowercase();
    let sentence =
        SENTENCES.iter().find(|(word, _)| oddity.contains(word)).map_or("", |(_, sentence)| sentence);
    format!("\n**{}** ({}). {sentence}\n\n{text}", subject.oddity, subject.name)
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}
