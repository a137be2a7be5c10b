//! Iguana as a dracut module: the commands that the hooks in `dracut/50iguana` call. dracut.bootup(7) has their order.
//!
//! dracut loads drivers, brings up the network and switches the root. Iguana runs in between, in place of whatever
//! would mount the new root.

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

/// The first argument of the commands that dracut's hooks call.
pub(crate) const COMMAND: &str = "dracut";

/// Additional command lines, in dracut's order. The kernel's own comes last, and the last occurrence of an option
/// counts.
const OPTIONS: &str = "/etc/cmdline.d";
const MORE_OPTIONS: &str = "/etc/cmdline";
const GIVEN: &str = "/proc/cmdline";
/// Where dracut keeps which first program it was made for: `rd.distroinit=` there is nobody's wish.
const DISTRO_INIT: &str = "distroinit.conf";
/// dracut.cmdline(7): the network is wanted though the root does not need it. `rd.neednet=0` undoes it.
const DEMAND: (&str, &str) = ("/etc/cmdline.d/50-iguana.conf", "rd.neednet=1\n");

/// The name by which systemd runs this program as one of its generators.
pub(crate) const GENERATOR_NAME: &str = "iguana-generator";

/// Where systemd keeps units while it runs: those that its generators made from `root=`, or from the partitions without
/// it, and those that take precedence (systemd.unit(5), "Unit File Load Path").
const UNITS: &str = "/run/systemd";
const GENERATED: [&str; 2] = ["generator", "generator.late"];
const OVERRIDES: &str = "system";
const ROOT_UNIT: &str = "sysroot.mount";
/// Replaces the mount of the new root by a unit that does nothing, because Iguana mounts it.
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
/// Files there that make systemd wait for the device of `root=`: directory, and ending of the name.
const WAITS: &[(&str, &str)] =
    &[("initrd-root-device.target.d", "root-device.conf"), ("initrd.target.wants", ".device")];

/// How long `systemctl daemon-reload` may take; it takes less than a second.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// Exit statuses. The scripts in `dracut/50iguana` know these, and treat any other status, which a crash may cause, as
/// a failure that ends the boot.
const GO_ON: u8 = 0;
/// Iguana has nothing to do in this boot.
const STEP_ASIDE: u8 = 10;
/// dracut may open its shell.
const SHELL: u8 = 11;
/// No decision was made.
const UNDECIDED: u8 = 1;

/// Runs the command of one hook; its exit status is the decision.
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

/// As a generator of systemd (systemd.generator(7)), which runs before any unit: ends a boot whose command line has options
/// that the trust does not allow. By the time of dracut's hooks they may have removed the hooks.
pub(crate) fn generator() -> ExitCode {
    // If the policy is a shell, the hook `cmdline` decides again, and opens it.
    end_refused();
    ExitCode::SUCCESS
}

/// Follows the failure policy if the command line has options of dracut or systemd that the trust does not allow; `None`
/// if it has none.
fn end_refused() -> Option<u8> {
    // The initrd's own files of options are as trusted as the rest of it.
    let refused = match Rules::from_directory(Path::new(trust_directory::HOME)) {
        Ok(rules) => refusal(&rules.refused_of_others(&cmdline::read(GIVEN)))?,
        Err(unreadable) => unreadable,
    };
    let (_, settings) = boot::read_trust(&command_line());
    let report = Report::open();
    report.failure(&Failure::new(Stage::Trust, refused));
    Some(follow(settings.on_failure, &settings, &report))
}

fn refusal(options: &[String]) -> Option<anyhow::Error> {
    let (first, others) = options.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    Some(hinted(
        format!(
            "the trust directory of this initrd does not allow the kernel option `{first}`{more}: dracut and systemd follow it"
        ),
        "boot without it, or add it to `command-line.allow` of the trust directory",
    ))
}

/// Hook `cmdline`: decides whether Iguana handles this boot. If so, makes dracut and systemd bring up the network and
/// not mount the root.
fn cmdline(hooks: &Path) -> u8 {
    if let Some(status) = end_refused() {
        return status;
    }
    let cmdline = command_line();
    let is_refused = Rules::from_directory(Path::new(trust_directory::HOME))
        .map_or(true, |rules| rules.refuse_system(&cmdline) || rules.refuse_found_root(&cmdline));
    if !is_refused && !is_ours(&cmdline, Path::new(control::BUNDLED).exists()) {
        return STEP_ASIDE;
    }
    let report = open_report();
    if let Err(error) = fs::write(DEMAND.0, DEMAND.1) {
        report.warn(format_args!("cannot require the network: cannot write `{}`: {error}", DEMAND.0));
    }
    if let Err(error) = leave_root_alone(hooks) {
        report.warn(format_args!("dracut may wait for the device of `root=`: {error:#}"));
    }
    GO_ON
}

/// Whether Iguana is requested, or a workflow is bundled and there is no `root=`: a `root=` alone is a normal boot.
fn is_ours(cmdline: &str, is_bundled: bool) -> bool {
    let options = cmdline::options(cmdline);
    let is_asked_for = options.keys().any(|name| name.starts_with("rd.iguana."));
    is_asked_for || is_bundled && !options.contains_key("root")
}

/// The command line as dracut composes it.
fn command_line() -> String {
    let mut files: Vec<_> =
        fs::read_dir(OPTIONS).into_iter().flatten().flatten().map(|it| it.path()).collect();
    files.retain(|path| {
        path.extension().is_some_and(|it| it == "conf") && path.file_name().is_none_or(|it| it != DISTRO_INIT)
    });
    files.sort();
    files.extend([MORE_OPTIONS, GIVEN].map(Into::into));
    files.iter().map(|path| cmdline::read(path) + "\n").collect()
}

/// Opens console and log. The log has a file system of its own.
fn open_report() -> Report {
    let mounted = mounts::own();
    let report = Report::open();
    if let Err(error) = mounted {
        report.warn(format_args!("{error:#}"));
    }
    report
}

/// Prevents dracut and systemd from waiting for the device of `root=` and from mounting it: it may be the previous
/// system, or one that is not installed yet.
fn leave_root_alone(hooks: &Path) -> anyhow::Result<()> {
    if override_units(Path::new(UNITS))? {
        reload_units()?;
    }
    // This comes last: a generator that systemd runs again would recreate the files.
    for wait in matching(&hooks.join("initqueue/finished"), |name| name.starts_with("devexists-")) {
        fs::remove_file(&wait).with_context(|| format!("cannot remove `{}`", wait.display()))?;
    }
    Ok(())
}

/// Overrides systemd's units, so that it neither mounts the new root nor waits for its device; `false` if it would not.
fn override_units(units: &Path) -> anyhow::Result<bool> {
    let generated = GENERATED.map(|name| units.join(name));
    if !generated.iter().any(|directory| directory.join(ROOT_UNIT).exists()) {
        return Ok(false);
    }
    let overrides = units.join(OVERRIDES);
    fs::create_dir_all(&overrides)?;
    for directory in &generated {
        for (name, end) in WAITS {
            for wait in matching(&directory.join(name), |name| name.ends_with(end)) {
                let masked = overrides.join(wait.strip_prefix(directory)?);
                fs::create_dir_all(overrides.join(name))?;
                symlink("/dev/null", &masked)
                    .with_context(|| format!("cannot create `{}`", masked.display()))?;
            }
        }
    }
    fs::write(overrides.join(ROOT_UNIT), ROOT_UNIT_TEXT)?;
    Ok(true)
}

fn reload_units() -> anyhow::Result<()> {
    let reloaded = bounded::run(Command::new("systemctl").arg("daemon-reload"), RELOAD_LIMIT);
    let reloaded = reloaded.context("cannot run `systemctl daemon-reload`")?;
    anyhow::ensure!(reloaded.success(), "`systemctl daemon-reload` ended with {reloaded}");
    Ok(())
}

fn matching(directory: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|it| it.file_name().to_str().is_some_and(&is_meant)).map(|it| it.path()).collect()
}

/// Hook `pre-mount`: runs the boot. Then dracut continues with what is mounted, or opens its shell if that was decided.
fn pre_mount() -> u8 {
    memory::protect_from_oom_killer();
    let cmdline = command_line();
    let (trust, settings) = boot::read_trust(&cmdline);
    let trust = trust.and_then(|trust| refuse_init(&trust.rules, &cmdline).at(Stage::Trust).map(|()| trust));
    let report = open_report();
    if let Err(error) = mounts::early() {
        report.warn(format_args!("{error:#}"));
    }
    let verdict = Boot::new(Initrd::Dracut, &cmdline, &settings, &report).run(trust);
    if let Err(error) = handover::release_store() {
        report.warn(format_args!("cannot free the images: {error:#}"));
    }
    if let Verdict::HandOver(_) = verdict
        && let Err(error) = exchange::release()
    {
        report.warn(format_args!("cannot free the files in `/iguana`: {error:#}"));
    }
    if let Verdict::HandOver(Handover::SwitchRoot { .. }) = verdict
        && let Err(error) = handover::move_to_run()
    {
        report.warn(format_args!("cannot move `/run/iguana` out of its file system: {error:#}"));
    }
    carry_out(verdict, &settings, &report)
}

/// Refuses an `init=` that the trust does not allow. dracut and systemd read it themselves, so Iguana cannot ignore it.
fn refuse_init(rules: &Rules, cmdline: &str) -> anyhow::Result<()> {
    if rules.allows_init(cmdline) {
        return Ok(());
    }
    Err(hinted(
        "the trust directory of this initrd does not allow the kernel option `init=`",
        "boot without it, or add `init` to `command-line.allow` of the trust directory",
    ))
}

/// Hook `emergency`, before any shell of dracut or systemd: returns only if the trust allows a shell.
fn emergency() -> u8 {
    let (_, settings) = boot::read_trust(&command_line());
    if !settings.no_shell {
        return SHELL;
    }
    let report = Report::open();
    report.say("dracut asks for a shell");
    follow(OnFailure::Shell, &settings, &report)
}

/// Applies the failure policy, as PID 1 does it, after a hook's program ended without a decision.
fn died(status: &str) -> u8 {
    let (_, settings) = boot::read_trust(&command_line());
    let report = Report::open();
    // Shells report 128 plus the number of the signal.
    let hint = match status {
        "137" if memory::kills() > 0 => "out of memory: give the machine more",
        "137" => "it was killed, but not by lack of memory: a container with `pid: host` may have killed it",
        _ => "please report this",
    };
    let error = hinted(format!("the boot program exited without a decision (status {status})"), hint);
    report.failure(&Failure::new(Stage::Boot, error));
    follow(settings.on_failure, &settings, &report)
}

/// Ends the machine, or requests dracut's shell.
fn follow(policy: OnFailure, settings: &Settings, report: &Report) -> u8 {
    let mut decided = UNDECIDED;
    supervise::follow(policy, settings, &mut Watchdog::of_others(), report, |why, _, report| {
        report.decided(Decision::Shell, format_args!("on failure: dracut's shell ({why})"));
        decided = SHELL;
    });
    decided
}

/// Ends the machine if the verdict says so.
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
    fn a_root_option_alone_is_left_to_others() {
        assert!(is_ours("quiet rd.iguana.containers=a", false));
        assert!(is_ours("root=/dev/vda1 rd.iguana.control_url=http://a/b", false));
        assert!(is_ours("quiet", true));
        assert!(!is_ours("root=/dev/vda1 quiet", true));
        assert!(!is_ours("quiet", false), "there is nothing to run");
    }

    /// dracut has a hook of its own before the shells of its shutdown (dracut-lib.sh, `emergency_shell --shutdown`).
    #[test]
    fn a_hook_precedes_every_shell_of_dracut() {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dracut/50iguana/module-setup.sh");
        let script = ". \"$0\"; moddir=M initdir=$1
            inst_simple() { :; }; inst_multiple() { :; }; dracut_need_initqueue() { :; }; install_authorities() { :; }
            inst_hook() { echo \"$1 ${3##*/}\"; }; install";
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(module).arg(home.path()).env("dracutsysrootdir", home.path());
        let hooks = String::from_utf8(command.output().unwrap().stdout).unwrap();
        for hook in ["emergency", "shutdown-emergency"] {
            assert!(hooks.lines().any(|line| line == format!("{hook} iguana-emergency.sh")), "{hooks}");
        }
    }

    /// Whether the dracut module disables systemd's debug shell for this `iguana.conf`, and whether the file allows no
    /// shell.
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
            "[command-line]\n\"shel\\x6c\" = false",
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

    /// systemd-gpt-auto-generator(8) writes to the latter of the two directories.
    #[test]
    fn a_root_that_systemd_found_by_itself_is_not_mounted_either() {
        for generated in GENERATED {
            let home = tempfile::tempdir().unwrap();
            assert!(!override_units(home.path()).unwrap());
            let wait = "initrd-root-device.target.d/50-root-device.conf";
            for file in [ROOT_UNIT, wait] {
                let file = home.path().join(generated).join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
            assert!(override_units(home.path()).unwrap());
            let overrides = home.path().join(OVERRIDES);
            assert_eq!(fs::read_to_string(overrides.join(ROOT_UNIT)).unwrap(), ROOT_UNIT_TEXT);
            assert_eq!(fs::read_link(overrides.join(wait)).unwrap(), Path::new("/dev/null"));
        }
    }

    #[test]
    fn the_mount_of_the_new_root_is_ordered_by_systemd() {
        for line in ["After=dracut-pre-mount.service", "Before=initrd-root-fs.target", "Where=/sysroot"] {
            assert!(ROOT_UNIT_TEXT.lines().any(|it| it == line), "{line}");
        }
    }
}
