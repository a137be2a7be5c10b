//! `iguana bundle`: one workflow with all its images in one file, for machines without a network.

mod push;

use crate::build::inputs::Input;
use crate::output;
use crate::output::Color;
use crate::output_file;
use crate::output_file::Destination;
use crate::trust::ExaminedBundle;
use crate::waiting::Waiting;
use crate::{check, trust};
use anyhow::{Context, Result};
use config::trust::Trust;
use fetch::http::DOCUMENT_LIMIT;
use hint::{WithHint, hinted};
use oci_pull::artifact::BESIDE;
use oci_pull::bundle::{Bundle, Opened, Writer};
use oci_pull::{BundleCheck, Finder};
use oci_reference::{Digest, Machine, Reference};
use oci_trust::pins::{Lock, Pins};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Write, stderr};
use std::path::{Path, PathBuf};
use untrusted_fs::{Directory, Links};
use workflow::Plan;

/// Name of a bundle while it is made, and the directory of its blobs (OCI image-spec, image-layout.md).
const MADE: &str = "bundle";
const BLOBS: &str = "blobs/sha256";
/// The ending of the lock file beside a workflow.
const LOCK: &str = ".lock";

/// What to bundle, or what to do with a bundle.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    recipe: Option<Recipe>,
}

/// What to bundle.
#[derive(clap::Args, Clone, Debug)]
struct Recipe {
    /// The workflow; its signature, its lock file and the lock file's signature are included if they are beside it
    workflow: PathBuf,
    /// The output: a file if the name ends in .tar, otherwise a directory; it must not exist yet
    #[arg(short, long, value_name = "FILE.tar|DIR")]
    output: PathBuf,
    /// A platform to include images for; can be repeated [default: this machine's architecture]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    platforms: Vec<Machine>,
    /// The trust directory; images that it rejects are not bundled [default: this machine's /etc/containers]
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Verify that a bundle is complete: read every blob, and find every image that its workflow names
    Verify {
        /// The bundle
        bundle: PathBuf,
        /// Also check the workflow and each image against this trust directory, without asking any registry
        #[arg(long, value_name = "DIR")]
        trust: Option<PathBuf>,
        /// The control URL from which machines fetch the bundle, as in `from` of the trust directory [default: any]
        #[arg(long, value_name = "URL", requires = "trust")]
        from: Option<String>,
    },
    /// Push a bundle to a registry with skopeo, to be booted from `oci://REFERENCE`
    Push(push::Options),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match (&options.command, &options.recipe) {
        (Some(Command::Verify { bundle, trust, from }), _) => {
            verify(bundle, trust.as_deref(), from.as_deref())
        }
        (Some(Command::Push(options)), _) => push::run(options),
        (None, Some(recipe)) => make(recipe),
        (None, None) => unreachable!("the parser requires one of them"),
    }
}

fn make(recipe: &Recipe) -> Result<()> {
    if recipe.output.exists() {
        let message = format!("`{}` already exists", recipe.output.display());
        return Err(hinted(message, "remove it, or choose another path"));
    }
    let name = recipe.workflow.display().to_string();
    let Input { bytes: text, is_public, .. } = check::read(&recipe.workflow)?;
    let checked = workflow::check(&text);
    output::write_lines(stderr(), &check::blocks(&name, &checked, Color::Auto.is_for(&stderr())))?;
    let plan = checked.plan.with_context(|| format!("`{name}` is not a workflow"));
    let plan = plan.hint("correct the errors above")?;
    let trust = trust::open(recipe.trust.as_deref())?;
    trust::examine(&name, &text, &trust)?;
    let beside = beside(&recipe.workflow)?;
    let pins = pins(&beside, &recipe.workflow, &text, plan.serial)?;
    // Who may not read the workflow, or a file beside it that belongs to it, may not read the bundle.
    let is_public = is_public && beside.iter().all(|(_, input)| input.is_public);
    let is_file = recipe.output.extension().is_some_and(|it| it == "tar");
    // Others may be able to write to the output's directory and move files in it. From here on everything uses
    // descriptors.
    let parent = Directory::open(output_directory(&recipe.output)?)?;
    let room = parent.scratch().hint("the directory must be writable")?;
    let room = room.directory();
    let mut writer = Writer::within(room.create_directory(MADE, if is_public { 0o755 } else { 0o700 })?)?;
    let lock = images(recipe, &plan, &pins, &trust, &mut writer, Lock::of(&text, plan.serial))?;
    writer.finish(&text, &with_lock(beside, &lock))?;
    let made = Bundle::find(room, Path::new(MADE))?.context("the bundle no longer exists")?.bundle;
    let inventory = made.verify().context("the bundle is incomplete")?;
    if is_file {
        pack(
            &room.directory(MADE, Links::Refuse)?,
            &recipe.output,
            if is_public { output_file::PUBLIC } else { output_file::SECRET },
        )?
    } else {
        output_file::place_directory(room, MADE, &parent, &recipe.output)?
    }
    output::say(format_args!(
        "wrote {}: {} images, {} blobs, {:.1} MB",
        recipe.output.display(),
        lock.len(),
        inventory.blobs,
        inventory.bytes as f64 / 1e6
    ));
    Ok(())
}

fn output_directory(output: &Path) -> Result<&Path> {
    let directory =
        output.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
    Ok(directory)
}

/// Copies all images and returns the digest of each name.
fn images(
    recipe: &Recipe,
    plan: &Plan,
    pins: &Pins,
    trust: &Trust,
    writer: &mut Writer,
    mut lock: Lock,
) -> Result<Lock> {
    let finder = trust::finder(trust)?;
    let usual = [Machine::usual()];
    let machines = if recipe.platforms.is_empty() { &usual[..] } else { &recipe.platforms[..] };
    for image in plan.images() {
        let Reference::Registry(named) = &pins.pin(image)? else {
            return Err(hinted(
                format!("`{image}` is a file and cannot be bundled"),
                "push it to a registry, and use its name there",
            ));
        };
        output::note(format_args!("{image}"));
        let locked = finder.copy(named, machines, writer, &mut trust::teller());
        lock.insert(image, locked.with_context(|| format!("cannot bundle `{image}`"))?);
    }
    if plan.names_images_by_expressions() {
        output::note("warning: images named by expressions are not bundled: the machine pulls them");
    }
    Ok(lock)
}

/// The pins from the lock file beside the workflow, if there is one.
fn pins(beside: &[(&'static str, Input)], workflow: &Path, text: &[u8], serial: Option<u64>) -> Result<Pins> {
    let place = trust::beside(workflow, LOCK);
    let Some((_, input)) = beside.iter().find(|(ending, _)| *ending == LOCK) else {
        return Ok(Pins::default());
    };
    let lock = Lock::parse(&input.bytes)
        .with_context(|| format!("cannot read the lock file `{}`", place.display()))?;
    lock.check_workflow(Digest::of(text), serial)
        .with_context(|| format!("cannot use `{}`", place.display()))?;
    Ok(Pins::offered(lock))
}

/// The files beside the workflow that belong to it.
fn beside(workflow: &Path) -> Result<Vec<(&'static str, Input)>> {
    let mut found = Vec::new();
    for (ending, _) in BESIDE {
        let Some(file) = trust::open_beside(workflow, ending)? else { continue };
        let input = Input::of(file, DOCUMENT_LIMIT)
            .with_context(|| format!("cannot read `{}`", trust::beside(workflow, ending).display()))?;
        found.push((*ending, input));
    }
    Ok(found)
}

/// The same files; without a lock file, with the lock that was determined here.
fn with_lock(beside: Vec<(&'static str, Input)>, lock: &Lock) -> Vec<(&'static str, Vec<u8>)> {
    let mut files: Vec<_> = beside.into_iter().map(|(ending, input)| (ending, input.bytes)).collect();
    if !files.iter().any(|(ending, _)| *ending == LOCK) {
        files.push((LOCK, format!("{lock}\n").into_bytes()));
    }
    files
}

/// Writes one archive, with a fixed order and fixed times.
fn pack(directory: &Directory, output: &Path, mode: u32) -> Result<()> {
    let cannot = || format!("cannot write `{}`", output.display());
    let place = Destination::of(output)?;
    let mut incoming = place.begin()?;
    let mut tar = tar::Builder::new(BufWriter::new(incoming.stream()));
    let mut names = vec![PathBuf::from("oci-layout"), PathBuf::from("index.json")];
    let blobs = directory.directory(BLOBS, Links::Refuse)?.names(usize::MAX)?;
    names.extend(blobs.into_iter().map(|name| Path::new(BLOBS).join(name)));
    for name in names {
        let file = directory.file(&name, Links::Refuse)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, &name, file).with_context(cannot)?;
    }
    tar.finish().and_then(|()| tar.get_mut().flush()).with_context(cannot)?;
    drop(tar);
    incoming.finish(mode)
}

fn verify(path: &Path, trust_directory: Option<&Path>, control_url: Option<&str>) -> Result<()> {
    let Opened { documents, bundle } = Bundle::open(path)?;
    let inventory = bundle.verify()?;
    let name = path.display().to_string();
    let trust = trust_directory.map_or_else(|| Ok(Trust::absent()), Trust::open)?;
    let examined = trust::examine_bundle(&name, control_url, &documents, &trust)?;
    let platforms = judge(&name, &examined, bundle, &trust, trust_directory.is_some())?;
    output::say(format_args!(
        "{name} is complete: {} images, {} blobs, {:.1} MB{platforms}",
        inventory.names,
        inventory.blobs,
        inventory.bytes as f64 / 1e6
    ));
    Ok(())
}

/// Whether a boot that has only the bundle could run every image that the workflow names.
/// Says for which platforms.
fn judge(
    name: &str,
    examined: &ExaminedBundle,
    bundle: Bundle,
    trust: &Trust,
    is_named: bool,
) -> Result<String> {
    if let Some(why) = &examined.unused_lock {
        output::note(format_args!("warning: a machine would ignore the lock file in `{name}`: {why:#}"));
    }
    if examined.plan.names_images_by_expressions() {
        output::note(format_args!("warning: images named by expressions are not checked"));
    }
    let (bundle, believes_bundle) = (Some(bundle), examined.is_covered);
    let finder = Finder { bundle, believes_bundle, ..trust::finder(trust)? };
    let (mut check, mut all) = (BundleCheck::default(), None::<BTreeSet<String>>);
    for image in examined.plan.images() {
        // Only a trust directory says which registry a short name means.
        let is_short = image.named().is_some_and(|named| named.short_name().is_some());
        if is_short && !is_named {
            output::note(format_args!(
                "warning: `{image}` has no registry and is only checked with `--trust DIR`"
            ));
            continue;
        }
        let _work = Waiting::for_work(format!("{name}: decompressing the layers of `{image}`"));
        let judged = examined.pins.pin(image).and_then(|image| finder.judge_bundled(&image, &mut check));
        let judged = judged.with_context(|| format!("`{name}` is incomplete"))?;
        let judged: BTreeSet<_> = judged.iter().map(Machine::architecture).collect();
        all = Some(all.map_or_else(|| judged.clone(), |so_far| &so_far & &judged));
    }
    match all {
        None => Ok(String::new()),
        Some(all) if all.is_empty() => Err(hinted(
            format!("`{name}` is not whole: for no platform it has all images"),
            "create the bundle again with `--platform`",
        )),
        Some(all) => Ok(format!(", for {}", Vec::from_iter(all).join(", "))),
    }
}
