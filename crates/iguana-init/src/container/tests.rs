//! Real containers on the developer's own machine. They need root, as a boot has it.

use super::image::Image;
use super::*;
use iguana_core::hint;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Debian's busybox-static, which CI and `cargo xtask test` install.
const BUSYBOX: &str = "/bin/busybox";
/// For whatever is a matter of milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// A folder with a busybox image, and a plan for a container of it.
struct Lab {
    image: Image,
    plan: Plan,
    log: PathBuf,
    folder: Scratch,
}

impl Lab {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "containers need root: run `sudo -E cargo test`");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("iguana-containers-{}-{number}", process::id()));
        let layer = folder.join("layer");
        busybox(&layer);
        let image = Image {
            name: "lab".into(),
            layers: vec![layer],
            env: vec![("PATH".into(), "/bin".into()), ("A".into(), "image".into())],
            folder: "/".into(),
            stop_signal: libc::SIGTERM,
            ..Image::default()
        };
        let plan = Plan {
            scratch: folder.join("scratch"),
            mounts: Vec::new(),
            env: Vec::new(),
            read_only: false,
            privileged: true,
            pid_host: false,
            stop_grace: SOON,
        };
        Self { image, plan, log: folder.join("log"), folder: Scratch(folder) }
    }

    fn unprivileged() -> Self {
        let mut lab = Self::new();
        lab.plan.privileged = false;
        lab
    }

    fn impatient() -> Self {
        let mut lab = Self::new();
        lab.plan.stop_grace = Duration::from_millis(300);
        lab
    }

    fn start(&self) -> Container {
        start_from(self.image.clone(), &self.plan).unwrap()
    }

    fn script(&self, script: &str) -> Program {
        let command = Command::Exactly(["sh", "-c", script].map(Into::into).into());
        Program { command, ..Program::of_image(Stdio::Log(self.log.clone())) }
    }

    /// Runs a program to its end; what it said.
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

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.0.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

fn busybox(layer: &Path) {
    for folder in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "srv"] {
        fs::create_dir_all(layer.join(folder)).unwrap();
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
    // One that has ended and is not reaped does not live.
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
    assert_eq!(ended, Ended::With(7));
    let ended = container.run(&lab.script("kill -9 $$")).unwrap().wait(None).unwrap();
    assert_eq!(ended, Ended::With(137));
}

#[test]
fn what_the_image_says_can_be_changed() {
    let mut lab = Lab::new();
    lab.image.entrypoint =
        ["sh", "-c", "echo \"$A $B $C in $(pwd) as $(id -u), at home in $HOME: $0\""].map(Into::into).into();
    lab.image.command = vec!["from image".into()];
    lab.plan.env = [("A", "plan"), ("B", "plan")].map(|(key, value)| (key.into(), value.into())).into();
    let container = lab.start();
    let mut program = Program::of_image(Stdio::Log(lab.log.clone()));
    assert_eq!(lab.said(&container, &program), "plan plan  in / as 0, at home in /root: from image\n");
    program.command = Command::FromImage { entrypoint: None, command: Some(vec!["from plan".into()]) };
    program.env = vec![("B".into(), "program".into()), ("C".into(), "program".into())];
    program.folder = Some("/srv/new".into());
    program.user = Some("guest".into());
    let expected = "plan program program in /srv/new as 1000, at home in /tmp: from plan\n";
    assert_eq!(lab.said(&container, &program), expected);
}

#[test]
fn what_cannot_be_executed_is_refused_and_the_container_goes_on() {
    let lab = Lab::new();
    let container = lab.start();
    let refused = |words: &[&str]| {
        let command = Command::Exactly(words.iter().map(|word| (*word).into()).collect());
        let error = container.run(&Program { command, ..lab.script("") }).map(drop).unwrap_err();
        assert!(hint::of(&error).is_some(), "{error:#}");
        format!("{error:#}")
    };
    assert!(refused(&["no-such-program"]).contains("there is no program `no-such-program`"));
    assert!(refused(&["/etc/passwd"]).contains("cannot execute `/etc/passwd`: Permission denied"));
    assert!(refused(&["sh", &"x".repeat(200 << 10)]).contains("Argument list too long"));
    assert!(refused(&[]).contains("nothing is to be executed"));
    let no_user = Program { user: Some("nobody-here".into()), ..lab.script("") };
    assert!(container.run(&no_user).map(drop).unwrap_err().to_string().contains("`nobody-here`"));
    assert_eq!(lab.says(&container, "echo alive"), "alive");
}

#[test]
fn a_root_that_cannot_be_built_is_told_and_leaves_nothing() {
    let mut lab = Lab::new();
    lab.plan.mounts = vec![Mount::bind("/etc/passwd/none", "/x")];
    let error = start_from(lab.image.clone(), &lab.plan).map(drop).unwrap_err();
    assert!(format!("{error:#}").contains("cannot make the volume `/etc/passwd/none`"), "{error:#}");
    assert!(!lab.plan.scratch.exists());
}

#[test]
fn several_programs_run_at_once_and_stop_when_asked() {
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
    assert_eq!((service.try_wait(), service.wait(None).unwrap()), (Some(Ended::With(3)), Ended::With(3)));
    assert!(lab.log().ends_with("stopping\n"), "{}", lab.log());
    assert!(container.run(&lab.script("true")).is_err());
}

#[test]
fn the_image_chooses_how_it_is_stopped() {
    let mut lab = Lab::new();
    lab.image.stop_signal = libc::SIGUSR1;
    let mut container = lab.start();
    let script = "trap 'exit 5' USR1; trap '' TERM; echo up; while :; do sleep 0.01; done";
    let mut program = container.run(&lab.script(script)).unwrap();
    until("start", || !lab.log().is_empty());
    container.stop();
    assert_eq!(program.try_wait(), Some(Ended::With(5)));
}

#[test]
fn what_does_not_stop_is_stopped_by_force() {
    let lab = Lab::impatient();
    let mut container = lab.start();
    let mut program = container.run(&lab.script("trap '' TERM; echo up; sleep 1000; sleep 1000")).unwrap();
    until("start", || !lab.log().is_empty());
    let start = Instant::now();
    container.stop();
    assert!(start.elapsed() >= lab.plan.stop_grace && start.elapsed() < SOON);
    assert_eq!(program.try_wait(), Some(Ended::With(137)));
}

#[test]
fn a_limit_ends_a_program_and_not_its_container() {
    let lab = Lab::impatient();
    let container = lab.start();
    let limit = Duration::from_millis(100);
    let ended = container.run(&lab.script("sleep 1000")).unwrap().wait(Some(limit)).unwrap();
    assert_eq!(ended, Ended::TimedOut { limit, by_force: false });
    // The shell ignores the signal, and so does what it starts.
    let mut stubborn = container.run(&lab.script("trap '' TERM; sleep 1000; sleep 1000")).unwrap();
    let ended = stubborn.wait(Some(limit)).unwrap();
    assert_eq!(ended, Ended::TimedOut { limit, by_force: true });
    assert_eq!(stubborn.wait(None).unwrap(), ended);
    assert_eq!(lab.says(&container, "ps | grep -c '[s]leep 1000' || true"), "0");
}

#[test]
fn orphans_are_reaped() {
    let lab = Lab::new();
    let container = lab.start();
    lab.says(&container, "for n in 1 2 3; do (sleep 0.01 &); done; sleep 0.2");
    assert_eq!(lab.says(&container, "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"), "0");
}

#[test]
fn the_end_of_process_1_is_the_end_of_all() {
    let lab = Lab::new();
    let container = lab.start();
    let mut program = container.run(&lab.script("sleep 1000")).unwrap();
    kill_process(container.link.0.pid().unwrap(), Signal::KILL).unwrap();
    assert_eq!(program.wait(Some(SOON)).unwrap(), Ended::Killed(libc::SIGKILL));
    assert!(container.root().is_err() && !container.has_path(Path::new("/bin/sh")));
    assert!(container.run(&lab.script("true")).is_err());
}

#[test]
fn a_container_takes_everything_with_it() {
    let lab = Lab::new();
    let container = lab.start();
    let mut program = container.run(&lab.script("sleep 1000")).unwrap();
    drop(container);
    assert_eq!(program.try_wait(), Some(Ended::With(137)));
    assert!(!lab.plan.scratch.exists());
}

#[test]
fn the_exchange_folder_and_paths_are_seen_from_both_sides() {
    let lab = Lab::new();
    let container = lab.start();
    let output = container.exchange().join("output");
    fs::write(&output, "to container ").unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o666)).unwrap();
    let script =
        format!("cd {EXCHANGE_INSIDE}; cat output; echo from container >> output; touch new || echo denied");
    let program = Program { user: Some("guest".into()), ..lab.script(&script) };
    assert!(lab.said(&container, &program).ends_with("denied\n"));
    assert_eq!(fs::read_to_string(&output).unwrap(), "to container from container\n");
    lab.says(&container, "mount -t tmpfs none /srv; ln -s /bin /srv/link; touch /srv/here");
    let has = |path: &str| container.has_path(Path::new(path));
    assert!(has("/srv/here") && has("/srv/link/sh") && has("/run/iguana/output"));
    assert!(!has("/srv/not") && !has("/usr/lib") && !has("/srv/link/../../../../usr/lib"));
}

#[test]
fn mounts_of_every_kind() {
    let mut lab = Lab::new();
    let (one, two, fixed) = (lab.folder("one"), lab.folder("two"), lab.folder("fixed"));
    for (folder, text) in [(&one, "one"), (&two, "two")] {
        fs::write(folder.join("both"), text).unwrap();
        fs::write(folder.join(text), text).unwrap();
    }
    fs::set_permissions(lab.image.layers[0].join("srv"), fs::Permissions::from_mode(0o2750)).unwrap();
    let mount = |target: &str, source, read_only| Mount { source, target: target.into(), read_only };
    lab.plan.mounts = vec![
        mount("/fixed", Source::Bind(fixed.clone()), true),
        mount("/made", Source::Bind(lab.folder.0.join("made/here")), false),
        mount("/file", Source::Bind(one.join("one")), false),
        mount("/srv", Source::Tmpfs { size: Some(1 << 20) }, false),
        mount("/memory", Source::Tmpfs { size: None }, false),
        mount("/single", Source::Image { layers: vec![one.clone()] }, false),
        mount("/double", Source::Image { layers: vec![one, two] }, false),
        mount("/nothing", Source::Image { layers: vec![] }, false),
    ];
    let container = lab.start();
    let says = |script: &str| lab.says(&container, script);
    assert_eq!(says("touch /fixed/x 2>&1 || true"), "touch: /fixed/x: Read-only file system");
    assert_eq!(says("touch /made/x; cat /file"), "one");
    assert!(lab.folder.0.join("made/here/x").exists());
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
    lab.image.folder = "/made/for/work".into();
    let container = lab.start();
    let script = "pwd; stat -c %a /tmp
        touch /x 2>/dev/null || echo root is fixed
        touch /tmp/x /run/x /var/tmp/x /dev/shm/iguana-test && rm /dev/shm/iguana-test && echo these are not
        [ -e /run/iguana ] && echo exchange";
    assert_eq!(lab.says(&container, script), "/made/for/work\n1777\nroot is fixed\nthese are not\nexchange");
}

#[test]
fn all_rights_are_the_default() {
    let lab = Lab::new();
    let container = lab.start();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let full = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    assert_eq!(lab.says(&container, "grep CapEff /proc/self/status | cut -f2"), full);
    assert_eq!(
        lab.says(&container, "mount -t tmpfs none /srv && ls -d /sys/class/net /dev/shm"),
        "/dev/shm\n/sys/class/net"
    );
}

#[test]
fn fewer_rights_are_podmans() {
    let lab = Lab::unprivileged();
    // What the machine's side would hand on to every program.
    let mut own = rustix::thread::capabilities(None).unwrap();
    own.inheritable = own.permitted;
    rustix::thread::set_capabilities(None, own).unwrap();
    let container = lab.start();
    let rights = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr -d '\\n\\t'";
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
    let set = "00000000800405fb";
    let none = "0000000000000000";
    let of = |effective: &str| {
        format!("CapInh:{none}CapPrm:{effective}CapEff:{effective}CapBnd:{set}CapAmb:{none}NoNewPrivs:1")
    };
    assert_eq!(lab.says(&container, rights), of(set));
    let guest = Program { user: Some("guest".into()), ..lab.script(rights) };
    assert_eq!(lab.said(&container, &guest), of(none));
    let forbidden = "mount -t tmpfs none /srv || mknod /x c 1 1 || hostname other || cat /proc/1/environ || readlink /proc/1/exe || ls /proc/1/root/ || echo all refused";
    assert!(lab.says(&container, &format!("({forbidden}) 2>/dev/null")).ends_with("all refused"));
    let allowed = "chown 1000:1000 /srv; chroot / true; su guest -c true; kill -0 $$; echo all allowed";
    assert_eq!(lab.says(&container, allowed), "all allowed");
}

#[test]
fn devices_in_an_image_are_of_use_only_with_all_rights() {
    for (lab, expected) in [(Lab::new(), "usable"), (Lab::unprivileged(), "not")] {
        let layer = &lab.image.layers[0];
        let device = rustix::fs::makedev(1, 5);
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, layer.join("srv/zero"), kind, mode, device).unwrap();
        let container = lab.start();
        let script = "head -c 1 /srv/zero > /dev/null 2>&1 && echo usable || echo not";
        assert_eq!(lab.says(&container, script), expected);
    }
}

#[test]
fn fewer_rights_see_little_of_the_machine() {
    let lab = Lab::unprivileged();
    let container = lab.start();
    let says = |script: &str| lab.says(&container, script);
    assert_eq!(
        says("ls /dev | tr '\\n' ' '"),
        "console fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    assert_eq!(
        says(
            "echo gone > /dev/null; head -c 3 /dev/zero | wc -c; [ -r /dev/urandom ] && stat -c %a /dev/null"
        ),
        "3\n666"
    );
    assert_eq!(says("touch /dev/shm/x && ls /dev/shm"), "x");
    assert_eq!(
        says("cat /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug 2>/dev/null | wc -c"),
        "0"
    );
    assert_eq!(says("ls -A /sys/firmware | wc -l"), "0");
    let fixed = "for file in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper /proc/irq/default_smp_affinity /sys/fs/cgroup/cgroup.procs
        do [ ! -e $file ] || (echo h > $file) 2>&1 | grep -q 'Read-only' || echo $file can be written; done";
    assert_eq!(says(fixed), "");
    assert!(container.has_path(Path::new("/dev/pts/ptmx")) && !container.has_path(Path::new("/dev/kmsg")));
    assert_eq!(says("ls /sys/class/net | grep -c lo"), "1");
}

#[test]
fn processes_of_the_machine_are_seen_and_left_alone() {
    see_the_machine(Lab::new());
    see_the_machine(Lab::unprivileged());
}

fn see_the_machine(mut lab: Lab) {
    lab.plan.pid_host = true;
    let mut container = lab.start();
    let me = process::id();
    assert_eq!(lab.says(&container, &format!("[ -d /proc/{me} ] && echo seen")), "seen");
    let orphan = lab.says(&container, "setsid sleep 1000 >/dev/null 2>&1 & echo $!");
    let nested = "setsid sh -c 'setsid sleep 1000 & echo $! > /srv/pid; sleep 1000' >/dev/null 2>&1 &
        until [ -s /srv/pid ]; do sleep 0.01; done; cat /srv/pid";
    let nested = lab.says(&container, nested);
    let processes: Vec<Pid> =
        [orphan, nested].iter().filter_map(|text| Pid::from_raw(text.parse().unwrap())).collect();
    assert!(processes.len() == 2 && processes.iter().all(|process| lives(*process)));
    let mut program = container.run(&lab.script("sleep 1000")).unwrap();
    container.stop();
    assert!(!processes.iter().any(|process| lives(*process)));
    assert_eq!(program.try_wait(), Some(Ended::With(143)));
}

/// A terminal, and what a person at it sees.
struct Screen {
    person: File,
    path: PathBuf,
}

impl Screen {
    fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap().into_bytes();
        Self { person: person.into(), path: std::ffi::OsString::from_vec(path).into() }
    }

    fn shows(&mut self, text: &str) -> String {
        let mut shown = String::new();
        let mut block = [0; 1024];
        until(text, || {
            let mut poll = [rustix::event::PollFd::new(&self.person, rustix::event::PollFlags::IN)];
            let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            if rustix::event::poll(&mut poll, Some(&soon)).unwrap() > 0 {
                let count = self.person.read(&mut block).unwrap_or(0);
                shown += &String::from_utf8_lossy(&block[..count]);
            }
            shown.contains(text)
        });
        shown
    }

    fn script(&self, script: &str) -> Program {
        let command = Command::Exactly(["sh", "-c", script].map(Into::into).into());
        Program { command, ..Program::of_image(Stdio::Terminal(self.path.clone())) }
    }
}

#[test]
fn programs_have_the_terminal_in_turn() {
    for lab in [Lab::new(), Lab::unprivileged()] {
        let mut screen = Screen::new();
        let container = lab.start();
        for turn in ["first", "second"] {
            let script =
                format!("[ -t 0 ] && [ -t 1 ] && : > /dev/tty && read name && echo {turn}, $name $TERM");
            let mut program = container.run(&screen.script(&script)).unwrap();
            assert!(
                container.run(&screen.script("true")).map(drop).unwrap_err().to_string().contains("terminal")
            );
            assert_eq!(lab.says(&container, "echo beside it"), "beside it");
            screen.person.write_all(b"Ada\n").unwrap();
            screen.shows(&format!("{turn}, Ada vt220"));
            assert_eq!(program.wait(Some(SOON)).unwrap(), Ended::With(0));
        }
        // What stays in the background does not keep the terminal from the next one.
        let ended =
            container.run(&screen.script("sleep 1000 & echo left")).unwrap().wait(Some(SOON)).unwrap();
        assert!(ended.is_success());
        let mut program = container.run(&screen.script("echo again; sleep 1000")).unwrap();
        screen.shows("again");
        screen.person.write_all(b"\x03").unwrap();
        assert_eq!(program.wait(Some(SOON)).unwrap(), Ended::With(128 + libc::SIGINT as u8));
    }
}

#[test]
fn what_stays_in_the_background_does_not_read_what_is_typed_for_the_next() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let container = lab.start();
    let thief = screen.script("(until [ -e /srv/now ]; do sleep 0.01; done; cat </dev/tty) & true");
    assert!(container.run(&thief).unwrap().wait(Some(SOON)).unwrap().is_success());
    lab.says(&container, "touch /srv/now; until grep -q 'State:.T' /proc/[0-9]*/status; do sleep 0.01; done");
    screen.person.write_all(b"Bob\n").unwrap();
    let mut program = container.run(&screen.script("read name; echo got $name")).unwrap();
    screen.shows("got Bob");
    assert!(program.wait(Some(SOON)).unwrap().is_success());
}

#[test]
fn nobody_is_left_suspended() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let container = lab.start();
    let mut program = container.run(&screen.script("echo up; read name; echo got $name")).unwrap();
    screen.shows("up");
    screen.person.write_all(b"\x1aAda\n").unwrap();
    screen.shows("got Ada");
    assert!(program.wait(Some(SOON)).unwrap().is_success());
}

#[test]
fn a_program_without_a_terminal_reads_nothing_and_has_no_descriptors_but_three() {
    let lab = Lab::new();
    let container = lab.start();
    // 3 is the folder that is listed.
    let script = "cat; [ -t 0 ] || echo none; exec ls /proc/self/fd";
    assert_eq!(lab.says(&container, script), "none\n0\n1\n2\n3");
}
