//! What a container or its image puts in the place of files of the kernel.

use super::*;

/// PID 1 has all rights; it must not open what a program has put there, and give it to the next one.
#[test]
fn a_program_cannot_change_what_the_next_one_reads() {
    for mut lab in [Lab::new(), Lab::unprivileged()] {
        if lab.plan.privileged {
            // Not the machine's.
            lab.plan
                .mounts
                .push(Mount { source: MountSource::Tmpfs { size: None }, ..Mount::bind("/", "/dev") });
        }
        let container = lab.start();
        for planted in ["ln -s / /dev/null", "mkfifo /dev/null", "ln -s /proc/kmsg /dev/null"] {
            lab.says(&container, &format!("rm -rf /dev/null; {planted}"));
            let said = lab.says(&container, "stat -L -c '%F %t:%T' /proc/self/fd/0; cat");
            assert_eq!(said, "character special file 1:3", "{planted}");
        }
    }
}

/// The masks come from the container's own `/dev/null`, whatever a volume has there.
#[test]
fn no_image_can_redirect_a_volume_onto_kernel_files() {
    for target in
        ["/dev", "/proc", "/sys", "/proc/self", "/dev/pts", "/sys/fs/cgroup", "/dev/shm", "/proc/keys"]
    {
        let mut lab = Lab::unprivileged();
        let volume = lab.directory("volume");
        symlink("/proc/sys/kernel/core_pattern", volume.join("null")).unwrap();
        symlink(target, lab.image.layers[0].join("data")).unwrap();
        let source = if target.ends_with("keys") { volume.join("file") } else { volume.clone() };
        if source != volume {
            fs::write(&source, "").unwrap();
        }
        lab.plan.mounts.push(Mount::bind(&source, "/data"));
        let error = format!("{:#}", lab.try_start().map(drop).unwrap_err());
        assert!(
            error.contains("cannot mount `/data`")
                && (error.contains("leads from it") || error.contains("symbolic link")),
            "{target}: {error}"
        );
    }
}

#[test]
fn a_volume_in_dev_is_where_the_workflow_says() {
    let mut lab = Lab::unprivileged();
    let volume = lab.directory("volume");
    fs::write(volume.join("note"), "found").unwrap();
    lab.plan.mounts.extend(["/dev/own", "/dev/shm", "/dev/null"].map(|target| {
        let source = if target == "/dev/null" { volume.join("note") } else { volume.clone() };
        Mount::bind(source, target)
    }));
    let container = lab.start();
    let said = lab.says(&container, "cat /dev/own/note /dev/shm/note /dev/null /proc/keys; cat");
    assert_eq!(said, "foundfoundfound");
}
