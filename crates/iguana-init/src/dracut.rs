//! Iguana as a module of dracut: what the hooks in `dracut/50iguana` call. dracut.bootup(7) has their order.
//!
//! dracut loads drivers, brings up the network and switches the root; Iguana runs between, in the place of whatever
//! else would mount the new root.

use crate::boot;
use crate::boot::{Boot, Initrd};
use crate::bounded;
use crate::control;
use crate::handover;
use crate::handover::Handover;
use crate::machine::{memory, mounts};
use crate::report;
use crate::report::{At as _, Failure, Report, Stage};
use crate::supervise;
use crate::supervise::{Verdict, Watchdog};
use anyhow::Context as _;
use config::cmdline;
use config::cmdline::{OnFailure, Settings};
use config::rules::Rules;
use events::Decision;
use hint::hinted;
use rustix::system::RebootCommand;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The first argument of what dracut's hooks call.
pub(crate) const COMMAND: &str = "dracut";

/// More for the command line, in dracut's order: the kernel's own comes last, and the last of an option counts.
const OPTIONS: &str = "/etc/cmdline.d";
const MORE_OPTIONS: &str = "/etc/cmdline";
/// dracut.cmdline(7): the network is wanted though the root does not need it. `rd.neednet=0` undoes it.
const DEMAND: (&str, &str) = ("/etc/cmdline.d/50-iguana.conf", "rd.neednet=1\n");

/// What systemd's generators made of `root=`, and what goes before it (systemd.unit(5), "Unit File Load Path").
const GENERATED: &str = "/run/systemd/generator";
const OVERRIDES: &str = "/run/systemd/system";
const ROOT_UNIT: &str = "sysroot.mount";
/// The new root's mount has nothing left to do once Iguana has ended.
const ROOT_UNIT_TEXT: &str = "\
[Unit]
Description=The new root, which Iguana mounts
DefaultDependencies=no
After=dracut-pre-mount.service
Before=initrd-root-fs.target
[Mount]
What=iguana
Where=/sysroot
";
/// Files there that have systemd wait for the device of `root=`: directory, and how they end.
const WAITS: &[(&str, &str)] =
    &[("initrd-root-device.target.d", "root-device.conf"), ("initrd.target.wants", ".device")];

/// How long systemd may take to read its units anew; it takes less than a second.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// Exit statuses by which the program decides. The scripts in `dracut/50iguana` know them, and take every other one, which
/// a crash may bring about, for a failure that ends the boot.
const GO_ON: u8 = 0;
/// This boot is not Iguana's.
const STEP_ASIDE: u8 = 10;
/// dracut may open its shell.
const SHELL: u8 = 11;
/// Nothing was decided.
const UNDECIDED: u8 = 1;

/// One of the hooks. What it decides is its exit status.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let words: Vec<String> = arguments.collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cmdline", hooks] => cmdline(Path::new(hooks)).into(),
        ["pre-mount"] => pre_mount().into(),
        ["emergency"] => emergency().into(),
        ["died", status] => died(status).into(),
        _ => report::not_for_people(),
    }
}

/// In dracut's hook `cmdline`: whether this boot is Iguana's. Then it sees to it that dracut and systemd bring up the network
/// and leave the root alone.
fn cmdline(hooks: &Path) -> u8 {
    let cmdline = command_line();
    // A trust that cannot be read allows nobody anything; the boot says why.
    let is_refused = Rules::from_directory(Path::new(trust_directory::HOME))
        .map_or(true, |rules| rules.refuse_system(&cmdline));
    if !is_refused && !is_ours(&cmdline, Path::new(control::BUNDLED).exists()) {
        return STEP_ASIDE;
    }
    let report = open_report();
    if let Err(error) = fs::write(DEMAND.0, DEMAND.1) {
        report.warn(format_args!("the network is not demanded: cannot write `{}`: {error}", DEMAND.0));
    }
    if let Err(error) = leave_root_alone(hooks) {
        report.warn(format_args!("dracut may wait for the device of `root=`: {error:#}"));
    }
    GO_ON
}

/// Whether Iguana is asked for, or there is nothing else to do: a `root=` alone is for others.
fn is_ours(cmdline: &str, is_bundled: bool) -> bool {
    let options = cmdline::options(cmdline);
    let is_asked_for = options.keys().any(|name| name.starts_with("rd.iguana."));
    is_asked_for || is_bundled && !options.contains_key("root")
}

/// What dracut takes for the command line.
fn command_line() -> String {
    let mut files: Vec<_> =
        fs::read_dir(OPTIONS).into_iter().flatten().flatten().map(|it| it.path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "conf"));
    files.sort();
    files.extend([MORE_OPTIONS, "/proc/cmdline"].map(Into::into));
    files.iter().map(|path| fs::read_to_string(path).unwrap_or_default() + "\n").collect()
}

/// Speaks to the console and the log, which has a file system of its own.
fn open_report() -> Report {
    let mounted = mounts::own();
    let report = Report::open();
    if let Err(error) = mounted {
        report.warn(format_args!("{error:#}"));
    }
    report
}

/// `root=` names the system that was there before, or one that is still to be installed: nobody is to wait for its
/// device, or to mount it.
fn leave_root_alone(hooks: &Path) -> anyhow::Result<()> {
    if Path::new(GENERATED).join(ROOT_UNIT).exists() {
        override_units()?;
    }
    // Last: a generator that systemd runs again would make them anew.
    for wait in matching(&hooks.join("initqueue/finished"), |name| name.starts_with("devexists-")) {
        fs::remove_file(&wait).with_context(|| format!("cannot remove `{}`", wait.display()))?;
    }
    Ok(())
}

/// Has systemd mount nothing at the new root, and wait for no device of it.
fn override_units() -> anyhow::Result<()> {
    let generated = Path::new(GENERATED);
    let overrides = Path::new(OVERRIDES);
    for (directory, end) in WAITS {
        for wait in matching(&generated.join(directory), |name| name.ends_with(end)) {
            let masked = overrides.join(wait.strip_prefix(generated)?);
            fs::create_dir_all(overrides.join(directory))?;
            symlink("/dev/null", &masked).with_context(|| format!("cannot make `{}`", masked.display()))?;
        }
    }
    fs::write(overrides.join(ROOT_UNIT), ROOT_UNIT_TEXT)?;
    let reloaded = bounded::run(Command::new("systemctl").arg("daemon-reload"), RELOAD_LIMIT);
    let reloaded = reloaded.context("cannot run `systemctl daemon-reload`")?;
    anyhow::ensure!(reloaded.success(), "`systemctl daemon-reload` ended with {reloaded}");
    Ok(())
}

fn matching(directory: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|it| it.file_name().to_str().is_some_and(&is_meant)).map(|it| it.path()).collect()
}

/// In dracut's hook `pre-mount`: the boot. dracut goes on with what is mounted, or opens its shell where that is asked
/// for.
fn pre_mount() -> u8 {
    memory::be_killed_last();
    let cmdline = command_line();
    let (trust, settings) = boot::read_trust(&cmdline);
    let trust = trust.and_then(|trust| refuse_init(&trust.rules, &cmdline).at(Stage::Trust).map(|()| trust));
    let report = open_report();
    if let Err(error) = mounts::early() {
        report.warn(format_args!("{error:#}"));
    }
    let verdict = Boot::new(Initrd::Dracut, &cmdline, &settings, &report).run(trust);
    if let Err(error) = handover::release_store() {
        report.warn(format_args!("the images stay in memory: {error:#}"));
    }
    if let Verdict::HandOver(_) = verdict
        && let Err(error) = exchange::release()
    {
        report.warn(format_args!("what containers left in `/iguana` stays in memory: {error:#}"));
    }
    if let Verdict::HandOver(Handover::SwitchRoot { .. }) = verdict
        && let Err(error) = handover::move_to_run()
    {
        report.warn(format_args!("`/run/iguana` stays a file system of its own: {error:#}"));
    }
    carry_out(verdict, &settings, &report)
}

/// dracut and systemd read `init=` themselves, so that nobody could ignore it for them.
fn refuse_init(rules: &Rules, cmdline: &str) -> anyhow::Result<()> {
    if rules.allows_init(cmdline) {
        return Ok(());
    }
    Err(hinted(
        "the kernel option `init=` is given, and the trust in this initrd does not allow it",
        "boot without it, or list `init` in `command-line.allow` of the trust",
    ))
}

/// In dracut's hook `emergency`, before any shell that is dracut's or systemd's: returns where the trust allows one.
fn emergency() -> u8 {
    let (_, settings) = boot::read_trust(&command_line());
    if !settings.no_shell {
        return SHELL;
    }
    let report = Report::open();
    report.say("dracut asks for a shell");
    follow(OnFailure::Shell, &settings, &report)
}

/// After a hook whose program did not say what comes next: the policy of failures, as PID 1 follows it.
fn died(status: &str) -> u8 {
    let (_, settings) = boot::read_trust(&command_line());
    let report = Report::open();
    // 128 and the number of the signal, as shells count.
    let hint = match status {
        "137" if memory::kills() > 0 => "memory was full: give the machine more",
        "137" => "it was killed, and not for want of memory: a container with `pid: host` may have done that",
        _ => "please report this",
    };
    let error = hinted(format!("the boot program ended without a decision, with the status {status}"), hint);
    report.failure(&Failure { stage: Stage::Boot, job: None, error });
    follow(settings.on_failure, &settings, &report)
}

/// Ends the machine, or asks for dracut's shell.
fn follow(policy: OnFailure, settings: &Settings, report: &Report) -> u8 {
    let mut decided = UNDECIDED;
    supervise::follow(policy, settings, &mut Watchdog::of_others(), report, |why, _, report| {
        report.decided(Decision::Shell, format_args!("on failure: the shell of dracut ({why})"));
        decided = SHELL;
    });
    decided
}

/// Ends the machine where that is asked for.
fn carry_out(verdict: Verdict, settings: &Settings, report: &Report) -> u8 {
    let how = match verdict {
        Verdict::HandOver(Handover::SwitchRoot { .. }) => return GO_ON,
        Verdict::HandOver(Handover::Kexec) => RebootCommand::Kexec,
        Verdict::HandOver(Handover::Reboot) => RebootCommand::Restart,
        Verdict::HandOver(Handover::PowerOff) => RebootCommand::PowerOff,
        Verdict::HandOver(Handover::Halt) => RebootCommand::Halt,
        Verdict::Failed(policy) => return follow(policy, settings, report),
    };
    supervise::end(how, &mut Watchdog::of_others(), report);
    UNDECIDED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_alone_is_for_others() {
        assert!(is_ours("quiet rd.iguana.containers=a", false));
        assert!(is_ours("root=/dev/vda1 rd.iguana.control_url=http://a/b", false));
        assert!(is_ours("quiet", true));
        assert!(!is_ours("root=/dev/vda1 quiet", true));
        assert!(!is_ours("quiet", false), "there is nothing to run");
    }

    /// Whether the dracut module closes systemd's debug shell for this `iguana.conf`, and whether that allows no shell.
    fn closes_debug_shell(rules: &str) -> (bool, bool) {
        let home = tempfile::tempdir().unwrap();
        let trust = home.path().join("etc/containers");
        fs::create_dir_all(&trust).unwrap();
        fs::write(trust.join("iguana.conf"), rules).unwrap();
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dracut/50iguana/module-setup.sh");
        let mut command = Command::new("bash");
        command.args(["-ec", ". \"$0\"; close_debug_shell"]).arg(module);
        command.env("dracutsysrootdir", home.path()).env("initdir", home.path().join("initrd"));
        assert!(command.status().unwrap().success());
        let unit = home.path().join("initrd/etc/systemd/system/debug-shell.service");
        let rules = Rules::from_directory(&trust).unwrap();
        (unit.is_symlink(), rules.settings("").no_shell)
    }

    #[test]
    fn no_spelling_of_a_trust_without_a_shell_leaves_the_debug_shell_open() {
        for closed in [
            "[command-line]\nshell = false\n",
            "command-line.shell=false",
            "command-line = { allow = [\"root#1\"], shell = false }",
            "[command-line]\n\"shell\" = false",
            "'command-line'.'shell'\t= false",
            "[command-line]\n\"sh\\u0065ll\" = false",
            "[command-line]\nallow = [\n\"root\"]\n  shell = false # true",
        ] {
            assert_eq!(closes_debug_shell(closed), (true, true), "{closed}");
        }
        for open in [
            "",
            "# shell = false\n[command-line]\nallow = [\"rd.iguana.on_failure=shell\"]",
            "[command-line]\n shell = true # false",
        ] {
            assert_eq!(closes_debug_shell(open), (false, false), "{open}");
        }
    }

    #[test]
    fn the_mount_of_the_new_root_has_its_place_in_the_order_of_systemd() {
        for line in ["After=dracut-pre-mount.service", "Before=initrd-root-fs.target", "Where=/sysroot"] {
            assert!(ROOT_UNIT_TEXT.lines().any(|it| it == line), "{line}");
        }
    }
}
