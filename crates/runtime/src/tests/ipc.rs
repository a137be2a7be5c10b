//! Whose IPC namespace and shared memory a container has. tests/live.rs tests semaphores, for which busybox has no
//! program.

use super::*;

const NAMESPACE: &str = "readlink /proc/self/ns/ipc";
const MAKE: &str = "touch /dev/shm/of-ipc-test";
const LOOK: &str = "ls /dev/shm | grep -c of-ipc-test";
const REMOVE: &str = "rm /dev/shm/of-ipc-test";

fn of_machine() -> String {
    fs::read_link("/proc/self/ns/ipc").unwrap().display().to_string()
}

/// A second container, in the same directory of layers.
fn beside(lab: &Lab, privileged: bool, ipc: Ipc) -> Container {
    let plan = Plan { scratch: lab.directory.0.join("second"), privileged, ipc, ..lab.plan.clone() };
    lab.runtime.start_from(lab.image.clone(), &plan).unwrap()
}

#[test]
fn containers_of_a_job_can_share_a_namespace_and_memory_whatever_their_rights() {
    let mut lab = Lab::new();
    let shared = SharedIpc::make(&lab.directory("ipc").join("job"), Some(8 << 20)).unwrap();
    lab.plan.ipc = shared.share();
    let first = lab.start();
    lab.says(&first, MAKE);
    for privileged in [true, false] {
        let second = beside(&lab, privileged, shared.share());
        assert_eq!(lab.says(&second, LOOK), "1", "{privileged}");
        assert_eq!(lab.says(&second, NAMESPACE), lab.says(&first, NAMESPACE));
        assert_eq!(lab.says(&second, "df -k /dev/shm | awk 'END { print $2 }'"), "8192");
        let may_execute =
            lab.says(&second, "cp /bin/busybox /dev/shm/true; /dev/shm/true && echo yes || echo no");
        assert_eq!(may_execute.ends_with("yes"), privileged, "{may_execute}");
    }
    assert_ne!(lab.says(&first, NAMESPACE), of_machine());
    drop(shared);
    assert_eq!(lab.says(&first, LOOK), "1");
    assert!(!lab.directory.0.join("ipc/job").exists());
}

#[test]
fn a_private_namespace_is_shared_with_nobody() {
    for lab in [Lab::new(), Lab::unprivileged()] {
        let first = lab.start();
        lab.says(&first, MAKE);
        let second = beside(&lab, lab.plan.privileged, Ipc::Private);
        assert_eq!(lab.says(&second, &format!("{LOOK} || true")), "0");
        assert_ne!(lab.says(&second, NAMESPACE), lab.says(&first, NAMESPACE));
    }
}

#[test]
fn the_machines_namespace_is_the_machines() {
    for mut lab in [Lab::new(), Lab::unprivileged()] {
        lab.plan.ipc = Ipc::Machine;
        let container = lab.start();
        assert_eq!(lab.says(&container, NAMESPACE), of_machine());
        lab.says(&container, MAKE);
        assert!(Path::new("/dev/shm/of-ipc-test").exists());
        lab.says(&container, REMOVE);
    }
}

/// A container with fewer rights writes there.
#[test]
fn no_link_in_shared_memory_leads_a_volume_elsewhere() {
    let mut lab = Lab::new();
    let shared = SharedIpc::make(&lab.directory("ipc").join("job"), None).unwrap();
    lab.plan.ipc = shared.share();
    let first = lab.start();
    lab.says(&first, "ln -s /etc /dev/shm/link");
    lab.plan.scratch = lab.directory.0.join("second");
    lab.plan.mounts.push(Mount::bind(lab.directory("volume"), "/dev/shm/link"));
    let error = format!("{:#}", lab.try_start().map(drop).unwrap_err());
    assert!(error.contains("cannot mount `/dev/shm/link`"), "{error}");
}
