//! Parser for the options of Iguana on the kernel command line.
//!
//! Words are split as in the kernel (`Documentation/admin-guide/kernel-parameters.rst`): at white space, except
//! inside double quotes. Options that are not Iguana's keep the meaning that dracut.cmdline(7) gives them.

use crate::network_options::NetworkOptions;
use indexmap::IndexMap;
use std::path::Path;
pub use workflow::OnFailurePolicy as OnFailure;

/// How the machine's watchdog is used, if it has one: `rd.iguana.watchdog=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    /// Timeout in seconds, 10 to 3600: the machine restarts if Iguana does not feed the watchdog for so long. `None`
    /// for `off`.
    pub seconds: Option<u16>,
    /// Whether the watchdog keeps running after the handover, so that the new system has to feed it:
    /// `SECONDS,handover`.
    pub is_handed_over: bool,
}

impl Default for Watchdog {
    fn default() -> Self {
        // The value that systemd suggests for services; almost all drivers support a minute.
        Self { seconds: Some(60), is_handed_over: false }
    }
}

impl Watchdog {
    fn parse(value: &str) -> Option<Self> {
        if value == "off" {
            return Some(Self { seconds: None, is_handed_over: false });
        }
        let (number, is_handed_over) = match value.strip_suffix(",handover") {
            Some(number) => (number, true),
            None => (value, false),
        };
        let seconds = number.parse().ok().filter(|seconds| (10..=3600).contains(seconds))?;
        Some(Self { seconds: Some(seconds), is_handed_over })
    }
}

/// The settings from the kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// URL of the workflow: `rd.iguana.control_url=`.
    pub control_url: Option<String>,
    /// Images to run one after the other without a workflow: `rd.iguana.containers=a,b`.
    pub containers: Vec<String>,
    /// `rd.iguana.debug`: logs more, and keeps images and containers.
    pub debug: bool,
    /// `rd.iguana.on_failure=`.
    pub on_failure: OnFailure,
    /// Whether no shell is available, whatever the other options say. The trust sets this, no option does.
    pub no_shell: bool,
    /// `root=`: an existing root file system on a disk.
    pub root: Option<String>,
    /// `init=`: the first program of the new system.
    pub init: Option<String>,
    /// `ip=`, `nameserver=` and the like.
    pub network: NetworkOptions,
    /// `proxy=` (dracut's url-lib, linuxrc): the URL of the proxy for http and https.
    pub proxy: Option<String>,
    /// `rd.iguana.no_proxy=a,b`: hosts that are reached without the proxy, as in the variable `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// `rd.iguana.watchdog=`.
    pub watchdog: Watchdog,
    /// Warnings about options that were not understood, for the log. Each is a sentence with the literal in
    /// backticks.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Parses a kernel command line. It never fails: a mistake becomes a warning, because a machine with a mistyped
    /// option must still boot far enough to report it.
    #[must_use]
    pub fn parse(cmdline: &str) -> Self {
        Self::parse_allowed(cmdline, |_, _| true)
    }

    /// The same, but ignores each option for whose key and value `is_allowed` returns false.
    #[must_use]
    pub fn parse_allowed(cmdline: &str, is_allowed: impl Fn(&str, &str) -> bool) -> Self {
        let mut settings = Self::default();
        for word in with_whole_lists(words(cmdline)) {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            match is_allowed(key, value) {
                true => settings.take(key, value),
                false => settings.warn(key, value, "the trust directory of this initrd does not allow it"),
            }
        }
        settings.warn_of_unused();
        settings
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "rd.iguana.control_url" | "rd.iguana.containers" | "rd.iguana.no_proxy" if value.is_empty() => {
                self.warn(key, value, "it needs a value");
            }
            "rd.iguana.control_url" => self.control_url = some(value),
            "rd.iguana.containers" => {
                self.containers = value
                    .split(',')
                    .map(str::trim)
                    .filter(|image| !image.is_empty())
                    .map(Into::into)
                    .collect();
            }
            "rd.iguana.debug" => self.debug = !matches!(value, "0" | "no" | "false"),
            "rd.iguana.on_failure" => match OnFailure::parse(value) {
                Some(policy) => self.on_failure = policy,
                None => self.warn(key, value, "expected `reboot`, `shell`, `poweroff` or `local`"),
            },
            "rd.iguana.watchdog" => match Watchdog::parse(value) {
                Some(watchdog) => self.watchdog = watchdog,
                None => self.warn(key, value, "expected `off`, 10 to 3600 seconds, or `SECONDS,handover`"),
            },
            "proxy" => self.proxy = some(value),
            "rd.iguana.no_proxy" => self.no_proxy = some(value),
            "root" => self.root = some(value),
            "init" => self.init = some(value),
            _ if self.network.take(key, value) => {}
            _ if has_iguana_prefix(key) => self.warn(key, value, "unknown option"),
            _ => {}
        }
    }

    /// Warns about options that have no effect together with another option, or without one.
    fn warn_of_unused(&mut self) {
        if self.control_url.is_some() && !self.containers.is_empty() {
            let images = self.containers.join(",");
            self.warn("rd.iguana.containers", &images, "`rd.iguana.control_url` takes precedence");
        }
        if let (Some(hosts), None) = (self.no_proxy.clone(), &self.proxy) {
            self.warn("rd.iguana.no_proxy", &hosts, "it has no effect without `proxy=`");
        }
    }

    fn warn(&mut self, key: &str, value: &str, expected: &str) {
        let given = if value.is_empty() { key.to_owned() } else { format!("{key}={value}") };
        self.warnings.push(format!("kernel option `{given}` is ignored: {expected}"));
    }
}

/// Whether `key` is an option of Iguana, or similar to one.
fn has_iguana_prefix(key: &str) -> bool {
    let key = key.strip_prefix("rd.").unwrap_or(key).to_ascii_lowercase();
    key.strip_prefix("iguana")
        .is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric()))
}

/// All options of a kernel command line by name. The last of a repeated option wins. An option without `=` has no
/// value.
#[must_use]
pub fn options(cmdline: &str) -> IndexMap<String, Option<String>> {
    let option = |word: String| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (word, None),
    };
    words(cmdline).into_iter().map(option).collect()
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// The command line in a file; empty if there is none. A byte that is not UTF-8 must not hide the rest of the line from the
/// trust directory's rules, because dracut and systemd read on.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Splits at white space outside double quotes, and removes the quotes.
#[must_use]
pub fn words(cmdline: &str) -> Vec<String> {
    words_between(cmdline, char::is_whitespace)
}

/// Joins the words of a list of images that was written with blanks after its commas. Only a word that can be the name of an
/// image in a registry continues it: `rd.iguana.containers=a, quiet` has one image.
fn with_whole_lists(words: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        let is_image = word.contains('/') && !word.contains('=') && !word.starts_with('/');
        match joined.last_mut() {
            Some(list) if is_image && list.starts_with("rd.iguana.containers=") && list.ends_with(',') => {
                list.push_str(&word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// The same with another definition of white space.
pub(super) fn words_between(cmdline: &str, is_space: impl Fn(char) -> bool) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quoted = false;
    for letter in cmdline.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if is_space(letter) && !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_iguana_is_read() {
        let settings = Settings::parse(
            "BOOT_IMAGE=x rd.iguana.containers=one,two:3 \
             rd.iguana.debug rd.iguana.on_failure=shell root=/dev/vda1 init=/bin/x nameserver=9.9.9.9 nameserver=2001:db8::53 \
             proxy=http://p:3128 rd.iguana.no_proxy=a,b quiet",
        );
        assert_eq!(settings.containers, ["one", "two:3"]);
        for list in [
            "\"rd.iguana.containers=r/one, r/two:3 ,\" quiet",
            "rd.iguana.containers=r/one, r/two:3, quiet x=/y",
        ] {
            assert_eq!(Settings::parse(list).containers, ["r/one", "r/two:3"], "{list}");
        }
        let url = Settings::parse("rd.iguana.control_url=http://a/b.yaml").control_url;
        assert_eq!(url.as_deref(), Some("http://a/b.yaml"));
        assert!(settings.debug);
        assert_eq!(settings.on_failure, OnFailure::Shell);
        assert_eq!(settings.root.as_deref(), Some("/dev/vda1"));
        assert_eq!(settings.init.as_deref(), Some("/bin/x"));
        assert_eq!(settings.network.name_servers.len(), 2);
        assert_eq!(settings.proxy.as_deref(), Some("http://p:3128"));
        assert_eq!(settings.no_proxy.as_deref(), Some("a,b"));
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn the_watchdog_has_a_timeout_and_can_be_stopped() {
        let watchdog = |cmdline: &str| Settings::parse(cmdline).watchdog;
        assert_eq!(watchdog(""), Watchdog { seconds: Some(60), is_handed_over: false });
        assert_eq!(watchdog("rd.iguana.watchdog=off").seconds, None);
        let handed_over = Watchdog { seconds: Some(120), is_handed_over: true };
        assert_eq!(watchdog("rd.iguana.watchdog=120,handover"), handed_over);
        for odd in ["", "=", "=9", "=3601", "=on", "=60,", "=off,handover"] {
            let settings = Settings::parse(&format!("rd.iguana.watchdog{odd}"));
            assert_eq!((settings.watchdog, settings.warnings.len()), (Watchdog::default(), 1), "{odd}");
        }
    }

    #[test]
    fn a_byte_that_is_not_text_hides_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"quiet x=\xff root=/dev/sdb").unwrap();
        assert_eq!(Settings::parse(&read(file.path())).root.as_deref(), Some("/dev/sdb"));
        assert_eq!(read("/nonexistent"), "");
    }

    #[test]
    fn quotes_hold_white_space_together() {
        let settings = Settings::parse("rd.iguana.control_url=\"/a b\" \"init=/x y\"");
        assert_eq!(settings.control_url.as_deref(), Some("/a b"));
        assert_eq!(settings.init.as_deref(), Some("/x y"));
    }

    #[test]
    fn options_that_are_not_understood_are_named() {
        let settings = Settings::parse("rd.iguana.on_failure=explode rd.iguana.controlurl=x");
        assert_eq!(settings.on_failure, OnFailure::Reboot);
        assert_eq!(settings.warnings.len(), 2);
        assert!(settings.warnings[0].contains("`rd.iguana.on_failure=explode`"));
        assert!(settings.warnings[1].contains("unknown option"));
    }

    #[test]
    fn no_option_of_ours_is_ignored_silently() {
        for (cmdline, words) in [
            ("rd.iguana.unheard=1", "`rd.iguana.unheard=1` is ignored: unknown option"),
            ("rd.iguana", "`rd.iguana` is ignored"),
            ("iguana.debug", "`iguana.debug` is ignored"),
            ("rd.Iguana.debug", "`rd.Iguana.debug` is ignored"),
            ("rd.iguana_debug", "`rd.iguana_debug` is ignored"),
            ("rd.iguana.control_url=", "`rd.iguana.control_url` is ignored: it needs a value"),
            ("rd.iguana.containers", "`rd.iguana.containers` is ignored: it needs a value"),
            ("rd.iguana.no_proxy=a", "it has no effect without `proxy=`"),
            ("rd.iguana.control_url=/x rd.iguana.containers=a,b", "`rd.iguana.containers=a,b` is ignored"),
        ] {
            let warnings = Settings::parse(cmdline).warnings;
            assert_eq!(warnings.len(), 1, "{cmdline}: {warnings:?}");
            assert!(warnings[0].contains(words), "{cmdline}: {warnings:?}");
        }
        assert!(
            Settings::parse("iguanas=1 rd.iguanas.x quiet proxy=x rd.iguana.no_proxy=a").warnings.is_empty()
        );
    }
}
