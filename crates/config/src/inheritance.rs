//! What the new system's init inherits from the kernel: its arguments, its environment, and the command line, which init
//! and other programs of the new system read in `/proc/cmdline`. Who may edit the command line must not decide through
//! them what the new system runs.

use crate::rules::Rules;
use std::ffi::OsString;

/// What the new system gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inheritance {
    /// The arguments of init: words that the kernel does not know, and all words after `--`.
    pub arguments: Vec<OsString>,
    /// The environment of init.
    pub environment: Vec<(OsString, OsString)>,
    /// The text to show in place of the kernel's command line, if that has words which are not allowed.
    pub cmdline: Option<String>,
    /// Those words.
    pub withheld: Vec<String>,
}

impl Rules {
    /// What the new system gets of what the kernel gave to the first process, and of its command line: everything
    /// without `command-line.allow`, and else what a dracut initrd would accept. A variable must be listed.
    #[must_use]
    pub fn inheritance(
        &self,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        cmdline: &str,
    ) -> Inheritance {
        let is_allowed = |argument: &OsString| self.withheld(&argument.to_string_lossy()).is_empty();
        let withheld = self.withheld(cmdline);
        Inheritance {
            arguments: arguments.into_iter().filter(is_allowed).collect(),
            environment: self.allowed_variables(environment),
            cmdline: (!withheld.is_empty()).then(|| self.allowed_words(cmdline)),
            withheld,
        }
    }

    fn withheld(&self, text: &str) -> Vec<String> {
        let mut withheld = self.refused_of_others(text);
        withheld.extend(self.refused_systems(text));
        withheld.sort();
        withheld.dedup();
        withheld
    }

    /// The allowed words of a command line. Those with quotes are left out, because programs read them differently.
    fn allowed_words(&self, cmdline: &str) -> String {
        let is_plain = |word: &&str| !word.contains(['"', '\'', '\\']);
        let words = cmdline.split_whitespace().filter(is_plain);
        let mut allowed = words.filter(|word| self.withheld(word).is_empty()).collect::<Vec<_>>().join(" ");
        allowed.push('\n');
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rules(allow: &str) -> Rules {
        Rules::parse(&format!("[command-line]\nallow = [{allow}]"), Path::new("/")).unwrap()
    }

    fn inherited(rules: &Rules, cmdline: &str) -> (String, Option<String>) {
        let arguments = cmdline.split(' ').map(Into::into).collect();
        let inherited = rules.inheritance(arguments, Vec::new(), cmdline);
        let arguments: Vec<_> = inherited.arguments.iter().map(|it| it.to_str().unwrap()).collect();
        (arguments.join(" "), inherited.cmdline)
    }

    #[test]
    fn the_new_system_gets_only_allowed_words() {
        let strict = rules("'root=LABEL=a', 'systemd.unit=graphical.target'");
        let good = "BOOT_IMAGE=/x console=ttyS0 ro quiet net.ifnames=0 loop.max_part=1 root=LABEL=a splash";
        assert_eq!(inherited(&strict, good), (good.into(), None));
        for evil in [
            "systemd.run=/bin/evil",
            "systemd.debug_shell",
            "systemd.unit=rescue.target",
            "systemd.set-credential=a:b",
            "init=/bin/sh",
            "root=LABEL=b",
            "LD_PRELOAD=/evil.so",
            "--unit=rescue.target",
            "-b",
            "single",
            "S",
            "1",
            "rescue",
            "emergency",
            "ds=nocloud;s=http://evil/",
            "cloud-config-url=http://evil",
            "ignition.config.url=http://evil",
            "\"x systemd.run=/bin/evil\"",
            "'systemd.run=/bin/evil x'",
            "sys\\temd.run=/bin/evil",
            "x=\"a root=LABEL=b\"",
        ] {
            let (arguments, cmdline) = inherited(&strict, &format!("quiet {evil} ro"));
            assert_eq!(cmdline.as_deref(), Some("quiet ro\n"), "{evil}");
            if !evil.contains(['"', '\'', '\\', ' ']) {
                assert_eq!(arguments, "quiet ro");
            }
        }
        let unchanged = "quiet systemd.run=/bin/x -- single A=b";
        assert_eq!(inherited(&Rules::default(), unchanged), (unchanged.into(), None));
    }
}
