//! Real containers on the developer's own machine. They need root, as in a boot.

use super::image::Image;
use super::*;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit, test_kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

mod confinement;
mod init_system;
mod ipc;
mod kernel_action;
mod kernel_files;
mod limits;
mod modules;
mod rights;
mod stopped;
mod terminal;
mod volumes;

use limits::{cgroups_of, cgroups_of_lab};
use terminal::Screen;

/// Makes this test program the PID 1 of a container when it is called by that name, so that tests can start real
/// containers. The loader calls the functions in this section before `main`.
#[allow(unsafe_code, reason = "the loader's list of functions has no safe way in")]
#[used]
#[unsafe(link_section = ".init_array")]
static INIT_OF_TESTS: extern "C" fn() = {
    extern "C" fn be_init() {
        if process_name().as_deref() == Some(INIT_NAME) {
            init();
            process::exit(0);
        }
    }
    be_init
};

fn process_name() -> Option<String> {
    std::env::args().next()
}

/// Debian's busybox-static, which CI and `cargo xtask test` install.
const BUSYBOX: &str = "/bin/busybox";
/// Time limit for what takes milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// A directory with a busybox image, and a plan for a container of it.
struct Lab {
    image: Image,
    plan: Plan,
    runtime: Runtime,
    log: PathBuf,
    directory: Scratch,
}

impl Lab {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "containers need root: run `sudo -E cargo test`");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("iguana-containers-{}-{number}", process::id()));
        let layer = directory.join("layer");
        busybox(&layer);
        let image = Image {
            name: "lab".into(),
            layers: vec![layer],
            env: vec![("PATH".into(), "/bin".into()), ("A".into(), "image".into())],
            directory: "/".into(),
            ..Image::default()
        };
        let plan = Plan {
            mounts: Vec::new(),
            env: Vec::new(),
            stop_grace: SOON,
            ..Plan::new(directory.join(format!("lab-{number}")), directory.join("sysroot"))
        };
        Self {
            image,
            plan,
            runtime: Runtime::open(),
            log: directory.join("log"),
            directory: Scratch(directory),
        }
    }

    fn unprivileged() -> Self {
        let mut lab = Self::new();
        lab.plan.privileged = false;
        lab
    }

    fn with_short_grace() -> Self {
        let mut lab = Self::new();
        lab.plan.stop_grace = Duration::from_millis(300);
        lab
    }

    fn start(&self) -> Container {
        self.try_start().unwrap()
    }

    fn try_start(&self) -> anyhow::Result<Container> {
        self.runtime.start_from(self.image.clone(), &self.plan)
    }

    fn stdio(&self) -> Stdio {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        Stdio::Log(Arc::new(log.into()))
    }

    fn script(&self, script: &str) -> Program {
        let command = ProgramCommand::Exactly(["sh", "-c", script].map(Into::into).into());
        Program { command, ..Program::of_image(self.stdio()) }
    }

    /// Runs a program to its end; returns its output.
    fn said(&self, container: &Container, program: &Program) -> String {
        let before = self.log().len();
        let ended = container.run(program).unwrap().wait(Some(SOON)).unwrap();
        let said = self.log()[before..].to_owned();
        assert!(ended.is_success(), "{ended}: {said}");
        said
    }

    fn says(&self, container: &Container, script: &str) -> String {
        self.said(container, &self.script(script)).trim().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.directory.0.join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    }
}

fn busybox(layer: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "srv"] {
        fs::create_dir_all(layer.join(directory)).unwrap();
    }
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(BUSYBOX, layer.join("bin/busybox")).expect("containers need busybox-static");
    let list = process::Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(list).unwrap().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n")
        .unwrap();
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lives(process: Pid) -> bool {
    // A zombie does not count as alive.
    test_kill_process(process).is_ok()
        && !fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid()))
            .is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn steps_share_one_container() {
    let lab = Lab::new();
    let container = lab.start();
    assert_eq!(lab.says(&container, "echo first > /srv/note; echo $$ > /srv/pid; echo one"), "one");
    assert_eq!(
        lab.says(&container, "cat /srv/note; [ $$ != $(cat /srv/pid) ] && echo another"),
        "first\nanother"
    );
    let ended = container.run(&lab.script("exit 7")).unwrap().wait(None).unwrap();
    assert_eq!(ended, ProgramExit::With(7));
    let ended = container.run(&lab.script("kill -9 $$")).unwrap().wait(None).unwrap();
    assert_eq!(ended, ProgramExit::With(137));
}

#[test]
fn the_configuration_of_the_image_can_be_overridden() {
    let mut lab = Lab::new();
    lab.image.entrypoint =
        ["sh", "-c", "echo \"$A $B $C in $(pwd) as $(id -u), at home in $HOME: $0\""].map(Into::into).into();
    lab.image.command = vec!["from image".into()];
    lab.plan.env = [("A", "plan"), ("B", "plan")].map(|(key, value)| (key.into(), value.into())).into();
    let container = lab.start();
    let mut program = Program::of_image(lab.stdio());
    assert_eq!(lab.said(&container, &program), "plan plan  in / as 0, at home in /root: from image\n");
    program.command = ProgramCommand::FromImage { entrypoint: None, command: Some(vec!["from plan".into()]) };
    program.env = vec![("B".into(), "program".into()), ("C".into(), "program".into())];
    program.directory = Some("/srv/new".into());
    program.user = Some("guest".into());
    let expected = "plan program program in /srv/new as 1000, at home in /tmp: from plan\n";
    assert_eq!(lab.said(&container, &program), expected);
}

#[test]
fn a_program_that_cannot_be_executed_is_refused_and_the_container_continues() {
    let lab = Lab::new();
    // elf(5), `e_machine`: a processor that does not exist.
    let mut foreign = fs::read(BUSYBOX).unwrap();
    foreign[18..20].fill(0xFE);
    let path = lab.image.layers[0].join("foreign");
    fs::write(&path, foreign).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let container = lab.start();
    let refused = |words: &[&str]| {
        let command = ProgramCommand::Exactly(words.iter().map(|word| (*word).into()).collect());
        let error = container.run(&Program { command, ..lab.script("") }).map(drop).unwrap_err();
        assert!(hint::of(&error).is_some(), "{error:#}");
        format!("{error:#}")
    };
    assert!(refused(&["no-such-program"]).contains("program `no-such-program` not found in the image"));
    assert!(refused(&["/etc/passwd"]).contains("cannot execute `/etc/passwd`: Permission denied"));
    assert!(refused(&["/foreign"]).contains("cannot execute `/foreign`: Exec format error"));
    assert!(refused(&["sh", &"x".repeat(200 << 10)]).contains("Argument list too long"));
    assert!(refused(&[]).contains("there is no command to execute"));
    let no_user = Program { user: Some("nobody-here".into()), ..lab.script("") };
    assert!(container.run(&no_user).map(drop).unwrap_err().to_string().contains("`nobody-here`"));
    assert_eq!(lab.says(&container, "echo alive"), "alive");
}

#[test]
fn a_megabyte_of_arguments_is_refused_with_a_hint() {
    let lab = Lab::new();
    let container = lab.start();
    let command = ProgramCommand::Exactly(["echo".into(), "x".repeat(1 << 20)].into());
    let error = container.run(&Program { command, ..lab.script("") }).map(drop).unwrap_err();
    assert_eq!(hint::of(&error), Some("its arguments or its environment are too long: pass them in a file"));
    let many = ["sh".into(), "-c".into(), "echo $#".into()].into_iter();
    let command = ProgramCommand::Exactly(many.chain((0..10_000).map(|_| "x".repeat(100))).collect());
    assert_eq!(lab.said(&container, &Program { command, ..lab.script("") }), "9999\n");
}

#[test]
fn a_root_that_cannot_be_built_is_reported_and_leaves_nothing() {
    let mut lab = Lab::new();
    lab.plan.mounts = vec![Mount::bind("/etc/passwd/none", "/x")];
    let error = lab.try_start().map(drop).unwrap_err();
    assert!(
        format!("{error:#}").contains("cannot open or create the volume `/etc/passwd/none`"),
        "{error:#}"
    );
    assert!(!lab.plan.scratch.exists());
}

#[test]
fn several_programs_run_at_once_and_stop_on_request() {
    let lab = Lab::new();
    let mut container = lab.start();
    let service = "trap 'echo stopping; exit 3' TERM; touch /srv/ready; while :; do sleep 0.01; done";
    let mut service = container.run(&lab.script(service)).unwrap();
    until("readiness", || {
        let mut check = container.run(&lab.script("[ -e /srv/ready ]")).unwrap();
        check.wait(Some(SOON)).unwrap().is_success()
    });
    assert_eq!(service.try_wait(), None);
    let start = Instant::now();
    container.stop();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(
        (service.try_wait(), service.wait(None).unwrap()),
        (Some(ProgramExit::With(3)), ProgramExit::With(3))
    );
    assert!(lab.log().ends_with("stopping\n"), "{}", lab.log());
    assert!(container.run(&lab.script("true")).is_err());
}

#[test]
fn the_image_chooses_how_it_is_stopped() {
    let mut lab = Lab::new();
    lab.image.stop_signal = Some(libc::SIGUSR1);
    let mut container = lab.start();
    let script = "trap 'exit 5' USR1; trap '' TERM; echo up; while :; do sleep 0.01; done";
    let mut program = container.run(&lab.script(script)).unwrap();
    until("start", || !lab.log().is_empty());
    container.stop();
    assert_eq!(program.try_wait(), Some(ProgramExit::With(5)));
}

#[test]
fn a_program_that_ignores_the_stop_signal_is_killed() {
    let lab = Lab::with_short_grace();
    let mut container = lab.start();
    let mut program = container.run(&lab.script("trap '' TERM; echo up; sleep 1000; sleep 1000")).unwrap();
    until("start", || !lab.log().is_empty());
    let start = Instant::now();
    container.stop();
    assert!(start.elapsed() >= lab.plan.stop_grace && start.elapsed() < SOON);
    assert_eq!(program.try_wait(), Some(ProgramExit::With(137)));
}

#[test]
fn a_limit_ends_a_program_and_not_its_container() {
    let limit = Duration::from_millis(100);
    let patient = Lab::new();
    let container = patient.start();
    let ended = container.run(&patient.script("sleep 1000")).unwrap().wait(Some(limit)).unwrap();
    assert_eq!(ended, ProgramExit::TimedOut { limit, by_force: false });
    let lab = Lab::with_short_grace();
    let container = lab.start();
    // The shell ignores the signal, and so do its children.
    let script = "trap '' TERM; echo up; sleep 1000; sleep 1000";
    let mut stubborn = container.run(&lab.script(script)).unwrap();
    until("start", || !lab.log().is_empty());
    let ended = stubborn.wait(Some(limit)).unwrap();
    assert_eq!(ended, ProgramExit::TimedOut { limit, by_force: true });
    assert_eq!(stubborn.wait(None).unwrap(), ended);
    until("end of all", || lab.says(&container, "ps | grep -c '[s]leep 1000' || true") == "0");
}

#[test]
fn orphans_are_reaped() {
    let lab = Lab::new();
    let container = lab.start();
    lab.says(&container, "for n in 1 2 3; do (sleep 0.01 &); done; sleep 0.2");
    assert_eq!(lab.says(&container, "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"), "0");
}

#[test]
fn the_exit_of_pid_1_ends_all_processes() {
    let lab = Lab::new();
    let container = lab.start();
    let mut program = container.run(&lab.script("sleep 1000")).unwrap();
    kill_process(container.link.0.pid().unwrap(), Signal::KILL).unwrap();
    assert_eq!(program.wait(Some(SOON)).unwrap(), ProgramExit::Killed(libc::SIGKILL));
    assert!(container.root().is_err() && !container.has_path(Path::new("/bin/sh")));
    assert!(container.run(&lab.script("true")).is_err());
}

#[test]
fn a_container_ends_with_all_its_processes_and_mounts() {
    let lab = Lab::new();
    let container = lab.start();
    let mut program = container.run(&lab.script("sleep 1000")).unwrap();
    drop(container);
    assert_eq!(program.try_wait(), Some(ProgramExit::With(137)));
    assert!(!lab.plan.scratch.exists());
}

#[test]
fn the_files_of_steps_and_paths_are_seen_from_both_sides() {
    let lab = Lab::new();
    let container = lab.start();
    let files = container.step_files();
    lab.says(&container, "echo -n 'to container ' > /run/iguana/output");
    let script = "cd /run/iguana; cat output; echo from container >> output; touch new || echo denied";
    let program = Program { user: Some("guest".into()), ..lab.script(script) };
    assert!(lab.said(&container, &program).ends_with("denied\n"));
    assert_eq!(files.read(exchange::StepFile::Output).unwrap(), b"to container from container\n");
    lab.says(&container, "mount -t tmpfs none /srv; ln -s /bin /srv/link; touch /srv/here");
    let has = |path: &str| container.has_path(Path::new(path));
    assert!(has("/srv/here") && has("/srv/link/sh") && has("/run/iguana/output"));
    assert!(!has("/srv/not") && !has("/usr/lib") && !has("/srv/link/../../../../usr/lib"));
}

#[test]
fn mounts_of_every_kind() {
    let mut lab = Lab::new();
    let (one, two, fixed) = (lab.directory("one"), lab.directory("two"), lab.directory("fixed"));
    for (directory, text) in [(&one, "one"), (&two, "two")] {
        fs::write(directory.join("both"), text).unwrap();
        fs::write(directory.join(text), text).unwrap();
    }
    fs::set_permissions(lab.image.layers[0].join("srv"), fs::Permissions::from_mode(0o2750)).unwrap();
    let mount = |target: &str, source, read_only| Mount { source, target: target.into(), read_only };
    lab.plan.mounts = vec![
        mount("/fixed", MountSource::Bind(fixed.clone()), true),
        mount("/made", MountSource::Bind(lab.directory.0.join("made/here")), false),
        mount("/file", MountSource::Bind(one.join("one")), false),
        mount("/srv", MountSource::Tmpfs { size: Some(1 << 20) }, false),
        mount("/memory", MountSource::Tmpfs { size: None }, false),
        mount("/single", MountSource::Image { layers: vec![one.clone()] }, false),
        mount("/double", MountSource::Image { layers: vec![one, two] }, false),
        mount("/nothing", MountSource::Image { layers: vec![] }, false),
    ];
    let container = lab.start();
    let says = |script: &str| lab.says(&container, script);
    assert_eq!(says("touch /fixed/x 2>&1 || true"), "touch: /fixed/x: Read-only file system");
    assert_eq!(says("touch /made/x; cat /file"), "one");
    assert!(lab.directory.0.join("made/here/x").exists());
    assert_eq!(
        says("stat -c %a /srv /memory; head -c 2000000 /dev/zero 2>/dev/null > /srv/x; stat -c %s /srv/x"),
        "2750\n1777\n1048576"
    );
    assert_eq!(
        says("cat /single/both; ls /double; cat /double/both"),
        "onebothone\ntwo\ntwo".replace("onebothone", "oneboth\none")
    );
    assert_eq!(
        says("for m in single double nothing; do touch /$m/x 2>/dev/null || echo no; done"),
        "no\nno\nno"
    );
    fs::write(fixed.join("machine"), "").unwrap();
    assert_eq!(says("ls /fixed"), "machine");
}

#[test]
fn a_read_only_root_has_a_few_places_to_write() {
    let mut lab = Lab::new();
    lab.plan.read_only = true;
    lab.image.directory = "/made/for/work".into();
    let container = lab.start();
    let script = "pwd; stat -c %a /tmp
        touch /x 2>/dev/null || echo root is fixed
        touch /tmp/x /run/x /var/tmp/x /dev/shm/iguana-test && rm /dev/shm/iguana-test && echo these are not
        [ -e /run/iguana ] && echo exchange";
    assert_eq!(lab.says(&container, script), "/made/for/work\n1777\nroot is fixed\nthese are not\nexchange");
}

#[test]
fn processes_that_outlive_pid_1_end_with_the_container() {
    let mut lab = Lab::new();
    lab.plan.pid_host = true;
    let container = lab.start();
    let orphan = lab.says(&container, "setsid sleep 1000 >/dev/null 2>&1 & echo $!");
    let orphan = Pid::from_raw(orphan.parse().unwrap()).unwrap();
    kill_process(container.link.0.pid().unwrap(), Signal::KILL).unwrap();
    until("the end of PID 1", || container.link.0.pid().is_none());
    assert!(lives(orphan));
    drop(container);
    until("the end of the orphan", || !lives(orphan));
    assert!(cgroups_of_lab(&lab).is_empty());
}

#[test]
fn shared_memory_is_the_containers_own() {
    let (one, two) = (Lab::new(), Lab::new());
    let (first, second) = (one.start(), two.start());
    assert_eq!(
        one.says(&first, "touch /dev/shm/of-first; stat -f -c %T /dev/shm; stat -c %a /dev/shm"),
        "tmpfs\n1777"
    );
    assert_eq!(two.says(&second, "ls /dev/shm"), "");
    assert!(!Path::new("/dev/shm/of-first").exists());
    // On the machine, it may be mounted or not.
    one.says(&first, "[ ! -d /dev/mqueue ] || grep -q ' /dev/mqueue mqueue ' /proc/mounts");
}

#[test]
fn the_machines_root_is_not_below_the_containers() {
    let lab = Lab::new();
    let container = lab.start();
    // Unmounts the root, and enters the container's mount namespace again, with what is left as the root.
    let script = "cd /proc/self/ns; umount -l / && echo away
        nsenter --mount=mnt /bin/ls /etc >/dev/null 2>&1 && echo out || echo nothing";
    assert_eq!(lab.says(&container, script), "away\nnothing");
}

#[test]
fn programs_start_with_the_usual_process_attributes() {
    // Programs must not inherit these from the caller.
    rustix::process::umask(Mode::from_raw_mode(0o002));
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1023), ..own }).unwrap();
    for lab in [Lab::new(), Lab::unprivileged()] {
        let container = lab.start();
        let script = "umask; ulimit -Sn; cat /proc/self/oom_score_adj";
        assert_eq!(lab.says(&container, script), "0022\n1024\n500");
    }
}

#[test]
fn variables_may_have_several_lines() {
    let mut lab = Lab::new();
    lab.plan.env = vec![("TEXT".into(), "one\n\"two\"\n\nfour\\n".into())];
    assert_eq!(lab.says(&lab.start(), "printf %s \"$TEXT\""), "one\n\"two\"\n\nfour\\n");
}

#[test]
fn a_stop_token_stops_the_program_that_is_waited_for_and_no_other() {
    let lab = Lab::with_short_grace();
    let container = lab.start();
    let stop_token = StopToken::default();
    let start = Instant::now();
    for (script, by_force) in [("sleep 1000", false), ("trap '' TERM; sleep 1000; sleep 1000", true)] {
        let mut program = container.run(&lab.script(script)).unwrap();
        let ended = std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                stop_token.call();
            });
            program.wait_unless(&stop_token, Some(SOON)).unwrap()
        });
        assert_eq!(ended, ProgramExit::Stopped { by_force });
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    stop_token.call();
    let mut next = container.run(&lab.script("sleep 1000")).unwrap();
    assert_eq!(next.wait_unless(&stop_token, Some(SOON)).unwrap(), ProgramExit::Stopped { by_force: false });
    let mut last = container.run(&lab.script("exit 4")).unwrap();
    assert_eq!(last.wait_unless(&stop_token, Some(SOON)).unwrap(), ProgramExit::With(4));
}

#[test]
fn a_fork_of_the_zygote_holds_nothing_of_other_containers() {
    let (lab, mut other) = (Lab::new(), Lab::new());
    other.runtime = lab.runtime.clone();
    let (first, second) = (lab.start(), other.start());
    let sockets = |container: &Container| -> HashSet<PathBuf> {
        let directory = format!("/proc/{}/fd", container.link.0.pid().unwrap().as_raw_pid());
        let files = fs::read_dir(directory).unwrap().flatten().flat_map(|entry| fs::read_link(entry.path()));
        files.filter(|file| file.to_string_lossy().starts_with("socket:")).collect()
    };
    // Two threads hold the one of its own orders.
    assert_eq!((sockets(&first).len(), sockets(&second).len()), (1, 1), "its own orders, and no others");
    assert!(sockets(&first).is_disjoint(&sockets(&second)));
    drop(first);
    assert_eq!(other.says(&second, "echo $PPID"), "1");
}

#[test]
fn a_zygote_that_was_killed_is_replaced() {
    let lab = Lab::new();
    let container = lab.start();
    let killed = lab.runtime.zygote.pid().unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    until("the end of the zygote", || !lives(killed));
    assert_eq!(lab.says(&container, "echo as before"), "as before");
    drop(container);
    let container = lab.start();
    assert_eq!(lab.says(&container, "echo from another"), "from another");
    assert_ne!(lab.runtime.zygote.pid(), Some(killed));
}

/// All that a container could leave behind in this process and on its machine.
fn what_is_there(directory: &Path) -> Vec<String> {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let children = fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(|thread| {
        fs::read_to_string(thread.path().join("children")).ok().filter(|list| !list.is_empty())
    });
    let mut there = vec![
        format!("{} descriptors", count("/proc/self/fd")),
        format!("{} threads", count("/proc/self/task")),
        format!("{mounts} mounts"),
        format!(
            "{} loop devices",
            fs::read_dir("/sys/block")
                .unwrap()
                .flatten()
                .filter(|device| device.path().join("loop/backing_file").exists())
                .count()
        ),
    ];
    there.extend(children.map(|list| format!("children: {list}")));
    there.extend(cgroups_of(process::id()).iter().map(|cgroup| cgroup.display().to_string()));
    there.extend(fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path().display().to_string()));
    there.sort();
    there
}

/// For [`two_hundred_containers_leave_nothing`], which runs it in a process of its own.
#[test]
#[ignore = "counts what this process has, so no other test may run in it"]
fn in_isolation_two_hundred_containers_leave_nothing() {
    let mut lab = Lab::new();
    (lab.plan.memory, lab.plan.pids) = (Some(64 << 20), Some(50));
    let run = |count: u32| {
        (0..count).for_each(|_| {
            let container = lab.start();
            lab.says(
                &container,
                "echo; sleep 1000 & mount -t tmpfs none /tmp; echo > /tmp/x; setsid sleep 1000 &",
            );
        })
    };
    run(3);
    // Leftovers named after the container would be the same before and after the next runs, so they are checked here.
    assert!(cgroups_of(process::id()).is_empty() && !lab.plan.scratch.exists());
    // A stopping thread takes some time.
    std::thread::sleep(Duration::from_secs(1));
    let before = what_is_there(&lab.directory.0);
    run(200);
    until(&format!("as before: {before:#?}"), || what_is_there(&lab.directory.0) == before);
}

#[test]
fn two_hundred_containers_leave_nothing() {
    let program = std::env::current_exe().unwrap();
    let name = "tests::in_isolation_two_hundred_containers_leave_nothing";
    let ran = process::Command::new(program).args(["--exact", name, "--ignored"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}
