//! What a container tries that wants out, and what it finds instead.

use super::*;

/// A directory of the machine's that no container may change, and a file in it that none may read.
struct Victim(Scratch);

impl Victim {
    fn new(lab: &Lab) -> Self {
        let folder = lab.folder("victim");
        fs::write(folder.join("secret"), "secret").unwrap();
        Self(Scratch(folder))
    }

    /// The directory through another process's root.
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
            let program = Program { folder: Some(way.clone()), ..lab.script("pwd -P; ls") };
            let said = refusal(container.run(&program));
            assert!(said.contains("cannot have the working directory"), "{way}: `{said}`, {}", lab.log());
        }
        drop(container);
        for way in ways {
            let mut image = lab.image.clone();
            image.folder = way.clone();
            let said = refusal(start_from(image, &lab.plan, &lab.zygote));
            assert!(said.contains("cannot have the working directory"), "{way}: `{said}`");
        }
        victim.assert_untouched();
    }
}

#[test]
fn a_working_directory_may_be_missing_behind_a_link_or_of_another_user() {
    let lab = Lab::unprivileged();
    let layer = &lab.image.layers[0];
    symlink("/srv", layer.join("link")).unwrap();
    fs::create_dir(layer.join("closed")).unwrap();
    fs::set_permissions(layer.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let container = lab.start();
    for (folder, expected) in [("/link/new/one", "/srv/new/one"), ("made", "/made"), ("/closed", "/closed")] {
        let program = Program {
            folder: Some(folder.into()),
            user: Some("guest".into()),
            ..lab.script("readlink /proc/self/cwd")
        };
        assert_eq!(lab.said(&container, &program).trim(), expected);
    }
}

#[test]
fn nothing_is_made_or_mounted_through_a_link_of_proc() {
    for privileged in [true, false] {
        for (link, source) in [("etc/hosts", "file"), ("data", "")] {
            let mut lab = with_host_processes(privileged);
            let victim = Victim::new(&lab);
            fs::write(lab.folder("volume").join("file"), "").unwrap();
            let planted = format!("{}/planted", victim.through(1));
            symlink(planted, lab.image.layers[0].join(link)).unwrap();
            let source = lab.folder("volume").join(source);
            lab.plan.mounts.push(Mount::bind(source, format!("/{link}")));
            let said = refusal(lab.try_start());
            assert!(said.contains("cannot mount"), "{link}: `{said}`");
            victim.assert_untouched();
        }
        // What every container gets is not made there, either.
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
fn devices_in_a_volume_are_of_no_use_with_fewer_rights() {
    for (mut lab, expected) in [(Lab::new(), "usable"), (Lab::unprivileged(), "not")] {
        let volume = lab.folder("volume");
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
        // As many images have it: a link that leads nowhere, and one that leads to a file of the image.
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
