//! `iguana build` from its command line, on a small made-up system.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test panics, also in the functions that tests share"
)]
#![allow(clippy::disallowed_methods, reason = "tests write to temporary directories")]

mod system;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use system::{RELEASE, System, fails, kernel, module, succeeds, uefi_kernel, unpack};

/// A workflow without a mistake.
const FLOW: &[u8] = b"jobs: {a: {container: {image: r.example/a}}}\n";

#[test]
fn builds_by_different_users_in_different_directories_are_identical() {
    let system = System::new();
    system.write("flow.yaml", FLOW);
    succeeds(&mut system.build("one.img", &["--fresh", "--workflow", "flow.yaml"]));
    let other_directory = system.path("other");
    fs::create_dir(&other_directory).unwrap();
    // Another umask, temporary directory, locale and time zone.
    let mut other = std::process::Command::new("/bin/sh");
    let iguana = system.build("two.img", &["--fresh", "--workflow", "flow.yaml"]);
    other.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(iguana.get_program()).args(iguana.get_args());
    other
        .current_dir(system.path(""))
        .env("TMPDIR", &other_directory)
        .env("TZ", "Asia/Tokyo")
        .env("LC_ALL", "C");
    succeeds(&mut other);
    assert_eq!(fs::read(system.path("one.img")).unwrap(), fs::read(system.path("two.img")).unwrap());
}

#[test]
fn the_cache_gives_what_a_fresh_build_gives() {
    let system = System::new();
    let first = succeeds(&mut system.build("one.img", &[]));
    let second = succeeds(&mut system.build("two.img", &[]));
    succeeds(&mut system.build("three.img", &["--fresh"]));
    assert!(
        first.contains("compressing the modules") && !second.contains("compressing the modules"),
        "{second}"
    );
    let read = |name| fs::read(system.path(name)).unwrap();
    assert_eq!(read("one.img"), read("two.img"));
    assert_eq!(read("one.img"), read("three.img"));
}

#[test]
fn a_changed_module_is_packed_again() {
    let system = System::new();
    succeeds(&mut system.build("one.img", &[]));
    system.write_module("kernel/fs/new.ko", &module("new", "depends=", RELEASE));
    let said = succeeds(&mut system.build("two.img", &[]));
    assert!(said.contains("6 of 7 modules"), "{said}");
}

#[test]
fn the_initrd_has_the_requested_contents() {
    let system = System::new();
    system.write("flow.yaml", FLOW);
    system.write("registries.conf", b"[[registry]]\nlocation = \"10.0.2.2:5000\"\ninsecure = true\n");
    let more = ["--workflow", "flow.yaml", "--registries", "registries.conf"];
    let said = succeeds(system.build("initrd", &more).env("SOURCE_DATE_EPOCH", "1700000000"));
    assert!(said.contains("5 of 6 modules"), "{said}");
    let directory = system.path("unpacked");
    unpack(&system.path("initrd"), &directory);
    let read = |path: &str| fs::read_to_string(directory.join(path)).unwrap();
    assert_eq!(read("etc/iguana/control.yaml").as_bytes(), FLOW);
    assert!(read("etc/containers/registries.conf").contains("10.0.2.2:5000"));
    let version = env!("CARGO_PKG_VERSION");
    let facts = format!("VERSION={version}\nKERNEL={RELEASE}\nDATE=1700000000\n");
    assert_eq!(read("etc/iguana/build"), facts);
    assert_eq!(
        names(&directory.join("usr/lib/iguana/early")),
        ["00-loop.ko", "01-lz4_test.ko", "02-squashfs.ko"]
    );
    assert_eq!(read("modules/modules.builtin"), "kernel/lib/crc16.ko\n");
    assert!(
        read("modules/modules.dep")
            .contains("kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko\n")
    );
    assert_eq!(read("modules/modules.alias"), "alias virtio:d00000002v* virtio_blk\n");
    assert!(directory.join("modules/kernel/drivers/virtio/virtio.ko").exists());
    assert!(!directory.join("modules/kernel/sound").exists());
}

#[test]
fn modules_can_be_added() {
    let system = System::new();
    let said = succeeds(&mut system.build("initrd", &["--add-modules", "kernel/sound/"]));
    assert!(said.contains("6 of 6 modules"), "{said}");
    let told = fails(&mut system.build("initrd", &["--add-modules", "kernel/absent"]));
    assert!(told.contains("error: no kernel modules found below `kernel/absent`"), "{told}");
}

#[test]
fn a_version_names_a_kernel_too() {
    let system = System::new();
    let modules = system.modules();
    let arguments = ["build", "--init", "iguana-init", "--output", "a", "--kernel", RELEASE, "--modules"];
    succeeds(system.iguana(&arguments).arg(&modules));
    let arguments = ["build", "--init", "iguana-init", "--output", "b", "--modules"];
    succeeds(system.iguana(&arguments).arg(&modules));
    assert_eq!(fs::read(system.path("a")).unwrap(), fs::read(system.path("b")).unwrap());
}

/// Runs `build` with a mistake, and expects the error and a word of the hint.
fn refuses(system: &System, more: &[&str], error: &str, hint: &str) {
    system.write("initrd", b"old");
    let told = fails(&mut system.build("initrd", more));
    assert!(told.starts_with(&format!("iguana: error: {error}")), "{told}");
    let hinted = told.lines().any(|line| line.starts_with("  hint: ") && line.contains(hint));
    assert!(hinted, "{told}");
    assert_eq!(fs::read(system.path("initrd")).unwrap(), b"old");
}

#[test]
fn a_wrong_kernel_is_reported() {
    let system = System::new();
    let refuses_kernel = |kernel: &str, error: &str| {
        let arguments = ["build", "--init", "iguana-init", "--output", "initrd", "--kernel", kernel];
        let told = fails(&mut system.iguana(&arguments));
        assert!(told.starts_with(&format!("iguana: error: {error}")), "{told}");
        assert!(told.contains("\n  hint: "), "{told}");
    };
    refuses_kernel("./absent", "cannot read the kernel `./absent`");
    refuses_kernel("9.9.9-absent", "cannot read the kernel modules in `/lib/modules/9.9.9-absent`");
    system.write("text", b"hello");
    refuses_kernel("./text", "cannot use `./text`");
    system.write("other", &kernel("9.9.9-other"));
    refuses_kernel("./other", "cannot read the kernel modules in `/lib/modules/9.9.9-other`");
}

/// A program in QEMU's place sends what a hostile guest could send.
#[test]
fn a_guest_does_not_choose_what_try_prints_as_json() {
    let system = System::new();
    system.write("flow.yaml", FLOW);
    let event = r###"{"uptime":1.0,"time":"x","event":"failure","stage":"job","job":"##vso[task.a]b","error":"\u009b31m \u202ex",
        "causes":["##[error]forged"],"hint":null,"output":[]}"###.replace("\n        ", "");
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in file,id=events,path=*) cat >${{word#*path=}} <<'END'\n{event}\nEND\nesac; done\n"
    );
    let qemu = system.write("bin/qemu-system-x86_64", script.as_bytes());
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", system.path("bin").display());
    let mut run =
        system.iguana(&["try", "flow.yaml", "--init", "iguana-init", "--fresh", "--output", "json"]);
    let output = run.arg("--kernel").arg(system.kernel()).env("PATH", path).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.is_ascii() && !printed.contains("##"), "{printed}");
    // Nothing but JSON, even when the modules are packed first.
    let read: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(read["failure"]["job"], "##vso[task.a]b");
    assert_eq!(read["failure"]["error"], "\u{9b}31m \u{202e}x");
}

/// Another user's FIFO in place of a file that root names.
#[test]
fn a_fifo_instead_of_an_input_is_refused_without_waiting() {
    let system = System::new();
    let fifo = system.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let initrd = ["build", "--init", "iguana-init", "--output", "out"];
    for arguments in [
        &[&initrd[..], &["--kernel", "./fifo"]].concat()[..],
        &["check", "./fifo"],
        &["lock", "./fifo"],
        &["bundle", "./fifo", "--output", "out.tar"],
    ] {
        let told = fails(&mut system.iguana(arguments));
        assert!(told.contains("it is a FIFO"), "{arguments:?}: {told}");
    }
    let keys = ["--format", "uki", "--sign-key", "fifo", "--sign-cert", "fifo"];
    let told = fails(&mut system.build("out", &keys));
    assert!(told.contains("it is a FIFO"), "{told}");
    // A shell's pipe is no file of another user.
    let flow = system.write("flow.yaml", FLOW);
    let mut check = Command::new("bash");
    check.args(["-c", "\"$0\" check <(cat \"$1\") && cat \"$1\" | \"$0\" check /dev/stdin"]);
    succeeds(check.arg(env!("CARGO_BIN_EXE_iguana")).arg(flow));
}

#[test]
fn wrong_modules_are_reported() {
    let system = System::new();
    let empty = system.path("empty");
    fs::create_dir(&empty).unwrap();
    refuses(&system, &["--modules", "empty"], "no kernel modules found in `empty`", "--modules");
    refuses(&system, &["--modules", "absent"], "cannot read the kernel modules in `absent`", "--modules");
    system.write_module("kernel/fs/other.ko", &module("other", "depends=", "5.10.0-1"));
    let error = format!(
        "the kernel module `kernel/fs/other.ko` was built for kernel `5.10.0-1`, not for `{RELEASE}`"
    );
    refuses(&system, &[], &error, "must belong to the same kernel");
}

#[test]
fn a_kernel_that_cannot_mount_the_image_is_reported() {
    let system = System::new();
    fs::remove_file(system.modules().join("kernel/fs/squashfs/squashfs.ko")).unwrap();
    refuses(&system, &[], "this kernel lacks `squashfs`", "squashfs");
    system.write_module("modules.builtin", b"kernel/fs/squashfs/squashfs.ko\nkernel/lib/crc16.ko\n");
    succeeds(&mut system.build("initrd", &[]));
}

#[test]
fn a_wrong_file_is_reported() {
    let system = System::new();
    system.write("text", b"hello");
    refuses(&system, &["--workflow", "absent.yaml"], "cannot read the workflow `absent.yaml`", "--workflow");
    refuses(&system, &["--ca", "absent.pem"], "cannot read the CA certificates `absent.pem`", "--ca");
    refuses(&system, &["--ca", "text"], "cannot use the CA certificates in `text`", "PEM");
    refuses(&system, &["--registries", "text"], "cannot use the registries in `text`", "registries.conf");
    refuses(&system, &["--auth", "text"], "cannot use the logins in `text`", "auth.json");
    system.write("helper.json", b"{\"credHelpers\": {\"r.example\": \"pass\"}}");
    refuses(&system, &["--certs", "text"], "cannot read the directory `text`", "certs.d");
    fs::create_dir_all(system.path("certs/r.example:5000")).unwrap();
    system.write("certs/r.example:5000/me.key", b"");
    let half = fails(&mut system.build("initrd", &["--certs", "certs"]));
    assert!(half.contains("`me.key` exists without `me.cert`") && half.contains("hint: "), "{half}");
}

#[test]
fn a_login_that_an_initrd_cannot_use_causes_a_warning() {
    let system = System::new();
    system.write(
        "helper.json",
        b"{\"credHelpers\": {\"r.example\": \"pass\"}, \"auths\": {\"b.example\": {\"auth\": 7}}}",
    );
    let output = system.build("initrd", &["--auth", "helper.json"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let parts = [
        "warning: helper.json: ",
        "docker-credential-pass",
        "hint: an initrd has no credential helpers",
        "`b.example`",
    ];
    for part in parts {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn an_initrd_with_logins_is_readable_by_its_owner_only() {
    let system = System::new();
    let mode = || fs::metadata(system.path("initrd")).unwrap().permissions().mode() & 0o777;
    succeeds(&mut system.build("initrd", &[]));
    assert_eq!(mode(), 0o644);
    system.write("auth.json", b"{\"auths\": {\"r.example\": {\"auth\": \"YTpi\"}}}");
    let said = succeeds(&mut system.build("initrd", &["--auth", "auth.json"]));
    assert!(said.contains("only its owner may read it"), "{said}");
    assert_eq!(mode(), 0o600);
    let directory = system.path("unpacked");
    unpack(&system.path("initrd"), &directory);
    let logins = directory.join("etc/containers/auth.json");
    assert_eq!(fs::metadata(&logins).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(logins).unwrap().contains("YTpi"));
}

#[test]
fn files_staged_for_a_medium_are_readable_only_by_their_owner() {
    let system = System::new();
    fs::write(system.kernel(), uefi_kernel(RELEASE)).unwrap();
    let (staged, seen) = (system.path("staged"), system.path("seen"));
    fs::create_dir(&staged).unwrap();
    // A tool in place of each that writes files: it lists the temporary directories, and then does its work.
    for tool in ["mcopy", "sfdisk", "xorriso", "sbsign"] {
        let list = format!("ls -ld {}/* >>{}", staged.display(), seen.display());
        let real = format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin exec {tool} \"$@\"");
        let script = system.write(&format!("bin/{tool}"), format!("#!/bin/sh\n{list}\n{real}\n").as_bytes());
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(system.write("secret", b"secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", system.path("bin").display());
    for format in ["usb", "iso"] {
        let mut build = system.build("medium", &["--fresh", "--format", format, "--add", "secret"]);
        succeeds(build.env("PATH", &path).env("TMPDIR", &staged));
        assert_eq!(fs::metadata(system.path("medium")).unwrap().permissions().mode() & 0o777, 0o600);
        let listed = fs::read_to_string(&seen).unwrap();
        assert!(listed.lines().all(|line| line.starts_with("drwx------")), "{listed}");
        fs::remove_file(&seen).unwrap();
    }
}

#[test]
fn a_workflow_is_checked_and_all_its_findings_are_reported() {
    let system = System::new();
    system.write("typo.yaml", b"jobs:\n  a:\n    containre: {image: x}\n  b: {}\n");
    let told = fails(&mut system.build("initrd", &["--workflow", "typo.yaml"]));
    for part in ["typo.yaml:3:5", "did you mean `container`?", "typo.yaml:4:3", "correct the errors above"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!system.path("initrd").exists());
    system.write("bytes", b"\xff\xfe");
    let told = fails(&mut system.build("initrd", &["--workflow", "bytes"]));
    assert!(told.contains("not UTF-8 text") && told.contains("`bytes` is not a workflow"), "{told}");
}

#[test]
fn a_workflow_with_warnings_is_accepted() {
    let system = System::new();
    system.write("noted.yaml", b"on: push\njobs: {a: {container: r.example/a}}\n");
    let mut build = system.build("initrd", &["--workflow", "noted.yaml"]);
    let output = build.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("note: `on` has no effect"), "{told}");
}

#[test]
fn a_program_that_cannot_start_in_the_initrd_is_reported() {
    let system = System::new();
    system.write("text", b"hello");
    // `/proc/self/exe` is this test program, which has shared libraries.
    for init in ["text", "/proc/self/exe"] {
        let command = ["build", "--output", "initrd", "--init", init, "--kernel"];
        let told = fails(system.iguana(&command).arg(system.kernel()));
        assert!(told.starts_with(&format!("iguana: error: cannot use `{init}` in the initrd")), "{told}");
        assert!(told.contains("  hint: `cargo xtask dist` builds a static"), "{told}");
    }
}

#[test]
fn a_missing_tool_is_reported_with_its_package() {
    let system = System::new();
    let told = fails(system.build("initrd", &[]).env("PATH", "/nowhere"));
    assert!(told.contains("error: `mksquashfs` is not on the PATH"), "{told}");
    assert!(told.contains("squashfs-tools"), "{told}");
    let told = fails(system.build("initrd", &["--shell"]).env("PATH", "/nowhere"));
    assert!(told.contains("error: `busybox` is not on the PATH"), "{told}");
    let workflow = system.write("flow.yaml", FLOW);
    let told = fails(system.iguana(&["try"]).arg(workflow).env("PATH", "/nowhere"));
    assert!(told.contains("error: `qemu-system-x86_64` is not on the PATH"), "{told}");
    assert!(told.contains("qemu-system-x86"), "{told}");
}

#[test]
fn a_failure_to_pack_includes_the_output_of_the_tool() {
    let system = System::new();
    let tool = system.write("bin/mksquashfs", b"#!/bin/sh\necho no room >&2\nexit 1\n");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", system.path("bin").display());
    let told = fails(system.build("initrd", &[]).env("PATH", path));
    assert!(told.contains("`mksquashfs` failed (exit status: 1): no room"), "{told}");
    // Nothing partial stays in the cache.
    assert_eq!(names(&system.path("cache/iguana/modules")), Vec::<String>::new());
}

#[test]
fn an_output_that_cannot_be_written_is_reported() {
    let system = System::new();
    let told = fails(&mut system.build("absent/initrd", &[]));
    assert!(told.starts_with("iguana: error: cannot write `absent/initrd`"), "{told}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The trust directory may belong to another user than the one who builds.
#[test]
fn a_trust_directory_cannot_add_foreign_files_to_an_initrd() {
    let system = System::new();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("shadow");
    fs::write(&secret, "[[registry]]\nlocation = \"secret.example\"\n").unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&secret, 0o600);
    system.write("trust/policy.json", b"{\"default\": [{\"type\": \"reject\"}]}");
    let link = system.path("trust/registries.conf");
    symlink(&secret, &link).unwrap();
    let build = || system.build("initrd", &["--trust", "trust"]);
    let said = fails(&mut build());
    assert!(said.contains("dangling symbolic link") && said.contains("hint: "), "{said}");
    assert!(!system.path("initrd").exists());
    fs::remove_file(&link).unwrap();
    succeeds(Command::new("mkfifo").arg(&link));
    assert!(fails(&mut build()).contains("it is a FIFO"));
    fs::remove_file(&link).unwrap();
    let own = system.write("trust/registries.conf", b"");
    mode(&own, 0o600);
    assert!(succeeds(&mut build()).contains("only its owner may read it"));
    assert_eq!(fs::metadata(system.path("initrd")).unwrap().permissions().mode() & 0o777, 0o600);
}
