//! The command `modprobe`, called by the kernel, or by a user to find the modules for an alias.

use super::requests::{LIMIT, Requests};
use super::{Index, Modules, directory};
use crate::report::{self, Report};
use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// The kernel calls `modprobe -q -- NAME` (Documentation/admin-guide/sysctl/kernel.rst). As in modprobe(8),
/// `modprobe -R [-d ROOT] [-S VERSION] ALIAS...` only prints the names of the modules.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let call = Call::parse(arguments);
    if call.is_question {
        return call.answer();
    }
    if call.aliases.iter().all(|alias| answer_request(alias)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Loads the modules that the kernel asks for, unless it has asked for too many of this kind in vain.
fn answer_request(alias: &str) -> bool {
    let requests = Requests::of(alias);
    if requests.are_exhausted(SystemTime::now()) {
        return false;
    }
    let is_loaded = load(alias);
    if !is_loaded && requests.count_one_in_vain() {
        Report::open().warn(format_args!(
            "a program causes requests for kernel modules without end, the last one for `{alias}`: after {LIMIT} in \
             vain, those of its kind are ignored for a minute"
        ));
    }
    is_loaded
}

/// Loads the modules for a name or alias. `true` if any of them was new.
pub(super) fn load(alias: &str) -> bool {
    let report = Report::open();
    let count = Modules::read(directory()).load(alias, &report);
    // A container without rights can have the kernel ask for what it likes, as often as it likes: that is not for the log.
    if count > 0 {
        report.detail(format_args!("modules: the kernel asked for `{alias}`: {count} loaded"));
    }
    count > 0
}

#[derive(Debug, Default)]
struct Call {
    is_question: bool,
    root: Option<String>,
    version: Option<String>,
    aliases: Vec<String>,
}

impl Call {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut call = Self::default();
        while let Some(argument) = arguments.next() {
            match &*argument {
                "-R" | "--resolve-alias" => call.is_question = true,
                "-d" | "--dirname" => call.root = arguments.next(),
                "-S" | "--set-version" => call.version = arguments.next(),
                "--" => {
                    call.aliases.extend(arguments);
                    break;
                }
                option if option.starts_with('-') => {}
                _ => call.aliases.push(argument),
            }
        }
        call
    }

    fn answer(&self) -> ExitCode {
        let root = Path::new(self.root.as_deref().unwrap_or("/"));
        let version = self.version.clone().unwrap_or_else(crate::machine::release::kernel);
        let index = Index::read(&root.join("lib/modules").join(version));
        let found = self.aliases.iter().map(|alias| index.find(alias, &HashSet::new())).collect::<Vec<_>>();
        found.iter().flatten().for_each(|name| report::answer(name));
        if found.iter().any(Vec::is_empty) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
