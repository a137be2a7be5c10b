//! The rights of privileged and unprivileged containers.

use super::*;

#[test]
fn privileged_is_the_default() {
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
fn unprivileged_rights_are_those_of_podman() {
    let lab = Lab::unprivileged();
    // Capabilities that every program would inherit from the host side.
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
fn an_unprivileged_container_may_make_the_calls_that_podman_allows() {
    // The owner of a user namespace has all capabilities in it: so it is the filter that refuses.
    let script = "grep -E '^Seccomp:' /proc/self/status | cut -f2
        linux32 true && unshare -Uru true && echo allowed
        unshare -Uru hostname other 2>/dev/null || echo refused
        echo piped | cat
        echo | nc 127.0.0.1 1 2>&1 | grep -o refused";
    let lab = Lab::new();
    assert_eq!(lab.says(&lab.start(), script), "0\nallowed\npiped\nrefused");
    let lab = Lab::unprivileged();
    let container = lab.start();
    let guest = Program { user: Some("guest".into()), ..lab.script(script) };
    for program in [lab.script(script), guest] {
        assert_eq!(lab.said(&container, &program), "2\nallowed\nrefused\npiped\nrefused\n");
    }
}

#[test]
fn devices_in_an_image_are_usable_only_with_privileges() {
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
fn an_unprivileged_container_sees_little_of_the_machine() {
    let lab = Lab::unprivileged();
    let container = lab.start();
    let says = |script: &str| lab.says(&container, script);
    assert_eq!(
        says("ls /dev | tr '\\n' ' '"),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
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
fn processes_of_the_machine_are_visible_and_protected() {
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
    assert_eq!(program.try_wait(), Some(ProgramExit::With(143)));
}
