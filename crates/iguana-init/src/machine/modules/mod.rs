//! Kernel modules: the compressed image that holds them, and the options of the kernel command line.

mod command;
mod index;
mod nodes;
mod options;
mod requests;

pub(crate) use command::main as modprobe;
use index::{Index, module_name};
pub(crate) use options::Options;

use super::release;
use crate::report::Report;
use anyhow::Context as _;
use rustix::mount::{MountFlags, mount};
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

/// Modules that are needed to mount the image; loaded in the order of their file names.
const EARLY: &str = "/usr/lib/iguana/early";
/// The image with all other modules.
const IMAGE: &str = "/usr/lib/iguana/modules.squashfs";

/// The modules of the running kernel. Several threads may load modules at the same time.
pub(crate) struct Modules {
    directory: PathBuf,
    index: Index,
    options: Options,
    /// One entry per requested module. A thread that needs the module waits until loading it has been tried.
    tried: Mutex<HashMap<String, Arc<Once>>>,
}

impl Modules {
    /// Mounts the image of the modules, makes the nodes that load them, and reads its indexes.
    ///
    /// # Errors
    /// When the image exists but cannot be used. A kernel without an image has everything built in.
    pub(crate) fn open(report: &Report) -> anyhow::Result<Self> {
        let directory = directory();
        if Path::new(IMAGE).exists() {
            load_early(report)?;
            mount_image(&directory).with_context(|| format!("cannot mount `{IMAGE}`"))?;
        }
        nodes::make(&directory, report);
        Ok(Self::read(directory))
    }

    fn read(directory: PathBuf) -> Self {
        let index = Index::read(&directory);
        Self { directory, index, options: Options::of_this_boot(), tried: Mutex::default() }
    }

    /// The options of the kernel command line.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Loads the drivers for a modalias, or the module of that name, and the dependencies. Returns how many modules
    /// were new.
    pub(crate) fn load(&self, alias: &str, report: &Report) -> usize {
        let found = self.index.find(alias, &self.options.blacklist);
        let chains = found.into_iter().map(|name| self.index.chain(&name));
        chains.flatten().filter(|name| self.load_one(name, report)).count()
    }

    fn load_one(&self, name: &str, report: &Report) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let once = Arc::clone(tried.entry(name.to_owned()).or_insert_with(|| Arc::new(Once::new())));
        drop(tried);
        let mut is_loaded = false;
        once.call_once(|| {
            let start = Instant::now();
            let path = self.directory.join(self.index.path(name).unwrap_or(Path::new(name)));
            let loaded = insert(&path, &self.options.parameters_of(name));
            is_loaded = loaded.is_ok();
            report.detail(match loaded {
                Ok(()) => format!("modules: loaded `{name}` in {} ms", start.elapsed().as_millis()),
                // Not an error: many drivers look for their hardware when they are loaded, and may not find it.
                Err(error) => format!("modules: cannot load `{name}`: {error:#}"),
            });
        });
        is_loaded
    }
}

/// Loads a module, as when the kernel requests it. The caller has to check whether the module is there afterwards.
pub(crate) fn want(name: &str) {
    command::load(name);
}

fn directory() -> PathBuf {
    Path::new("/lib/modules").join(release::kernel())
}

fn load_early(report: &Report) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(EARLY) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        insert(&path, "").with_context(|| format!("cannot load `{}`", path.display()))?;
        report.detail(format_args!("modules: loaded `{}`", path.display()));
    }
    Ok(())
}

/// Loads a module into the kernel; succeeds if it is loaded already.
fn insert(path: &Path, parameters: &str) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).map(module_name).unwrap_or_default();
    if Path::new("/sys/module").join(name).exists() {
        return Ok(());
    }
    let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    match rustix::system::finit_module(&file, &CString::new(parameters)?, 0) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        inserted => Ok(inserted?),
    }
}

fn mount_image(directory: &Path) -> anyhow::Result<()> {
    let image = File::open(IMAGE)?;
    let control = File::open("/dev/loop-control").context("this kernel has no loop devices")?;
    let path = format!("/dev/loop{}", sys::free_loop_device(&control)?);
    let device =
        OpenOptions::new().read(true).open(&path).with_context(|| format!("cannot open `{path}`"))?;
    sys::set_up_loop_device(&device, &image, sys::LoopPart::default())
        .with_context(|| format!("cannot set up `{path}`"))?;
    fs::create_dir_all(directory)?;
    Ok(mount(path.as_str(), directory, "squashfs", MountFlags::RDONLY, c"")?)
}
