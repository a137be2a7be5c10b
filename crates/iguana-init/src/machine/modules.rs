//! Kernel modules: the compressed image that holds them, and kmod's indexes to it
//! (modules.dep(5); modules.alias and modules.softdep as depmod(8) writes them).

use super::release;
use crate::pattern;
use crate::report::Report;
use anyhow::Context as _;
use rustix::mount::{MountFlags, mount};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

/// Modules that are needed to mount the image, in the order of their names.
const EARLY: &str = "/usr/lib/iguana/early";
/// The image of all other modules.
const IMAGE: &str = "/usr/lib/iguana/modules.squashfs";

/// The modules of the running kernel. Threads may load at the same time.
pub(crate) struct Modules {
    directory: PathBuf,
    index: Index,
    parameters: Vec<(String, String)>,
    /// One entry for each module that was asked for: whoever needs it waits until it has been tried.
    tried: Mutex<HashMap<String, Arc<Once>>>,
}

impl Modules {
    /// Mounts the image of the modules and reads its indexes.
    ///
    /// # Errors
    /// When the image is there but cannot be used. A kernel without an image has everything built in.
    pub(crate) fn open(report: &Report) -> anyhow::Result<Self> {
        let directory = directory();
        if Path::new(IMAGE).exists() {
            load_early(report)?;
            mount_image(&directory).with_context(|| format!("cannot mount `{IMAGE}`"))?;
        }
        Ok(Self::read(directory))
    }

    fn read(directory: PathBuf) -> Self {
        let index = Index::read(&directory);
        let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Self { directory, index, parameters: parameters(&cmdline), tried: Mutex::default() }
    }

    /// Loads whatever drives the device with this modalias, or whatever has this name, with all
    /// that it needs. Returns how many modules that were new.
    pub(crate) fn load(&self, alias: &str, report: &Report) -> usize {
        let chains = self.index.find(alias).into_iter().map(|name| self.index.chain(&name));
        chains.flatten().filter(|name| self.load_one(name, report)).count()
    }

    fn load_one(&self, name: &str, report: &Report) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let once = Arc::clone(tried.entry(name.to_owned()).or_insert_with(|| Arc::new(Once::new())));
        drop(tried);
        let mut is_loaded = false;
        once.call_once(|| {
            let start = Instant::now();
            let path = self.directory.join(&self.index.modules[name].path);
            let loaded = insert(&path, &self.parameters_of(name));
            is_loaded = loaded.is_ok();
            report.detail(match loaded {
                Ok(()) => format!("modules: loaded `{name}` in {} ms", start.elapsed().as_millis()),
                // Many drivers look for their hardware when they are loaded, and may not find it.
                Err(error) => format!("modules: `{name}` does not load: {error:#}"),
            });
        });
        is_loaded
    }

    fn parameters_of(&self, name: &str) -> String {
        let own =
            self.parameters.iter().filter(|(module, _)| module == name).map(|(_, value)| value.as_str());
        own.collect::<Vec<_>>().join(" ")
    }
}

/// Loads the module of this name, as the kernel has it done when it wants one. Whether it is there then is seen by
/// whoever wants it.
pub(crate) fn want(name: &str) {
    let _ = modprobe(name.to_owned());
}

/// What the kernel runs when it wants a module: `modprobe -q -- NAME` (Documentation/admin-guide/sysctl/kernel.rst).
pub(crate) fn modprobe(alias: String) -> ExitCode {
    let report = Report::open();
    let count = Modules::read(directory()).load(&alias, &report);
    report.detail(format_args!("modules: the kernel asked for `{alias}`: {count} loaded"));
    if count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// Gives a module to the kernel; one that it has already is fine.
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
    let control = File::open("/dev/loop-control").context("no loop devices in this kernel")?;
    let path = format!("/dev/loop{}", sys::free_loop_device(&control)?);
    let device =
        OpenOptions::new().read(true).open(&path).with_context(|| format!("cannot open `{path}`"))?;
    sys::set_up_loop_device(&device, &image).with_context(|| format!("cannot set up `{path}`"))?;
    fs::create_dir_all(directory)?;
    Ok(mount(path.as_str(), directory, "squashfs", MountFlags::RDONLY, c"")?)
}

/// `MODULE.PARAMETER=VALUE` words of the kernel command line.
fn parameters(cmdline: &str) -> Vec<(String, String)> {
    let words = cmdline.split_ascii_whitespace();
    let pairs = words.filter_map(|word| {
        let (module, parameter) = word.split('=').next()?.split_once('.')?;
        let value = &word[module.len() + 1..];
        (!parameter.contains('.')).then(|| (normalized(module), value.to_owned()))
    });
    pairs.collect()
}

/// Module names are the same with `-` and with `_`.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Module {
    path: PathBuf,
    /// As modules.dep has them: the one to load first comes last.
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

/// kmod's text indexes, parsed.
#[derive(Debug, Default)]
struct Index {
    modules: HashMap<String, Module>,
    /// Patterns and their modules, by the bus before the first `:`, because most do not concern a device at all.
    aliases: HashMap<String, Vec<(String, String)>>,
}

impl Index {
    fn read(directory: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Self::parse(&text("modules.dep"), &text("modules.alias"), &text("modules.softdep"))
    }

    fn parse(dep: &str, alias: &str, softdep: &str) -> Self {
        let mut index = Self::default();
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_ascii_whitespace().map(module_name).collect();
            let module = Module { path: path.into(), needs, ..Module::default() };
            index.modules.insert(module_name(path), module);
        }
        for line in alias.lines() {
            if let ["alias", pattern, module] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                let patterns = index.aliases.entry(bus(pattern).to_owned()).or_default();
                patterns.push((pattern.to_owned(), normalized(module)));
            }
        }
        for line in softdep.lines() {
            index.add_soft_needs(line);
        }
        index
    }

    /// `softdep NAME pre: A B post: C`
    fn add_soft_needs(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let Some(module) = words.next().and_then(|name| self.modules.get_mut(&normalized(name))) else {
            return;
        };
        let mut side = &mut module.before;
        for word in words {
            match word {
                "pre:" => side = &mut module.before,
                "post:" => side = &mut module.after,
                name => side.push(normalized(name)),
            }
        }
    }

    /// A module with all that it needs, in the order to load them.
    fn chain(&self, name: &str) -> Vec<String> {
        fn visit(index: &Index, name: &str, seen: &mut HashSet<String>, chain: &mut Vec<String>) {
            let Some(module) = index.modules.get(name) else { return };
            if !seen.insert(name.to_owned()) {
                return;
            }
            module
                .before
                .iter()
                .chain(module.needs.iter().rev())
                .for_each(|need| visit(index, need, seen, chain));
            chain.push(name.to_owned());
            module.after.iter().for_each(|follower| visit(index, follower, seen, chain));
        }
        let mut chain = Vec::new();
        visit(self, name, &mut HashSet::new(), &mut chain);
        chain
    }

    /// The modules that a modalias or a name asks for.
    fn find(&self, alias: &str) -> Vec<String> {
        let name = normalized(alias);
        if self.modules.contains_key(&name) {
            return vec![name];
        }
        let patterns = self.aliases.get(bus(alias)).into_iter().flatten();
        patterns
            .filter(|(pattern, _)| pattern::matches(pattern, alias))
            .map(|(_, module)| module.clone())
            .collect()
    }
}

fn bus(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias)
}

/// `kernel/fs/ext4/ext4.ko` is `ext4`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normalized(file.split('.').next().unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indexes_of_kmod_are_understood() {
        let index = Index::parse(
            "kernel/a/virtio-net.ko: kernel/b/failover.ko kernel/b/net_failover.ko\nkernel/b/failover.ko:\n",
            "# comment\nalias virtio:d00000001v* virtio_net\nalias fs-ext4 ext4\n",
            "softdep virtio_net pre: one-a two post: three\n",
        );
        let module = &index.modules["virtio_net"];
        assert_eq!(module.path, PathBuf::from("kernel/a/virtio-net.ko"));
        assert_eq!(module.needs, ["failover", "net_failover"]);
        assert_eq!(
            (module.before.clone(), module.after.clone()),
            (vec!["one_a".into(), "two".into()], vec!["three".into()])
        );
        assert_eq!(index.chain("virtio_net"), ["failover", "virtio_net"]);
        assert_eq!(index.find("virtio:d00000001v1"), ["virtio_net"]);
        assert_eq!(index.find("virtio-net"), ["virtio_net"]);
        assert_eq!(index.find("fs-ext4"), ["ext4"]);
        assert!(index.find("fs-xfs").is_empty());
    }

    #[test]
    fn parameters_of_modules_come_from_the_command_line() {
        let found =
            parameters("quiet rd.iguana.debug usb-storage.quirks=1:2:u loop.max_loop=8 console=ttyS0");
        let expected = [("usb_storage", "quirks=1:2:u"), ("loop", "max_loop=8")];
        assert_eq!(found, expected.map(|(module, value)| (module.to_owned(), value.to_owned())));
    }
}
