//! The options of the other programs that read the command line in an initrd: dracut and systemd. They have hundreds, and
//! each release has more, so a trust with `command-line.allow` takes none of them, except those here that do no harm and
//! those that it lists.

use crate::cmdline;
use crate::rules::Rules;
use std::ffi::OsString;

/// Options that decide which system is started. A `root=` or `init=` has an effect on Iguana as well.
const SYSTEM: &[&str] = &["root", "init"];
/// Other names of `init=` in dracut without systemd (`modules.d/99base/init.sh`).
const ALSO_INIT: &[&str] = &["real_init", "rd.distroinit"];
/// What systemd does without a `root=` (systemd-gpt-auto-generator(8)).
const NO_ROOT: (&str, &str) = ("root", "gpt-auto");
/// White space for systemd (`string-util.h`, `WHITESPACE`) and for C's isspace(3), by which dracut splits.
const WHITE_SPACE: [&str; 2] = [" \t\n\r", " \t\n\r\u{b}\u{c}"];

/// How the names of options of dracut and systemd begin: dracut.cmdline(7), kernel-command-line(7). `-` is written as `_`,
/// which systemd takes for the same (`proc_cmdline_key_streq`).
const OF_OTHERS: &[&str] = &[
    "rd.",
    "rd_",
    "systemd.",
    "root",
    "mount.",
    "usr",
    "luks",
    "fstab",
    "veritytab",
    "netroot",
    "nfs",
    "iscsi",
    "nvmf",
    "fcoe",
    "resume",
    "cifs",
    "evm",
    "ecryptfs",
    "masterkey",
    "overlay",
    "live",
    "virtiofs",
    "ostree",
    "inst.",
    // Programs that set up a new system at its first start (cloud-init, Ignition).
    "ci.",
    "cc:",
    "cloud_config_url",
    "network_config",
    "ignition.",
    "coreos.",
    "flatcar.",
    "autoinstall",
];
/// The same, as whole names.
const OF_OTHERS_WHOLE: &[&str] = &["ds", "url"];
/// Options of the kernel alone, whose values may have letters that a shell or udev treats specially. dracut pastes the
/// values of others into scripts and udev rules (`ip=`, `ifname=`).
const OF_KERNEL: &[&str] = &["BOOT_IMAGE", "acpi_osi", "blkdevparts", "dyndbg", "memmap", "mtdparts", "pci"];
/// The letters besides letters and digits of addresses, names and paths, which they do not treat specially.
const PLAIN: &[u8] = b".:,_-/[]@%+=*";
/// Words by which init starts no more than a shell (systemd(1), "Kernel command line"; init(8) of sysvinit).
const RESCUE: &[&str] = &["rescue", "emergency", "single", "s", "S", "1"];
/// Those that describe the root: whoever may name any root may also say how it is mounted.
const OF_ROOT: &[&str] = &["root", "mount.usr", "netroot", "nfsroot"];
/// Those of them that only show more, wait longer, leave out modules, configure the network, or ask for a shell, which
/// `command-line.shell` is about. A name that ends with a dot or `_` stands for all that begin with it.
const HARMLESS: &[&str] = &[
    "rd.iguana.",
    "rd.break",
    "rd.shell",
    "rd.debug",
    "rd.info",
    "rd.quiet",
    "rd.udev.",
    "rd.plymouth",
    "rd.retry",
    "rd.timeout",
    "rd.driver.blacklist",
    "rd.neednet",
    "rd.net.",
    "rd.route",
    "rd.peerdns",
    "rd.bootif",
    "rd.znet",
    "systemd.log_",
    "systemd.show_status",
    "systemd.journald.",
    "systemd.unified_cgroup_hierarchy",
    "rootwait",
    "rootdelay",
];
/// Words with capital letters that are no variables of the environment, which the kernel makes of the words that it does
/// not know.
const NO_VARIABLES: &[&str] = &["BOOT_IMAGE", "BOOTIF", "BusLogic"];
/// The variables in small letters that usual programs read (curl(1)).
const SMALL_VARIABLES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// The environment that the kernel gives the first process (init/main.c, `envp_init`).
const KERNEL_ENVIRONMENT: &[(&str, &str)] = &[("HOME", "/"), ("TERM", "linux")];

impl Rules {
    /// Whether a command line names a system to start, by `root=` or `init=`, that it may not name. Other programs
    /// must not use the option then either.
    #[must_use]
    pub fn refuse_system(&self, cmdline: &str) -> bool {
        SYSTEM.iter().any(|key| self.refuse_option(key, cmdline))
    }

    /// Whether there is no `root=`, and systemd may not look for a root by itself.
    #[must_use]
    pub fn refuse_found_root(&self, cmdline: &str) -> bool {
        !has_root_for_all(cmdline) && !self.allow_option(NO_ROOT.0, NO_ROOT.1)
    }

    /// Whether a command line has no `init=`, or one that is allowed.
    #[must_use]
    pub fn allows_init(&self, cmdline: &str) -> bool {
        !self.refuse_option("init", cmdline)
    }

    /// Whether a command line has this option with a forbidden value, as any of the programs that parse it would see
    /// it.
    fn refuse_option(&self, key: &str, cmdline: &str) -> bool {
        words(cmdline).iter().any(|word| self.is_refused_option(key, word))
    }

    fn is_refused_option(&self, key: &str, word: &str) -> bool {
        let pair = word.split_once('=');
        pair.is_some_and(|(name, value)| known_name(name) == key && !self.allow_option(key, value))
    }

    /// The words by which a command line names a system to start that it may not name.
    pub(super) fn refused_systems(&self, cmdline: &str) -> Vec<String> {
        let is_refused = |word: &String| SYSTEM.iter().any(|key| self.is_refused_option(key, word));
        words(cmdline).into_iter().filter(is_refused).collect()
    }

    /// The options of dracut and systemd on a command line, other than `root=` and `init=`, that the trust does not allow.
    /// They have an effect before Iguana can do anything about it.
    #[must_use]
    pub fn refused_of_others(&self, cmdline: &str) -> Vec<String> {
        let mut refused: Vec<String> =
            words(cmdline).into_iter().filter(|word| !self.allow_word_of_others(word)).collect();
        refused.sort();
        refused.dedup();
        refused
    }

    /// Of the variables that the kernel put into the environment of the first process, those that the new system's init
    /// may have: the kernel's own, and those that the trust allows on the command line.
    #[must_use]
    pub fn allowed_variables(&self, given: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
        let is_of_kernel = |(name, value): &(OsString, OsString)| {
            KERNEL_ENVIRONMENT
                .iter()
                .any(|own| (name.as_os_str(), value.as_os_str()) == (own.0.as_ref(), own.1.as_ref()))
        };
        let is_listed = |(name, value): &(OsString, OsString)| {
            self.lists(&name.to_string_lossy(), &value.to_string_lossy())
        };
        given.into_iter().filter(|variable| is_of_kernel(variable) || is_listed(variable)).collect()
    }

    fn allow_word_of_others(&self, word: &str) -> bool {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let plain = name.replace('-', "_");
        let begins = |names: &[&str]| names.iter().any(|known| plain.starts_with(known));
        let is_harmless = HARMLESS.iter().any(|known| match known.ends_with(['.', '_']) {
            true => plain.starts_with(known),
            false => plain == *known,
        });
        if !is_plain(word) && !is_of_kernel(name) {
            return self.lists_exactly(word);
        }
        let is_judged_elsewhere = SYSTEM.contains(&known_name(name));
        let is_of_others = begins(OF_OTHERS) || OF_OTHERS_WHOLE.contains(&name) || RESCUE.contains(&word);
        let has_effect = is_of_others || is_variable(name) || is_argument_of_init(word);
        if is_judged_elsewhere || is_harmless || !has_effect {
            return true;
        }
        self.lists(name, value) || begins(OF_ROOT) && self.lists_any("root")
    }
}

/// The name by which Iguana knows an option: `init` for all names of that.
pub(super) fn known_name(name: &str) -> &str {
    if ALSO_INIT.contains(&name) { "init" } else { name }
}

/// Whether `root=` or `init=`.
pub(super) fn selects_system(name: &str) -> bool {
    SYSTEM.contains(&name)
}

/// Whether it is a name of a variable of the environment, such as `SYSTEMD_UNIT_PATH`, or of a function that bash takes
/// from there (`BASH_FUNC_type%%`). The kernel makes none of a name with a dot: that is a module's parameter. Its own
/// parameters have small letters.
fn is_variable(name: &str) -> bool {
    let is_of_parameter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let is_parameter = name.bytes().all(is_of_parameter) && !SMALL_VARIABLES.contains(&name);
    !name.contains('.') && !is_parameter && !NO_VARIABLES.contains(&name)
}

/// Whether no letter of a word has a meaning for a shell or in a udev rule.
fn is_plain(word: &str) -> bool {
    word.bytes().all(|letter| letter.is_ascii_alphanumeric() || PLAIN.contains(&letter))
}

fn is_of_kernel(name: &str) -> bool {
    OF_KERNEL.contains(&name) || name.ends_with(".dyndbg")
}

/// Whether it is an option for init, which the kernel passes on: systemd takes its own options as arguments, too
/// (systemd(1), `--unit=`, `--confirm-spawn`). Dashes alone only separate.
fn is_argument_of_init(word: &str) -> bool {
    word.starts_with('-') && word.bytes().any(|byte| byte != b'-')
}

/// Whether dracut and systemd both see a `root=`: not where only one of them takes quotes or white space so.
fn has_root_for_all(cmdline: &str) -> bool {
    // Up to the first letter that they read differently.
    let plain = cmdline.split(['\'', '\\']).next().unwrap_or_default();
    let is_root = |word: &str| word.starts_with("root=");
    let has_root = |words: Vec<String>| words.iter().any(|word| is_root(word));
    plain.split_ascii_whitespace().any(is_root)
        && has_root(cmdline::words(plain))
        && WHITE_SPACE
            .iter()
            .all(|spaces| has_root(cmdline::words_between(plain, |letter| spaces.contains(letter))))
}

/// The words of a command line as each program splits it: the kernel; dracut's shell, which also splits inside quotes
/// (dracut-lib.sh, `_dogetarg`); systemd, which also accepts single quotes (`proc_cmdline_extract_first`), and before version
/// 252 backslashes. White space for one of them can be part of a value for another.
fn words(cmdline: &str) -> Vec<String> {
    let mut words = cmdline::words(cmdline);
    for spaces in WHITE_SPACE {
        words.extend(cmdline::words_between(cmdline, |letter| spaces.contains(letter)));
    }
    let within = |word: &String| word.split(char::is_whitespace).skip(1).map(Into::into).collect::<Vec<_>>();
    words.extend(words.iter().flat_map(within).collect::<Vec<String>>());
    let unquoted = words.iter().flat_map(|word| [word.replace('\'', ""), word.replace(['\'', '\\'], "")]);
    words.extend(unquoted.collect::<Vec<_>>());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rules(allow: &str) -> Rules {
        Rules::parse(&format!("[command-line]\nallow = [{allow}]"), Path::new("/")).unwrap()
    }

    #[test]
    fn only_listed_or_harmless_options_of_dracut_and_systemd_are_accepted() {
        let strict = rules("'rd.luks.uuid=1', 'systemd.unit'");
        for refused in [
            "mount.usr=/dev/sdb",
            "mount.usrfstype=ext4",
            "mount.usrflags=subvol=x",
            "rootflags=subvol=x",
            "roothash=0",
            "usrhash=0",
            "netroot=iscsi:1.2.3.4::::x",
            "resume=/dev/sdb",
            "fstab=yes",
            "luks.name=a=b",
            "rd.luks.uuid=2",
            "rd.cmdline=ask",
            "rd.systemd.unit=x.target",
            "rd_LUKS_UUID=1",
            "systemd.gpt_auto=1",
            "systemd.gpt-auto",
            "systemd.volatile=yes",
            "systemd.wants=debug-shell.service",
            "systemd.mask=dracut-cmdline.service",
            "systemd.run=/bin/sh",
            "systemd.set_credential=a:b",
            "systemd.setenv=A=b",
            "systemd.debug_shell",
            "systemd.clock_usec=1",
            "SYSTEMD_UNIT_PATH=/x",
            "LD_PRELOAD=/x",
            "BASH_FUNC_type%%=x",
            "\"BASH_FUNC_[%%=() { /bin/sh; }\"",
            "Mixed=1",
            "https_proxy=http://x",
            "--confirm-spawn",
            "-- --unit=evil.target",
            "-b",
            "sys\\temd.mask=x",
            "sys\\'temd.mask=x'",
            "\"x systemd.unknown y\"",
            "syste'md.mask=x'",
            "ifname=e7\",RUN+=e\"/bin/sh\\x20-c\\x20id>/run/x\":??:??:??:??:??:??",
            "ip=10.0.0.2::10.0.0.1:24:x;id>/tmp/x;echo${IFS}x:eth0:none",
            "vconsole.keymap=`id`",
            "unknown=$(id)",
            "BOOT_IMAGE=\"x ip=$(id)\"",
            "rd.driver.pre=brd",
            "single",
            "-- 1",
            "emergency",
            "ds=nocloud;s=http://x",
            "cc: ssh_authorized_keys: [x] end_cc",
        ] {
            assert_eq!(strict.refused_of_others(&format!("quiet {refused} ro")).len().min(1), 1, "{refused}");
        }
        let harmless = "BOOT_IMAGE=(hd0,gpt2)/vmlinuz memmap=1M$0x1000 a.dyndbg=\"file b.c\" ip=[2001:db8::1]::[fe80::1]:64:h:e0:none \
            ifname=e0:52:54:00:12:34:56 rd.driver.blacklist=a initrd=/x init_on_alloc=1 console=ttyS0 quiet ro rd.debug rd.break=mount rd.shell=1 \
            rd.neednet=0 ip=dhcp rd.net.timeout.dhcp=3 systemd.log_level=debug systemd.show-status=1 rd.iguana.debug \
            root=/dev/vda init=/x real_init=/x rootwait rd.luks.uuid=1 systemd.unit=x net.ifnames=0 MODULE.x=1 --- -- 3";
        assert_eq!(strict.refused_of_others(harmless), Vec::<String>::new());
        let lax = Rules::parse("[command-line]\nshell = false", Path::new("/")).unwrap();
        assert_eq!(lax.refused_of_others("systemd.mask=x mount.usr=/dev/sdb"), Vec::<String>::new());
    }

    #[test]
    fn permission_to_name_any_root_includes_its_mount_options() {
        let options = "root=/dev/vda rootfstype=ext4 rootflags=ro mount.usr=/dev/vdb netroot=nfs";
        assert_eq!(rules("'root'").refused_of_others(options), Vec::<String>::new());
        let one = rules("'root=/dev/vda'").refused_of_others(options);
        assert_eq!(one, ["mount.usr=/dev/vdb", "netroot=nfs", "rootflags=ro", "rootfstype=ext4"]);
    }

    #[test]
    fn the_new_system_has_the_variables_that_are_allowed() {
        let given =
            ["HOME=/", "TERM=linux", "TERM=/x", "LD_PRELOAD=/x", "SYSTEMD_LOG_LEVEL=debug", "HTTP_PROXY=x"];
        let pair =
            |word: &&str| word.split_once('=').map(|(name, value)| (name.into(), value.into())).unwrap();
        let allowed = |rules: Rules| {
            let pairs = rules.allowed_variables(given.iter().map(pair).collect());
            pairs
                .iter()
                .map(|(name, value)| format!("{}={}", name.display(), value.display()))
                .collect::<Vec<_>>()
        };
        assert_eq!(allowed(Rules::default()), given);
        assert_eq!(allowed(rules("")), ["HOME=/", "TERM=linux"]);
        let some = rules("'SYSTEMD_LOG_LEVEL', 'HTTP_PROXY=y'");
        assert_eq!(allowed(some), ["HOME=/", "TERM=linux", "SYSTEMD_LOG_LEVEL=debug"]);
    }

    /// Without a `root=`, systemd takes the one that lies beside the firmware's boot partition.
    #[test]
    fn without_root_the_root_that_systemd_finds_is_refused() {
        let refuse = |allow: &str| rules(allow).refuse_found_root("quiet");
        assert!(refuse("") && refuse("'root=LABEL=a'"));
        assert!(!refuse("'root'") && !refuse("'root=gpt-auto'"));
        assert!(!rules("").refuse_found_root("quiet root=x") && !Rules::default().refuse_found_root("quiet"));
        let good = ["x=\"a b\" root=LABEL=a x='b", "root=LABEL=a", "a\troot=LABEL='a'"];
        assert!(good.iter().all(|line| !rules("'root=LABEL=a'").refuse_found_root(line)));
        // Each is none for one of them.
        for none in [
            "x=\"a root=LABEL=a\"",
            "x='a root=LABEL=a'",
            "x\\ root=LABEL=a",
            "\"root=LABEL=a\"",
            "x\u{a0}root=LABEL=a",
            "x\u{b}root=LABEL=a",
        ] {
            assert!(rules("'root=LABEL=a'").refuse_found_root(&format!("quiet {none}")), "{none}");
        }
    }
}
