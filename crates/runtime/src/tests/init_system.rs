//! Containers whose own program is an init system. Here that is a shell; `live` has systemd.

use super::*;

/// A container whose init system is this script.
fn lab(privileged: bool, script: &str) -> Lab {
    let mut lab = Lab::new();
    (lab.plan.privileged, lab.plan.init_system) = (privileged, true);
    lab.image.command = ["sh", "-c", script].map(Into::into).into();
    lab
}

/// Waits until it has written a text.
fn wait_for(lab: &Lab, text: &str) {
    let start = Instant::now();
    while !lab.log().contains(text) {
        assert!(start.elapsed() < SOON, "`{text}` is not in {}", lab.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn init(lab: &Lab) -> Program {
    Program::of_image(lab.stdio())
}

#[test]
fn it_is_pid_1_of_all_that_it_and_others_see() {
    for privileged in [true, false] {
        let lab = lab(privileged, "echo I am $$; exec sleep 1000");
        let container = lab.start();
        let _init = container.run(&init(&lab)).unwrap();
        wait_for(&lab, "I am 1\n");
        assert_eq!(
            lab.says(&container, "cat /proc/1/comm; ls -d /proc/[0-9]* | head -n 1"),
            "sleep\n/proc/1"
        );
        // The parent is outside of the namespace.
        assert_eq!(lab.says(&container, "echo $PPID"), "0");
    }
}

#[test]
fn its_cgroup_is_the_root_and_it_can_make_others() {
    for privileged in [true, false] {
        let lab = lab(
            privileged,
            "mkdir /sys/fs/cgroup/init.scope && echo 1 > /sys/fs/cgroup/init.scope/cgroup.procs
            echo \"now in $(grep ^0: /proc/self/cgroup)\"; exec sleep 1000",
        );
        let container = lab.start();
        let _init = container.run(&init(&lab)).unwrap();
        wait_for(&lab, "now in 0::/init.scope\n");
        assert_eq!(lab.says(&container, "grep ^0: /proc/self/cgroup"), "0::/init.scope");
        // Its PID 1 and ours are not there: only then the kernel lets it give controllers away.
        assert_eq!(lab.says(&container, "cat /sys/fs/cgroup/cgroup.procs"), "");
    }
}

#[test]
fn it_has_directories_in_memory_and_a_console() {
    let lab = lab(false, "echo to the console > /dev/console; exec sleep 1000");
    let container = lab.start();
    let _init = container.run(&init(&lab)).unwrap();
    wait_for(&lab, "to the console\r\n");
    let places = "for it in /run /run/lock /tmp /var/log/journal; do stat -f -c %T $it; done; ls /run/systemd/system /run/systemd/network";
    let units = "/run/systemd/network:\n00-iguana.link\n\n/run/systemd/system:\nconsole-getty.service\n\
                 getty@.service\nserial-getty@.service";
    assert_eq!(lab.says(&container, places), format!("tmpfs\ntmpfs\ntmpfs\ntmpfs\n{units}"));
}

#[test]
fn what_is_hidden_stays_hidden_in_its_proc() {
    let lab = lab(false, "exec sleep 1000");
    let container = lab.start();
    let _init = container.run(&init(&lab)).unwrap();
    let tried = "head -c 1 /proc/kcore | wc -c; echo x > /proc/sysrq-trigger || echo refused";
    assert_eq!(lab.says(&container, &format!("{{ {tried}; }} 2> /dev/null")), "0\nrefused");
    assert!(lab.says(&container, "umount /proc 2>&1 || :").contains("ermitted"));
}

#[test]
fn it_is_stopped_by_the_signal_of_systemd() {
    let lab = lab(true, "trap 'echo halting; exit 0' 37; echo up; while :; do sleep 0.1; done");
    let mut container = lab.start();
    let mut init = container.run(&init(&lab)).unwrap();
    wait_for(&lab, "up\n");
    container.stop();
    assert_eq!(init.wait(Some(SOON)).unwrap(), ProgramExit::With(0));
    assert!(lab.log().contains("halting"));
}

#[test]
fn its_reboot_is_the_end_of_its_container_and_what_the_others_are_told() {
    let lab = lab(true, "while ! [ -e /go ]; do sleep 0.1; done; reboot -f");
    let container = lab.start();
    let mut init = container.run(&init(&lab)).unwrap();
    let mut beside = container.run(&lab.script("touch /go; sleep 1000")).unwrap();
    let asked = ProgramExit::AskedFor { action: KernelAction::Reboot, may_hand_over: true };
    assert_eq!(beside.wait(Some(SOON)).unwrap(), asked);
    assert_eq!(init.wait(Some(SOON)).unwrap(), asked);
    let late = container.run(&lab.script("true")).err().unwrap();
    assert!(format!("{late:#}").contains("its init system has ended"), "{late:#}");
}

#[test]
fn what_cannot_be_started_is_told_with_the_reason() {
    let mut lab = lab(true, "");
    lab.image.command = vec!["/sbin/init".into()];
    let container = lab.start();
    let early = container.run(&lab.script("true")).err().unwrap();
    assert!(format!("{early:#}").contains("does not run yet"), "{early:#}");
    let error = container.run(&init(&lab)).err().unwrap();
    assert!(format!("{error:#}").starts_with("cannot execute `/sbin/init`"), "{error:#}");
}
