//! Programs that call reboot(2). In a PID namespace that ends the namespace, and nothing else.

use super::*;

/// Only where PID 1 is that of a container: elsewhere it would be the end of the machine.
fn script(lab: &Lab, command: &str) -> Program {
    lab.script(&format!("[ \"$(cat /proc/1/comm)\" = iguana-containe ] && {command}"))
}

fn end_of(lab: &Lab, command: &str) -> ProgramExit {
    lab.start().run(&script(lab, command)).unwrap().wait(Some(SOON)).unwrap()
}

#[test]
fn a_reboot_is_told_as_what_was_asked_for() {
    let mut lab = Lab::new();
    for (command, action) in [
        ("reboot -f", KernelAction::Reboot),
        ("poweroff -f", KernelAction::PowerOff),
        ("halt -f", KernelAction::PowerOff),
    ] {
        for may_hand_over in [true, false] {
            lab.plan.handover = may_hand_over;
            let ended = end_of(&lab, command);
            assert_eq!(ended, ProgramExit::AskedFor { action, may_hand_over }, "{command}");
            assert_eq!(ended.is_success(), may_hand_over);
        }
    }
    let refused = end_of(&lab, "reboot -f");
    assert_eq!(
        refused.to_string(),
        "ended when it asked for `reboot` by reboot(2): its container may not hand over"
    );
    assert!(refused.remedy().unwrap().contains("`handover: true`"));
}

#[test]
fn a_signal_to_pid_1_asks_for_nothing() {
    let lab = Lab::new();
    for (signal, status) in [("HUP", 129), ("INT", 130)] {
        let ended = end_of(&lab, &format!("kill -{signal} 1; sleep 5"));
        assert_eq!(ended, ProgramExit::With(status));
    }
}

#[test]
fn a_container_with_fewer_rights_cannot_ask() {
    let lab = Lab::unprivileged();
    assert_eq!(end_of(&lab, "{ reboot -f; exit 7; }"), ProgramExit::With(7));
}
