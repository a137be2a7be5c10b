//! `iguana build`: makes the initrd for a kernel, and the formats in which both get to a machine.

mod added;
mod cpio;
mod format;
mod initrd;
pub(crate) mod inputs;
mod kernel;
mod modules;
mod rules;
pub(crate) mod tool;

use crate::cache::Cache;
use crate::output;
use anyhow::{Context, Result};
use clap::Args;
pub(crate) use format::Delivery;
use initrd::Contents;
use inputs::Input;
pub(crate) use kernel::Kernel;
use modules::{ModuleTree, Packed};
use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What goes into an initrd.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Recipe {
    /// The kernel: a bootable file, or the version of an installed one [default: the newest in /boot]
    #[arg(long, value_name = "FILE|VERSION")]
    pub(crate) kernel: Option<PathBuf>,
    /// The directory of the kernel's modules [default: /lib/modules/VERSION]
    #[arg(long, value_name = "DIR")]
    pub(crate) modules: Option<PathBuf>,
    /// Also include the modules below this path of the modules directory, such as kernel/drivers/net/wireless or
    /// updates; can be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) add_modules: Vec<String>,
    /// The trust directory: keys, policies, registries and certificates; create one with `iguana trust init`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["authorities", "registries", "logins", "certificates"])]
    pub(crate) trust: Option<PathBuf>,
    /// A trusted CA certificate, in PEM; can be repeated [default: those of this machine]
    #[arg(long = "ca", value_name = "FILE")]
    pub(crate) authorities: Vec<PathBuf>,
    /// A registries.conf with mirrors and insecure registries, see containers-registries.conf(5)
    #[arg(long, value_name = "FILE")]
    pub(crate) registries: Option<PathBuf>,
    /// An auth.json with logins for registries, see containers-auth.json(5); anyone who can read the initrd can read it
    #[arg(long = "auth", value_name = "FILE")]
    pub(crate) logins: Option<PathBuf>,
    /// A directory with certificates for individual registries, see containers-certs.d(5)
    #[arg(long = "certs", value_name = "DIR")]
    pub(crate) certificates: Option<PathBuf>,
    /// Include an emergency shell: this machine's static busybox
    #[arg(long)]
    pub(crate) shell: bool,
    /// The initrd's program [default: iguana-init beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,
    /// Rebuild everything without using the cache
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// An initrd in memory.
pub(crate) struct Initrd {
    /// The compressed archive.
    pub(crate) bytes: Vec<u8>,
    /// Facts to report about it, one per line.
    pub(crate) facts: Vec<String>,
    /// Whether it contains secrets, so that only its owner may read it.
    pub(crate) is_secret: bool,
    /// Unix seconds of the newest input.
    pub(crate) date: u32,
}

/// Builds the initrd and writes the output.
pub(crate) fn run(recipe: &Recipe, workflow: Option<&Path>, delivery: &Delivery) -> Result<()> {
    let start = Instant::now();
    let order = delivery.order()?;
    let kernel = recipe.kernel()?;
    let initrd = make(&kernel, recipe, workflow, |line| output::say(line))?;
    for fact in &initrd.facts {
        output::say(fact);
    }
    let size = megabytes(order.deliver(&kernel, initrd, &delivery.output)? as u64);
    let seconds = start.elapsed().as_secs_f64();
    output::say(format_args!("wrote {size} to {} in {seconds:.1} s", delivery.output.display()));
    Ok(())
}

impl Recipe {
    /// The kernel that the initrd is for.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        Kernel::find(self.kernel.as_deref(), self.modules.as_deref())
    }
}

/// Makes the initrd for `kernel` with `workflow` bundled. `tell` gets a line before what takes long.
pub(crate) fn make(
    kernel: &Kernel,
    recipe: &Recipe,
    workflow: Option<&Path>,
    tell: impl Fn(&str),
) -> Result<Initrd> {
    let source = ModuleTree::open(&kernel.modules)?;
    let inputs = Inputs::read(recipe, workflow)?;
    let wanted = modules::wanted(&source, &recipe.add_modules)?;
    let modules = Packed::of(&source, &kernel.release, &wanted, &cache(recipe), tell)?;
    let facts = facts(kernel, &source, &modules, &inputs);
    let is_secret = inputs.are_secret();
    let contents = inputs.with(kernel, &source, modules)?;
    let date = contents.date;
    let archive = initrd::archive(contents)?;
    Ok(Initrd { bytes: initrd::compress(&archive)?, facts, is_secret, date })
}

/// The input files that the user named.
struct Inputs {
    init: Input,
    shell: Option<Input>,
    workflow: Option<Input>,
    lock: Option<Input>,
    registries: Option<Input>,
    logins: Option<Input>,
    authorities: Vec<(String, Input)>,
    certificates: Vec<(String, Input)>,
    trust: Vec<(String, Input)>,
}

impl Inputs {
    fn read(recipe: &Recipe, workflow: Option<&Path>) -> Result<Self> {
        let trust = recipe.trust.as_deref().map_or(Ok(Vec::new()), inputs::trust)?;
        let has_authorities = trust.iter().any(|(path, _)| path.starts_with("ca/"));
        let authorities =
            if has_authorities { Vec::new() } else { inputs::authorities(&recipe.authorities)? };
        let text = workflow.map(inputs::workflow).transpose()?;
        let with_text = workflow.zip(text.as_ref());
        Ok(Self {
            init: inputs::init(recipe.init.as_deref())?,
            shell: recipe.shell.then(inputs::shell).transpose()?,
            lock: with_text.map_or(Ok(None), |(workflow, text)| {
                inputs::lock(workflow, &text.bytes, recipe.trust.as_deref())
            })?,
            workflow: text,
            registries: recipe.registries.as_deref().map(inputs::registries).transpose()?,
            logins: recipe.logins.as_deref().map(inputs::logins).transpose()?,
            authorities,
            trust,
            certificates: recipe.certificates.as_deref().map_or(Ok(Vec::new()), inputs::certificates)?,
        })
    }

    fn newest(&self) -> i64 {
        self.all().map(|input| input.mtime).max().unwrap_or_default()
    }

    fn all(&self) -> impl Iterator<Item = &Input> {
        let optional = [&self.shell, &self.workflow, &self.lock, &self.registries, &self.logins];
        let named = self.authorities.iter().chain(&self.certificates).chain(&self.trust);
        optional.into_iter().flatten().chain(named.map(|(_, input)| input)).chain([&self.init])
    }

    /// Whether an input is secret: passwords, keys of client certificates, and every file that not everyone may read.
    fn are_secret(&self) -> bool {
        let is_secret = |(path, _): &(String, Input)| path.ends_with(".key") || path == "auth.json";
        self.logins.is_some()
            || self.certificates.iter().chain(&self.trust).any(is_secret)
            || self.all().any(|input| !input.is_public)
    }

    fn with(self, kernel: &Kernel, source: &ModuleTree, modules: Packed) -> Result<Contents> {
        let date = date(env::var("SOURCE_DATE_EPOCH").ok(), self.newest().max(source.newest()))?;
        let bytes = |input: Input| input.bytes;
        let named = |inputs: Vec<(String, Input)>| {
            inputs.into_iter().map(|(name, input)| (name, input.bytes)).collect::<Vec<_>>()
        };
        Ok(Contents {
            release: kernel.release.clone(),
            date,
            init: self.init.bytes,
            shell: self.shell.map(bytes),
            workflow: self.workflow.map(bytes),
            lock: self.lock.map(bytes),
            registries: self.registries.map(bytes),
            logins: self.logins.map(bytes),
            authorities: named(self.authorities),
            certificates: named(self.certificates),
            trust: named(self.trust),
            modules,
        })
    }
}

/// The date of the initrd: `SOURCE_DATE_EPOCH` (reproducible-builds.org/specs/source-date-epoch), else the
/// modification time of the newest input.
fn date(source_date_epoch: Option<String>, newest: i64) -> Result<u32> {
    let seconds = match source_date_epoch {
        Some(text) => {
            text.parse().with_context(|| format!("`SOURCE_DATE_EPOCH={text}` is not a number of seconds"))?
        }
        None => newest,
    };
    u32::try_from(seconds)
        .with_context(|| format!("the date {seconds} s does not fit into the archive format"))
}

fn cache(recipe: &Recipe) -> Cache {
    if recipe.fresh {
        return Cache::Fresh;
    }
    match iguana_vm::cache_directory() {
        Ok(directory) => directory.map_or(Cache::Fresh, Cache::Kept),
        Err(error) => {
            output::note(format_args!("warning: building without the cache: {error:#}"));
            Cache::Fresh
        }
    }
}

fn facts(kernel: &Kernel, source: &ModuleTree, modules: &Packed, inputs: &Inputs) -> Vec<String> {
    let early: usize = modules.early.iter().map(|(_, module)| module.len()).sum();
    let mut facts = vec![
        format!("kernel {}, modules from {}", kernel.release, kernel.modules.display()),
        format!(
            "{} of {} modules: {} compressed to {}, plus {} for mounting them",
            modules.count,
            source.files().len(),
            megabytes(modules.unpacked),
            megabytes(modules.image.len() as u64),
            megabytes(early as u64),
        ),
        authorities_fact(inputs),
    ];
    if inputs.are_secret() {
        facts.push(
            "it contains logins, keys or other private files: only its owner may read it; serve it \
                    accordingly"
                .into(),
        );
    }
    facts
}

fn authorities_fact(inputs: &Inputs) -> String {
    let of_trust = inputs.trust.iter().filter_map(|(path, _)| path.strip_prefix("ca/"));
    let names: Vec<_> = inputs.authorities.iter().map(|(name, _)| name.as_str()).chain(of_trust).collect();
    match names[..] {
        [] => "no CA certificates: https will not work (add one with `--ca FILE`)".to_string(),
        _ => format!("trusted CA certificates: {}", names.join(", ")),
    }
}

/// Formats bytes in units of 1,000,000 bytes.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_newest_input_unless_set() {
        assert_eq!(date(None, 17).unwrap(), 17);
        assert_eq!(date(Some("5".into()), 17).unwrap(), 5);
        let error = date(Some("today".into()), 17).unwrap_err().to_string();
        assert_eq!(error, "`SOURCE_DATE_EPOCH=today` is not a number of seconds");
        assert!(date(None, -1).is_err());
    }
}
