//! What others can write to, and what a container leaves there.

use super::*;

/// It would cover what it likes, such as the shell of a container with all rights.
#[test]
fn writers_to_a_volume_cannot_redirect_mounts() {
    let mut lab = Lab::new();
    let [others, tools] = ["others", "tools"].map(|name| lab.directory(name));
    fs::write(tools.join("file"), "").unwrap();
    lab.plan.writable_by_others = vec![others.clone()];
    let below = |source: &Path| vec![Mount::bind(&others, "/data"), Mount::bind(source, "/data/below")];
    for (mounts, link, target) in [
        (below(&tools), "below", "/bin"),
        (below(&tools.join("file")), "below", "/bin/sh"),
        // The files of steps come last.
        (vec![Mount::bind(&others, "/run")], "iguana", "/bin"),
    ] {
        symlink(target, others.join(link)).unwrap();
        lab.plan.mounts = mounts;
        let error = format!("{:#}", lab.try_start().map(drop).unwrap_err());
        assert!(error.contains("symbolic link"), "{error}");
        fs::remove_file(others.join(link)).unwrap();
        assert_eq!(lab.says(&lab.start(), "echo said"), "said");
        let made = others.join(link);
        fs::remove_dir(&made)
            .or_else(|_| fs::remove_file(&made))
            .or_else(|_| fs::remove_dir_all(&made))
            .unwrap();
    }
    // The same by another name of the image for it.
    symlink("../run", lab.directory("layer/var").join("run")).unwrap();
    symlink("/bin", others.join("cache")).unwrap();
    lab.plan.mounts = vec![Mount::bind(&others, "/run"), Mount::bind(&tools, "/var/run/cache")];
    let error = format!("{:#}", lab.try_start().map(drop).unwrap_err());
    assert!(error.contains("symbolic link"), "{error}");
    fs::remove_file(others.join("cache")).unwrap();
    lab.plan.mounts.truncate(1);
    // Others cannot write here.
    symlink("/srv", tools.join("below")).unwrap();
    lab.plan.mounts = vec![Mount::bind(&tools, "/data"), Mount::bind(&others, "/data/below")];
    fs::write(others.join("note"), "found").unwrap();
    assert_eq!(lab.says(&lab.start(), "cat /srv/note"), "found");
}

/// systemd takes a machine with such a file for a container, also when it starts later as the new system's PID 1.
#[test]
fn the_marker_files_of_a_container_are_not_left_in_its_volumes() {
    let mut lab = Lab::new();
    let [run, etc] = ["of-host/run", "of-host/etc"].map(|name| lab.directory(name));
    lab.plan.mounts.extend([Mount::bind(&run, "/run"), Mount::bind(&etc, "/etc")]);
    drop(lab.start());
    assert!(!run.join(".containerenv").exists() && !etc.join("mtab").is_symlink());
    lab.plan.mounts.clear();
    for read_only in [false, true] {
        lab.plan.read_only = read_only;
        let container = lab.start();
        assert_eq!(
            lab.says(&container, "cat /run/.containerenv; readlink /etc/mtab"),
            "engine=\"iguana\"\n/proc/mounts"
        );
    }
}

#[test]
fn what_a_container_wrote_is_kept_if_requested() {
    for keep in [true, false] {
        let mut lab = Lab::new();
        lab.plan.keep = keep;
        let container = lab.start();
        lab.says(&container, "echo kept > /srv/note");
        drop(container);
        let note = lab.plan.scratch.join("upper/srv/note");
        assert_eq!(fs::read_to_string(note).ok().as_deref(), keep.then_some("kept\n"));
        // The next container of this name begins anew.
        assert_eq!(lab.says(&lab.start(), "cat /srv/note 2> /dev/null || echo new"), "new");
    }
}

/// Whoever has the machine's `/run` would write the scripts of containers with all rights.
#[test]
fn a_volume_does_not_expose_mounts_of_other_containers() {
    let mut lab = Lab::unprivileged();
    let above = lab.directory.0.parent().unwrap().to_owned();
    let name = lab.directory.0.file_name().unwrap().to_str().unwrap().to_owned();
    lab.plan.mounts = vec![Mount::bind(&above, "/data"), Mount::bind(lab.directory("note"), "/note")];
    let look = format!(
        "ls /data | grep -c {name}; ls /data/{name}; touch /data/{name}/x 2> /dev/null || echo denied; \
        mv /data/{name} /data/moved 2> /dev/null || echo stays; touch /note/x && echo written"
    );
    assert_eq!(lab.says(&lab.start(), &look), "1\ndenied\nstays\nwritten");
    lab.plan.privileged = true;
    assert!(lab.says(&lab.start(), &format!("ls /data/{name}")).contains("layer"));
}

/// A volume above a shared directory reaches it by a path on which no mount of the container says so.
#[test]
fn writers_to_a_volume_cannot_redirect_mounts_below_a_volume_above_it() {
    let mut lab = Lab::new();
    let [others, tools] = ["srv/others", "tools"].map(|name| lab.directory(name));
    let above = others.parent().unwrap().to_owned();
    lab.plan.writable_by_others = vec![others.clone()];
    symlink("/bin", others.join("cache")).unwrap();
    for (source, inside) in [(above, "/srv/others/cache"), ("/".into(), "/srv/whole")] {
        let whole = Path::new("/srv/whole").join(others.strip_prefix("/").unwrap()).join("cache");
        let target = if inside == "/srv/whole" { whole } else { inside.into() };
        let place = if inside == "/srv/whole" { inside } else { "/srv" };
        lab.plan.mounts = vec![Mount::bind(source, place), Mount::bind(&tools, target)];
        let error = format!("{:#}", lab.try_start().map(drop).unwrap_err());
        assert!(error.contains("symbolic link"), "{error}");
    }
}

/// A disk's link would choose which programs of the container a mount covers.
#[test]
fn links_of_a_new_system_stay_in_it_also_for_targets() {
    let mut lab = Lab::new();
    let [new_root, tools] = ["sysroot", "tools"].map(|name| lab.directory(name));
    fs::write(tools.join("note"), "found").unwrap();
    fs::create_dir(new_root.join("opt")).unwrap();
    symlink("/bin", new_root.join("opt/tools")).unwrap();
    for place in ["/sysroot", "/mnt"] {
        let target = Path::new(place).join("opt/tools");
        lab.plan.mounts = vec![Mount::bind(&new_root, place), Mount::bind(&tools, target)];
        assert_eq!(lab.says(&lab.start(), &format!("cat {place}/bin/note")), "found");
    }
    assert!(new_root.join("bin").is_dir(), "the link leads there in the new system");
}

/// `VOLUME` of a Containerfile, with podman's `--image-volume=anonymous`.
#[test]
fn volumes_of_the_image_have_its_files_and_are_writable() {
    for privileged in [true, false] {
        let mut lab = Lab::new();
        (lab.plan.privileged, lab.plan.read_only) = (privileged, true);
        let data = lab.directory("layer/data");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1770)).unwrap();
        fs::create_dir(data.join("inner")).unwrap();
        fs::write(data.join("inner/file"), "text").unwrap();
        std::os::unix::fs::chown(data.join("inner/file"), Some(7), Some(8)).unwrap();
        fs::set_permissions(data.join("inner/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(data.join("inner/file"), data.join("again")).unwrap();
        symlink("inner/file", data.join("link")).unwrap();
        lab.image.volumes = ["/data", "/missing", "/sys/fs/cgroup"].map(PathBuf::from).into();
        let container = lab.start();
        let facts =
            "stat -c '%a %u %g %h' /data /data/inner/file; readlink /data/link; stat -c %s /data/again";
        assert_eq!(lab.says(&container, facts), "1770 0 0 3\n4750 7 8 2\ninner/file\n4");
        let writes = "echo more >> /data/inner/file && touch /missing/new && cat /data/again";
        assert_eq!(lab.says(&container, writes), "textmore");
        assert_eq!(lab.says(&container, "grep -cE ' /(data|missing) ' /proc/self/mounts"), "2");
        assert_eq!(fs::read_to_string(data.join("again")).unwrap(), "text");
        drop(container);
        assert_eq!(lab.says(&lab.start(), "cat /data/again; ls /missing"), "text");
        lab.plan.mounts.push(Mount::bind(lab.directory("other"), "/data"));
        assert_eq!(lab.says(&lab.start(), "ls /data"), "");
    }
}
