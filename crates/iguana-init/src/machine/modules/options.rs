//! Options for modules on the kernel command line (dracut.cmdline(7), modprobe(8), kernel-parameters.txt).

use super::index::normalized;
use config::rules::Rules;
use std::collections::HashSet;
use std::path::Path;

/// Which modules to load and not to load, and their parameters.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Not loaded for any device: `modprobe.blacklist=` and `rd.driver.blacklist=`. The kernel itself enforces
    /// `module_blacklist=`.
    pub(super) blacklist: HashSet<String>,
    /// Loaded before the drivers of devices: `rd.driver.pre=`.
    pub(crate) before: Vec<String>,
    /// Loaded after the drivers of the present devices: `rd.driver.post=`.
    pub(crate) after: Vec<String>,
    /// `MODULE.PARAMETER=VALUE`.
    parameters: Vec<(String, String)>,
}

impl Options {
    pub(super) fn of_this_boot() -> Self {
        // The boot itself fails if the rules cannot be read.
        let rules = Rules::from_directory(Path::new(trust_directory::HOME));
        let is_allowed =
            |key: &str, value: &str| rules.as_ref().is_ok_and(|rules| rules.allows_modules(key, value));
        Self::parse(&config::cmdline::read("/proc/cmdline"), is_allowed)
    }

    fn parse(cmdline: &str, is_allowed: impl Fn(&str, &str) -> bool) -> Self {
        let mut options = Self::default();
        for word in config::cmdline::words(cmdline) {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            let names = value.split(',').filter(|name| !name.is_empty()).map(normalized);
            match key {
                "modprobe.blacklist" | "rd.driver.blacklist" => options.blacklist.extend(names),
                "rd.driver.pre" | "rd.driver.post" if !is_allowed(key, value) => {}
                "rd.driver.pre" => options.before.extend(names),
                "rd.driver.post" => options.after.extend(names),
                _ => options.parameters.extend(parameter(key, &word)),
            }
        }
        options
    }

    pub(super) fn parameters_of(&self, name: &str) -> String {
        let own = self.parameters.iter().filter(|(module, _)| module == name);
        own.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn parameter(key: &str, word: &str) -> Option<(String, String)> {
    let (module, parameter) = key.split_once('.')?;
    (!parameter.contains('.')).then(|| (normalized(module), word[module.len() + 1..].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(cmdline: &str) -> Options {
        Options::parse(cmdline, |_, _| true)
    }

    #[test]
    fn modules_are_loaded_by_name_only_where_the_trust_allows_it() {
        let text = "rd.driver.pre=a rd.driver.post=b,c rd.driver.pre=d";
        let options = Options::parse(text, |key, value| (key, value) == ("rd.driver.pre", "d"));
        assert_eq!((options.before, options.after), (vec!["d".to_owned()], Vec::new()));
    }

    #[test]
    fn parameters_of_modules_come_from_the_command_line() {
        let options = parse("quiet rd.iguana.debug usb-storage.quirks=1:2:u loop.max_loop=8 console=ttyS0");
        let expected = [("usb_storage", "quirks=1:2:u"), ("loop", "max_loop=8")];
        assert_eq!(options.parameters, expected.map(|(module, value)| (module.to_owned(), value.to_owned())));
        assert_eq!(options.parameters_of("loop"), "max_loop=8");
    }

    #[test]
    fn lists_of_modules_add_up() {
        let options = parse(
            "modprobe.blacklist=nouveau,snd-hda rd.driver.blacklist=a rd.driver.pre=b,c-d rd.driver.pre=e rd.driver.post=f",
        );
        assert_eq!(options.blacklist, ["nouveau", "snd_hda", "a"].map(str::to_owned).into());
        assert_eq!(
            (options.before, options.after),
            (["b", "c_d", "e"].map(str::to_owned).into(), vec!["f".to_owned()])
        );
    }
}
