//! Limits of memory and processes.

use super::confinement::with_perl;
use super::*;

/// The cgroups of all containers of this process, in every hierarchy.
pub(super) fn cgroups_of(process: u32) -> Vec<PathBuf> {
    let prefix = format!("iguana-{process}.");
    let mut found = Vec::new();
    let mut to_search = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = to_search.pop() {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let is_containers = entry.file_name().to_string_lossy().starts_with(&prefix);
            if is_containers { &mut found } else { &mut to_search }.push(entry.path());
        }
    }
    found
}

pub(super) fn cgroups_of_lab(lab: &Lab) -> Vec<PathBuf> {
    let name = lab.plan.scratch.file_name().unwrap().to_string_lossy().into_owned();
    let mut found = cgroups_of(process::id());
    found.retain(|directory| directory.to_string_lossy().ends_with(&format!(".{name}")));
    found
}

#[test]
fn a_container_has_a_cgroup_of_its_own_and_sees_it_as_the_root() {
    for mut lab in [Lab::new(), Lab::unprivileged()] {
        (lab.plan.memory, lab.plan.pids) = (Some(256 << 20), Some(100));
        let container = lab.start();
        assert!(!cgroups_of_lab(&lab).is_empty());
        for directory in cgroups_of_lab(&lab) {
            let inside = directory.join("inside");
            let own = if inside.exists() { &inside } else { &directory };
            let processes = fs::read_to_string(own.join("cgroup.procs")).unwrap();
            assert_eq!(
                processes.trim(),
                container.link.0.pid().unwrap().as_raw_pid().to_string(),
                "{directory:?}"
            );
        }
        // A named hierarchy, which limits nothing, shows the host's tree.
        let script = "grep -E '^0:|memory|pids' /proc/self/cgroup | grep -cv ':/$' || true
            cat /sys/fs/cgroup/cgroup.procs | grep -c '^1$'; ls -d /sys/fs/cgroup/iguana-* 2>/dev/null || true";
        assert_eq!(lab.says(&container, script), "0\n1");
        drop(container);
        assert!(cgroups_of_lab(&lab).is_empty(), "{:?}", cgroups_of_lab(&lab));
    }
}

#[test]
fn exceeding_the_memory_limit_is_reported_as_such() {
    let mut lab = Lab::new();
    lab.plan.memory = Some(64 << 20);
    let container = lab.start();
    let ended = container.run(&lab.script("exit 1")).unwrap().wait(Some(SOON)).unwrap();
    assert_eq!(ended, ProgramExit::With(1));
    let ended = container.run(&lab.script("tail /dev/zero")).unwrap().wait(Some(SOON)).unwrap();
    let told = ended.to_string();
    assert!(told.starts_with("killed by signal 9: it exceeded its memory limit of 64 MiB"), "{told}");
    assert!(ended.remedy().unwrap().contains("`memory`"));
}

#[test]
fn a_limit_too_low_to_start_is_reported() {
    let mut lab = Lab::new();
    lab.plan.memory = Some(4 << 10);
    let error = lab.try_start().map(drop).unwrap_err();
    assert!(error.to_string().contains("its memory limit of 4 KiB"), "{error:#}");
    assert!(cgroups_of_lab(&lab).is_empty());
}

#[test]
fn no_more_processes_than_the_limit() {
    let mut lab = Lab::new();
    lab.plan.pids = Some(10);
    let container = lab.start();
    // The shell counts as one of the ten.
    let script =
        "n=1; while [ $n -le 9 ]; do sleep 1000 & n=$((n + 1)); done; echo nine; sleep 1000 & echo ten";
    let mut program = container.run(&lab.script(script)).unwrap();
    assert!(!program.wait(Some(SOON)).unwrap().is_success());
    assert!(lab.log().contains("nine") && !lab.log().contains("ten"), "{}", lab.log());
    assert!(lab.log().contains("fork"), "{}", lab.log());
    container.run(&lab.script("exec sleep 1000")).unwrap();
    let error = container.run(&lab.script("never")).map(drop).unwrap_err();
    assert!(hint::of(&error).unwrap().contains("`pids`"), "{error:#}");
}

/// With namespaces of its own, a container sees its cgroup as the root, and root owns the files there.
#[test]
fn a_container_cannot_change_its_own_limits() {
    let mut lab = Lab::unprivileged();
    with_perl(&mut lab);
    (lab.plan.memory, lab.plan.pids) = (Some(256 << 20), Some(100));
    let container = lab.start();
    let limits = || {
        let files = ["pids.max", "memory.max", "memory.limit_in_bytes"];
        let paths =
            cgroups_of_lab(&lab).into_iter().flat_map(|directory| files.map(|file| directory.join(file)));
        paths.filter_map(|path| Some((fs::read_to_string(&path).ok()?, path))).collect::<Vec<_>>()
    };
    let before = limits();
    assert!(before.len() > 1, "{before:?}");
    let version_1 =
        "for name in pids memory; do mkdir /tmp/$name; mount -t cgroup -o $name none /tmp/$name; done";
    let version_2 = "mkdir /tmp/2; mount -t cgroup2 none /tmp/2";
    let change =
        "for file in /tmp/*/pids.max /tmp/*/memory.max /tmp/*/memory.limit_in_bytes /tmp/*/../*/pids.max; do
            echo max > $file; echo -1 > $file; done";
    let script = format!("/usr/bin/unshare -UrmC sh -c '{version_1}; {version_2}; {change}' 2>&1 || true");
    let said = lab.says(&container, &script);
    assert_eq!(limits(), before, "{said}");
}

/// In namespaces of its own, root of a container could mount the machine's hierarchies of version 1, of which it has no
/// cgroup of its own as the root.
#[test]
fn a_container_cannot_reach_the_machines_cgroups() {
    let mut lab = Lab::unprivileged();
    with_perl(&mut lab);
    let container = lab.start();
    let name = format!("of-container-{}", process::id());
    let script = format!(
        "for namespaces in -UrmC -Urm; do
            /usr/bin/unshare $namespaces sh -c 'while IFS=: read number names path; do
                mkdir -p /tmp/$number; mount -t cgroup -o $names none /tmp/$number && mkdir /tmp/$number/{name}
            done < /proc/self/cgroup' 2>&1 || true
        done"
    );
    let said = lab.says(&container, &script);
    let is_of_container = |path: &PathBuf| path.ends_with(&name);
    let made: Vec<PathBuf> = all_cgroups().into_iter().filter(is_of_container).collect();
    made.iter().for_each(|directory| fs::remove_dir(directory).unwrap());
    assert!(made.is_empty(), "{made:?}: {said}");
}

/// In a cgroup namespace, root of a container could make a cgroup of version 2, move PID 1 there and freeze it.
#[test]
fn a_container_cannot_move_its_init_to_another_cgroup() {
    let mut lab = Lab::unprivileged();
    with_perl(&mut lab);
    let container = lab.start();
    let cgroups = || {
        let path = format!("/proc/{}/cgroup", container.link.0.pid().unwrap().as_raw_pid());
        fs::read_to_string(path).unwrap()
    };
    let before = cgroups();
    // unshare(CLONE_NEWUSER | CLONE_NEWCGROUP), clone3(2) of no valid arguments.
    let calls = "/usr/bin/perl -e 'for ([272, 0x12000000], [435, 0]) { syscall($_->[0], $_->[1], 0); print $!+0, qq( ) }'";
    assert_eq!(lab.says(&container, calls), format!("{} {}", libc::EPERM, libc::ENOSYS));
    let freeze = "mkdir /tmp/2; mount -t cgroup2 none /tmp/2; mkdir /tmp/2/a
        for file in procs freeze; do echo 1 > /tmp/2/a/cgroup.$file; done";
    let said = lab.says(
        &container,
        &format!("for namespaces in -UrmC -Urm; do /usr/bin/unshare $namespaces sh -c '{freeze}' 2>&1 || true; done"),
    );
    assert_eq!(cgroups(), before, "{said}");
}

/// Some kernels do not count the memory that they take.
#[test]
fn a_container_cannot_create_unlimited_cgroups() {
    let mut lab = Lab::new();
    with_perl(&mut lab);
    let container = lab.start();
    let make = "mkdir /tmp/2; mount -t cgroup2 none /tmp/2; cd /tmp/2
        exec /usr/bin/perl -e 'for (1 .. 1500) { mkdir qq(many$_) or last }'";
    lab.says(&container, make);
    let group = lab.runtime.group.cgroups().unified_directory().unwrap().to_owned();
    let count = all_cgroups().iter().filter(|directory| directory.starts_with(&group)).count();
    // The two above them count, too.
    assert!(count > 100 && count <= 1000 + 2, "{count}");
    let make = "cd /tmp/2; rmdir many*
        exec /usr/bin/perl -e 'for (1 .. 1000) { mkdir q(deeper) and chdir q(deeper) or last }'";
    lab.says(&container, make);
    let start = Instant::now();
    drop(container);
    assert!(
        cgroups_of_lab(&lab).is_empty() && start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

fn all_cgroups() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        next += 1;
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(directories.map(|entry| entry.path()).collect::<Vec<_>>());
    }
    found
}

fn oom_score(process: Pid) -> String {
    fs::read_to_string(format!("/proc/{}/oom_score_adj", process.as_raw_pid())).unwrap().trim().to_owned()
}

/// Whatever the zygote's score is: if this program is the worker, it is lower than that of others. Here it can only be
/// higher.
#[test]
fn the_kernel_kills_programs_first_then_init_and_never_spares_either() {
    for mut lab in [Lab::new(), Lab::unprivileged()] {
        let container = lab.start();
        let zygote = lab.runtime.zygote.pid().unwrap();
        fs::write(format!("/proc/{}/oom_score_adj", zygote.as_raw_pid()), "100").unwrap();
        lab.plan.scratch = lab.plan.scratch.with_extension("second");
        let second = lab.start();
        for container in [container, second] {
            assert_eq!(lab.says(&container, "cat /proc/self/oom_score_adj"), "500");
            assert_eq!(oom_score(container.link.0.pid().unwrap()), "250");
        }
        assert_eq!(oom_score(zygote), "100");
    }
    // Without the capability, no program protects itself.
    let lab = Lab::unprivileged();
    let script = "(echo -900 > /proc/self/oom_score_adj) 2>/dev/null
        cat /proc/self/oom_score_adj";
    assert_eq!(lab.says(&lab.start(), script), "500");
}

#[test]
fn all_containers_share_one_cgroup_with_a_reserve_for_the_machine() {
    let lab = Lab::new();
    let container = lab.start();
    let process = container.link.0.pid().unwrap().as_raw_pid();
    let group = &lab.runtime.group;
    let (memory, files) = group.cgroups().memory_directory().unwrap();
    let total = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10;
    let limit = cgroup::number_in(&memory.join(files.limit)).unwrap();
    assert!(limit > 0 && limit < total, "{limit} of {total}");
    let pids = group.cgroups().pids_directory().unwrap();
    assert_eq!(cgroup::number_in(&pids.join("pids.max")), Some(group.process_limit()));
    for directory in group.cgroups().directories() {
        let is_in = |directory: &Path| {
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            processes.lines().any(|line| line == process.to_string())
        };
        let below = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.path());
        assert!(is_in(&directory) || below.into_iter().any(|it| is_in(&it)), "{directory:?}");
    }
    let directories = group.cgroups().directories();
    drop((container, lab));
    until("the cgroups are gone", || !directories.iter().any(|directory| directory.exists()));
}

#[test]
fn reaching_the_limit_of_all_containers_is_reported_as_such() {
    let lab = Lab::new();
    let container = lab.start();
    let group = Arc::clone(&lab.runtime.group);
    group.hold_limit(64 << 20);
    let fill = "mount -t tmpfs none /srv; head -c 200000000 /dev/zero > /srv/fill";
    let ended = container.run(&lab.script(fill)).unwrap().wait(Some(SOON)).unwrap();
    let told = ended.to_string();
    assert!(told.contains("the memory limit of all containers, 64 MiB, was reached"), "{told}");
    assert!(ended.remedy().unwrap().contains("memory"));
    drop(container);
    // The content of its tmpfs was freed with it: the next container has room.
    assert_eq!(lab.says(&lab.start(), "echo next"), "next");
}

#[test]
fn fork_bombs_reach_the_limit_of_all_containers() {
    let lab = Lab::new();
    let container = lab.start();
    let directory = lab.runtime.group.cgroups().pids_directory().unwrap();
    cgroup::write(&directory.join("pids.max"), "40").unwrap();
    let script = "while :; do sleep 1000 & done";
    let ended = container.run(&lab.script(script)).unwrap().wait(Some(SOON)).unwrap();
    assert!(!ended.is_success(), "{ended}");
    assert!(ended.to_string().contains("all containers together reached the limit"), "{ended}");
}

/// Each costs the boot's worker descriptors and a thread.
#[test]
fn processes_left_in_the_background_cannot_use_up_the_workers_descriptors() {
    let lab = Lab::unprivileged();
    let container = lab.start();
    let run = |script: &str| {
        container.run(&lab.script(script)).map(|mut program| program.wait(Some(SOON)).unwrap())
    };
    let error = (0..100).find_map(|_| run("sleep 1000 & exit 1").err()).unwrap();
    assert!(format!("{error:#}").contains("keep their output open"), "{error:#}");
    let quiet = lab.start();
    for _ in 0..100 {
        let script = lab.script("sleep 1000 > /dev/null 2>&1 & exit 0");
        assert!(quiet.run(&script).unwrap().wait(Some(SOON)).unwrap().is_success());
    }
}

#[test]
fn an_unprivileged_container_has_a_limited_number_of_pseudo_terminals() {
    let lab = Lab::unprivileged();
    let options = lab.says(&lab.start(), "grep ' /dev/pts ' /proc/mounts");
    assert!(options.contains("max=256"), "{options}");
}
