//! Processes of Iguana that a container stops (SIGSTOP).

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
    assert_eq!(program.wait(None).unwrap(), ProgramExit::InitStopped);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
