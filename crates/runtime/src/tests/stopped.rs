//! Processes of Iguana that a container stops (SIGSTOP) or freezes (cgroups(7)).

use super::*;

#[test]
fn a_stopped_zygote_is_detected_reported_and_replaced() {
    let lab = Lab::new();
    drop(lab.start());
    let stopped = lab.runtime.zygote.pid().unwrap();
    kill_process(stopped, Signal::STOP).unwrap();
    let start = Instant::now();
    let said = match lab.try_start() {
        Ok(_) => panic!("a stopped process made a copy"),
        Err(error) => format!("{error:#}"),
    };
    assert!(said.contains("did not respond within 20 s"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(!lives(stopped));
    let container = lab.start();
    assert_eq!(lab.says(&container, "echo from another"), "from another");
}

#[test]
fn a_stopped_zygote_does_not_delay_the_end() {
    let lab = Lab::new();
    drop(lab.start());
    let stopped = lab.runtime.zygote.pid().unwrap();
    kill_process(stopped, Signal::STOP).unwrap();
    let start = Instant::now();
    drop(lab);
    assert!(start.elapsed() < Duration::from_secs(30) && !lives(stopped));
}

#[test]
fn a_container_whose_init_is_stopped_is_detected_and_ended() {
    let lab = Lab::new();
    let container = lab.start();
    let mut program = container.run(&lab.script("sleep 10000")).unwrap();
    kill_process(container.link.0.pid().unwrap(), Signal::STOP).unwrap();
    let start = Instant::now();
    assert_eq!(program.wait(None).unwrap(), ProgramExit::InitSilent);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// Only with all rights: without them, no container can mount its cgroup.
#[test]
fn a_container_that_freezes_its_init_is_detected_and_ended() {
    let lab = Lab::with_short_grace();
    let container = lab.start();
    let freeze = "mkdir /tmp/2; mount -t cgroup2 none /tmp/2; mkdir /tmp/2/frozen
        for file in procs freeze; do echo 1 > /tmp/2/frozen/cgroup.$file || exit; done
        echo frozen; sleep 10000";
    let start = Instant::now();
    let ended = container.run(&lab.script(freeze)).unwrap().wait(Some(Duration::from_secs(3))).unwrap();
    assert_eq!((ended, lab.log().trim()), (ProgramExit::InitSilent, "frozen"));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let error = container.run(&lab.script("echo next")).map(drop).unwrap_err();
    assert!(error.to_string().contains("PID 1 did not respond"), "{error:#}");
    drop(container);
    assert!(cgroups_of_lab(&lab).is_empty(), "{:?}", cgroups_of_lab(&lab));
}

/// A request of that size does not fit into the socket's buffer. No program runs: only the sending itself can end.
#[test]
fn sending_to_an_init_that_does_not_read_has_a_limit() {
    let lab = Lab::new();
    let container = lab.start();
    kill_process(container.link.0.pid().unwrap(), Signal::STOP).unwrap();
    let start = Instant::now();
    let mut program = lab.script("echo never");
    program.env = (0..10).map(|number| (format!("LARGE{number}"), "x".repeat(100_000))).collect();
    let error = container.run(&program).map(drop).unwrap_err();
    assert!(error.to_string().contains("PID 1 did not respond"), "{error:#}");
    assert!(hint::of(&error).unwrap().contains("frozen"), "{error:#}");
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
}

/// It is asked for a sign of life all the time.
#[test]
fn an_init_that_responds_is_left_alone() {
    let lab = Lab::new();
    let container = lab.start();
    let mut program = container.run(&lab.script("sleep 30; exit 3")).unwrap();
    assert_eq!(program.wait(None).unwrap(), ProgramExit::With(3));
}
