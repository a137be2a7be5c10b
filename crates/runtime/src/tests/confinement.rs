//! Attempts to break out of a container, and their results.

use super::*;

/// A directory of the host that no container may change, and a file in it that none may read.
struct Victim(Scratch);

impl Victim {
    fn new(lab: &Lab) -> Self {
        let directory = lab.directory("victim");
        fs::write(directory.join("secret"), "secret").unwrap();
        Self(Scratch(directory))
    }

    /// The directory through the root of another process.
    fn through(&self, process: u32) -> String {
        format!("/proc/{process}/root{}", self.0.0.display())
    }

    fn assert_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.0.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.0.0.join("secret")).unwrap(), "secret");
    }
}

fn with_host_processes(privileged: bool) -> Lab {
    let mut lab = Lab::new();
    (lab.plan.privileged, lab.plan.pid_host) = (privileged, true);
    lab
}

fn refusal<T>(result: anyhow::Result<T>) -> String {
    result.err().map(|error| format!("{error:#}")).unwrap_or_default()
}

#[test]
fn a_working_directory_stays_in_the_root() {
    for privileged in [true, false] {
        let lab = with_host_processes(privileged);
        let victim = Victim::new(&lab);
        let layer = &lab.image.layers[0];
        symlink(victim.through(1), layer.join("srv/way")).unwrap();
        let me = process::id();
        let ways = [
            "/proc/1/root".into(),
            "/proc/1/cwd".into(),
            "/proc/self/cwd/..".into(),
            "/proc/self/root/../..".into(),
            "/proc/self/fd/0".into(),
            "/proc/thread-self/fd/3".into(),
            format!("/proc/{me}/root/new"),
            format!("{}/new", victim.through(me)),
            "/srv/way".into(),
            "/srv/way/new".into(),
        ];
        let container = lab.start();
        for way in &ways {
            let program = Program { directory: Some(way.clone()), ..lab.script("pwd -P; ls") };
            let said = refusal(container.run(&program));
            assert!(said.contains("cannot use the working directory"), "{way}: `{said}`, {}", lab.log());
        }
        drop(container);
        for way in ways {
            let mut image = lab.image.clone();
            image.directory = way.clone();
            let said = refusal(lab.runtime.start_from(image, &lab.plan));
            assert!(said.contains("cannot use the working directory"), "{way}: `{said}`");
        }
        victim.assert_untouched();
    }
}

#[test]
fn a_working_directory_may_be_missing_or_linked_or_of_another_user() {
    let lab = Lab::unprivileged();
    let layer = &lab.image.layers[0];
    symlink("/srv", layer.join("link")).unwrap();
    fs::create_dir(layer.join("closed")).unwrap();
    fs::set_permissions(layer.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let container = lab.start();
    for (directory, expected) in
        [("/link/new/one", "/srv/new/one"), ("made", "/made"), ("/closed", "/closed")]
    {
        let program = Program {
            directory: Some(directory.into()),
            user: Some("guest".into()),
            ..lab.script("readlink /proc/self/cwd")
        };
        assert_eq!(lab.said(&container, &program).trim(), expected);
    }
}

#[test]
fn nothing_is_created_or_mounted_through_a_link_of_proc() {
    for privileged in [true, false] {
        for (link, source) in [("etc/hosts", "file"), ("data", "")] {
            let mut lab = with_host_processes(privileged);
            let victim = Victim::new(&lab);
            fs::write(lab.directory("volume").join("file"), "").unwrap();
            let planted = format!("{}/planted", victim.through(1));
            symlink(planted, lab.image.layers[0].join(link)).unwrap();
            let source = lab.directory("volume").join(source);
            lab.plan.mounts.push(Mount::bind(source, format!("/{link}")));
            let said = refusal(lab.try_start());
            assert!(said.contains("cannot mount"), "{link}: `{said}`");
            victim.assert_untouched();
        }
        // The directories that every container gets are not created there, either.
        for name in ["etc", "run"] {
            let lab = with_host_processes(privileged);
            let victim = Victim::new(&lab);
            let layer = &lab.image.layers[0];
            fs::remove_dir_all(layer.join(name)).unwrap();
            symlink(victim.through(1), layer.join(name)).unwrap();
            drop(lab.try_start());
            victim.assert_untouched();
        }
    }
}

#[test]
fn file_systems_of_the_kernel_are_mounted_on_directories_only() {
    for name in ["proc", "dev", "sys"] {
        let lab = with_host_processes(false);
        let victim = Victim::new(&lab);
        let layer = &lab.image.layers[0];
        fs::remove_dir(layer.join(name)).unwrap();
        for target in ["/srv", &victim.through(1)] {
            let _ = fs::remove_file(layer.join(name));
            symlink(target, layer.join(name)).unwrap();
            let said = refusal(lab.try_start());
            assert!(said.contains(&format!("cannot mount `/{name}")), "{name}: `{said}`");
        }
        victim.assert_untouched();
    }
}

#[test]
fn lists_of_users_are_files_of_the_container_and_bounded() {
    let put = |what: &str, at: &Path, victim: &Victim| match what {
        "a FIFO" => {
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        "a device" => symlink("/dev/zero", at).unwrap(),
        "another's file" => symlink(victim.through(1) + "/secret", at).unwrap(),
        _ => File::create(at).unwrap().set_len((16 << 20) + 1).unwrap(),
    };
    for what in ["a FIFO", "a device", "another's file", "a file that is too large"] {
        let lab = with_host_processes(false);
        let passwd = lab.image.layers[0].join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        put(what, &passwd, &Victim::new(&lab));
        let start = Instant::now();
        let said = refusal(lab.start().run(&lab.script("echo ran")));
        assert!(said.contains("/etc/passwd"), "{what}: `{said}`");
        assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
    }
}

#[test]
fn devices_in_a_volume_are_unusable_without_privileges() {
    for (mut lab, expected) in [(Lab::new(), "usable"), (Lab::unprivileged(), "not")] {
        let volume = lab.directory("volume");
        let device = rustix::fs::makedev(1, 5);
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, volume.join("zero"), kind, mode, device).unwrap();
        lab.plan.mounts.push(Mount::bind(&volume, "/volume"));
        lab.plan.mounts.push(Mount::bind(volume.join("zero"), "/srv/zero"));
        let container = lab.start();
        for path in ["/volume/zero", "/srv/zero"] {
            let script = format!("head -c 1 {path} > /dev/null 2>&1 && echo usable || echo not");
            assert_eq!(lab.says(&container, &script), expected, "{path}");
        }
    }
}

#[test]
fn an_image_without_layers_has_no_devices_either() {
    let mut lab = Lab::unprivileged();
    let layer = lab.image.layers.pop().unwrap();
    lab.plan.mounts.push(Mount::bind(layer.join("bin"), "/bin"));
    let container = lab.start();
    let script = "grep ' / / ' /proc/self/mountinfo | cut -d ' ' -f 6; awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo";
    assert!(lab.says(&container, script).contains("nodev"));
}

#[test]
fn files_of_the_host_are_copies() {
    let host = |name: &str| fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
    let before = ["hosts", "resolv.conf", "hostname"].map(host);
    for lab in [Lab::new(), Lab::unprivileged()] {
        let layer = &lab.image.layers[0];
        // As in many images: a dangling link, and one to a file of the image.
        symlink("../run/systemd/resolve/stub-resolv.conf", layer.join("etc/resolv.conf")).unwrap();
        fs::write(layer.join("srv/hosts"), "of the image").unwrap();
        symlink("/srv/hosts", layer.join("etc/hosts")).unwrap();
        let container = lab.start();
        let said = lab.says(&container, "cat /etc/hosts /etc/resolv.conf /etc/hostname");
        assert_eq!(said, before.concat().trim());
        lab.says(
            &container,
            "for name in hosts resolv.conf hostname; do
                echo 6.6.6.6 > /etc/$name && chmod 4777 /etc/$name && chown 1000 /etc/$name || exit 1
            done",
        );
        assert_eq!(["hosts", "resolv.conf", "hostname"].map(host), before);
        assert_eq!(lab.says(&container, "cat /etc/hosts /srv/hosts"), "6.6.6.6\n6.6.6.6");
        assert_eq!(fs::read_to_string(layer.join("srv/hosts")).unwrap(), "of the image");
    }
}

#[test]
fn an_unprivileged_container_has_a_process_limit() {
    let limits = |lab: &Lab| {
        let _container = lab.start();
        let limit = |cgroup: PathBuf| fs::read_to_string(cgroup.join("pids.max")).ok();
        let limits: Vec<String> = cgroups_of_lab(lab).into_iter().filter_map(limit).collect();
        limits.into_iter().find(|limit| limit != "max\n").unwrap_or_default()
    };
    let mut lab = Lab::unprivileged();
    assert_eq!(limits(&lab), "2050\n", "podman's 2048, and PID 1 with a thread");
    lab.plan.pids = Some(5000);
    assert_eq!(limits(&lab), "5002\n");
    assert_eq!(limits(&Lab::new()), "");
}

/// Makes perl available, which sends requests to the terminal and is not part of busybox.
pub(super) fn with_perl(lab: &mut Lab) {
    for path in ["/usr", "/lib", "/lib64"] {
        let read_only = Mount { read_only: true, ..Mount::bind(path, path) };
        lab.plan.mounts.push(read_only);
    }
}

#[test]
fn a_container_cannot_inject_terminal_input() {
    // TIOCSTI, with and without bits that the kernel ignores; TIOCLINUX, TIOCSETD, KDSETMODE, VT_ACTIVATE.
    let requests = "for my $request (0x5412, 0xffffffff00005412, 0x541c, 0x5423, 0x4b3a, 0x5606) {
            my $text = q(x); $! = 0;
            print syscall(16, 0, $request, $text) == 0 ? q(done ) : $! == 1 ? q(refused ) : qq(tried: $! );
        }";
    for (mut lab, expected) in
        [(Lab::new(), "done "), (Lab::unprivileged(), "refused refused refused refused refused refused end.")]
    {
        with_perl(&mut lab);
        let mut screen = Screen::new();
        let container = lab.start();
        let program = screen.script(&format!("/usr/bin/perl -e '{}'; echo end.", requests.replace('\n', "")));
        let mut program = container.run(&program).unwrap();
        let shown = screen.shows("end.");
        assert!(shown.contains(expected), "{shown}");
        assert!(program.wait(Some(SOON)).unwrap().is_success());
    }
}

#[test]
fn kernel_keys_of_the_machines_root_are_inaccessible() {
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1)
    let ask = "exec /usr/bin/perl -e 'print syscall(250, 0, -4, 1) < 0 ? \"refused\" : \"has it\"'";
    for (mut lab, expected) in [(Lab::new(), "has it"), (Lab::unprivileged(), "refused")] {
        with_perl(&mut lab);
        assert_eq!(lab.says(&lab.start(), ask), expected);
    }
}

#[test]
fn the_output_of_a_program_is_a_pipe() {
    let lab = Lab::unprivileged();
    let container = lab.start();
    lab.says(&container, "echo earlier");
    let script = "stat -L -c %F /proc/$$/fd/1 /proc/$$/fd/2
        : 2>/dev/null > /proc/self/fd/1; chmod 4777 /proc/self/fd/1 2>/dev/null
        head -c 1 /proc/self/fd/1 </dev/null >/dev/null 2>&1 & sleep 0.1; kill $! 2>/dev/null; true";
    assert_eq!(lab.says(&container, script), "fifo\nfifo");
    assert!(lab.log().starts_with("earlier\n"), "{}", lab.log());
    assert_eq!(fs::metadata(&lab.log).unwrap().permissions().mode() & 0o7022, 0);
}

/// Deeper than the limit of descriptors: a tree that cannot be removed would keep its memory, and block a later
/// container of that name.
#[test]
fn a_very_deep_tree_is_removed_with_its_container() {
    let lab = Lab::unprivileged();
    let container = lab.start();
    let script = "cd /tmp; for number in $(seq 1500); do mkdir d && cd d || exit; done; echo deep";
    assert_eq!(lab.says(&container, script), "deep");
    drop(container);
    assert!(!lab.plan.scratch.exists());
    lab.start();
}

/// Processes of the host that have no capabilities, or no more than root in such a container: root could become their
/// user, and enter their root.
#[test]
fn processes_of_the_machine_cannot_be_inspected() {
    processes_cannot_be_inspected_in("/proc", with_host_processes(false));
    // A read-only mount does not make read-only what a link of it leads to.
    for (volume, processes) in [("/proc", "/machine"), ("/", "/machine/proc")] {
        let mut lab = Lab::unprivileged();
        lab.plan.mounts.push(Mount { read_only: true, ..Mount::bind(volume, "/machine") });
        processes_cannot_be_inspected_in(processes, lab);
    }
}

fn processes_cannot_be_inspected_in(processes: &str, mut lab: Lab) {
    with_perl(&mut lab);
    let container = lab.start();
    let own = "sleep 60 & cat /proc/$!/root/etc/passwd > /dev/null && echo own; kill $!";
    assert_eq!(lab.says(&container, own), "own");
    let files = "mkdir /a /b && echo moved > /a/x && ln /a/x /b/y && mv /a/x /b/x && cat /b/x";
    assert_eq!(lab.says(&container, files), "moved");
    let beside = Lab::unprivileged();
    let beside_container = beside.start();
    let mut beside_program = beside_container.run(&beside.script("exec sleep 60")).unwrap();
    let init = beside_container.link.0.pid().unwrap().as_raw_pid();
    let beside_process = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
    let mut others =
        [vec!["--reuid", "1000", "--regid", "1000", "--clear-groups"], vec!["--bounding-set", "-all"]].map(
            |rights| process::Command::new("setpriv").args(rights).args(["sleep", "60"]).spawn().unwrap(),
        );
    let numbers = others.iter().map(|other| other.id().to_string()).chain([beside_process.trim().to_owned()]);
    for (number, user) in numbers.zip([1000, 0, 0]) {
        until("it sleeps", || fs::read_to_string(format!("/proc/{number}/comm")).unwrap() == "sleep\n");
        let look = format!(
            "$) = q({user} {user}); $> = {user}; print opendir(my $root, q({processes}/{number}/root/)) ? q(in) : qq($!)"
        );
        let said = lab.says(&container, &format!("exec /usr/bin/perl -e '{look}'"));
        assert_eq!(said, "Permission denied", "{number}");
    }
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    drop(beside_container);
    beside_program.wait(Some(SOON)).unwrap();
}

/// A socket names the process at its other end by a pidfd (`SO_PEERPIDFD`), whatever its PID namespace.
#[test]
fn no_open_files_are_taken_from_processes() {
    let mut lab = Lab::unprivileged();
    with_perl(&mut lab);
    let take = "my $own = syscall(434, $$, 0); print syscall(438, $own, 0, 0) < 0 ? qq($!) : q(taken)";
    let said = lab.says(&lab.start(), &format!("exec /usr/bin/perl -e '{take}'"));
    assert_eq!(said, "Operation not permitted");
}

/// The kernel gives handles of the namespaces of the machine in several ways, and lets a user into those that the same
/// user has made.
#[test]
fn no_namespace_is_entered() {
    let enter =
        "open($own, q(/proc/self/ns/uts)); print syscall(308, fileno($own), 0) < 0 ? qq($!) : q(entered)";
    for (mut lab, expected) in [(Lab::new(), "entered"), (Lab::unprivileged(), "Operation not permitted")] {
        with_perl(&mut lab);
        // Who has made the namespace may enter it.
        let said = lab.says(&lab.start(), &format!("exec unshare -Uru /usr/bin/perl -e '{enter}'"));
        assert_eq!(said, expected);
    }
}

/// With the pidfd of a process that has a user namespace of its own, setns(2) would lead to its mounts: those of the
/// machine.
#[test]
fn sockets_give_no_process_of_the_machine_and_no_address_of_others() {
    let mut lab = Lab::unprivileged();
    with_perl(&mut lab);
    let ask = "socketpair($a, $b, 1, 1, 0); socket($s, 10, 2, 0);
        sub report { print $_[0] ? q(allowed ) : qq($!; ) }
        report(defined getsockopt($a, 1, 77)); report(setsockopt($a, 1, 76, 1));
        report(setsockopt($s, 41, 78, 1)); report(setsockopt($s, 0, 15, 1)); report(setsockopt($s, 41, 26, 1))";
    let said = lab.says(&lab.start(), &format!("exec /usr/bin/perl -e '{ask}'"));
    assert_eq!(said, format!("{}allowed", "Operation not permitted; ".repeat(4)));
}
