//! Images in the shapes of makers that cannot be run here, rebuilt by hand from the makers' sources and test data, which each
//! shape cites. They are pulled and unpacked, and the tree is that which podman 4.3 shows (`podman pull oci:…`,
//! `podman image mount`) but for directories that have no entry in a layer: podman gives them the mode 0755 and the time of the
//! pull, even if a lower layer has them; here they keep what the lower layer states, or have the time 0.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod image;

use image::{DOCKER, Layer, Made, OCI, ROOT_AT_0, ROOT_AT_1, Style, Types, with_root};
use oci_reference::Digest;
use serde_json::json;
use std::fs;
use tar::EntryType;

/// kaniko: whiteouts come first, without time, mode and parents (pkg/util/tar_util.go, `Whiteout`; pkg/snapshot/snapshot.go,
/// `writeToTar`); the root has the entry `/`, directories end with `/`, and the target of a hard link is an absolute path
/// (`AddFileToTar`, `checkHardlink`); a snapshot may have no entry (pkg/snapshot/snapshot_test.go, `TestEmptySnapshotFS`);
/// instructions without a layer are in the history.
#[test]
fn whiteouts_of_kaniko_without_parents_hide_and_its_absolute_hard_links_work() {
    let made = Made::new();
    let base = Layer::new(Style { time: 1_600_000_000, owner: 0 })
        .directory("etc/", 0o755)
        .file("etc/old", 0o644, "old")
        .directory("var/", 0o755)
        .directory("var/cache/", 0o700)
        .file("var/cache/a", 0o600, "a")
        .file("var/cache/b", 0o600, "b");
    let snapshot = Layer::new(ROOT_AT_0)
        .file("etc/.wh.old", 0, "")
        .file("var/cache/.wh.a", 0, "")
        .styled(Style { time: 1_700_000_000, owner: 0 })
        .directory("/", 0o755)
        .directory("etc/", 0o755)
        .file("etc/new", 0o640, "new")
        .directory("workspace/", 0o2755)
        .file("workspace/first", 0o755, "tool")
        .hard_link("workspace/second", 0o755, "/workspace/first");
    let config = json!({"author": "kaniko", "container": "kaniko", "docker_version": "20.10.7",
        "config": {"Cmd": ["/workspace/first"], "OnBuild": null, "ArgsEscaped": true},
        "history": [{"created_by": "base"}, {"created_by": "RUN build", "author": "kaniko"},
            {"created_by": "ENV A=b", "author": "kaniko", "empty_layer": true}, {"created_by": "RUN true"}]});
    let manifest = made.manifest(&DOCKER, config, &[base, snapshot, Layer::new(ROOT_AT_0)]);
    let image = made.pull_layout(&[manifest]);
    made.assert_tree(
        image,
        &[
            "d 755 0:0 1700000000 etc",
            "f 640 0:0 1700000000 etc/new = new",
            "d 755 0:0 1600000000 var",
            "d 700 0:0 1600000000 var/cache",
            "f 600 0:0 1600000000 var/cache/b = b",
            "d 2755 0:0 1700000000 workspace",
            "f 755 0:0 1700000000 workspace/first = tool x2",
            "f 755 0:0 1700000000 workspace/second = tool x2",
        ],
    );
}

/// jib: a layer each for dependencies, resources, classes and the arguments of the JVM; each has all parents, sorted, with the
/// mode 0755; everything is one second after the epoch (jib-core, `ReproducibleLayerBuilder` and its test, from which the
/// modes 0123 and 0456 and the time 123 are). The config is that of `core/json/containerconfig.json`.
#[test]
fn layers_of_jib_share_directories_and_keep_the_modes_that_it_was_told() {
    let made = Made::new();
    let of = || Layer::new(ROOT_AT_1).directory("app/", 0o755);
    let dependencies = of().directory("app/libs/", 0o755).file("app/libs/a.jar", 0o644, "jar");
    let resources = of()
        .directory("app/resources/", 0o755)
        .styled(Style { time: 123, owner: 0 })
        .file("app/resources/fileB", 0o123, "def")
        .directory("app/resources/folder/", 0o456);
    let classes = of().directory("app/classes/", 0o755).file("app/classes/Main.class", 0o644, "class");
    let arguments = of()
        .file("app/jib-classpath-file", 0o644, "/app/resources:/app/classes:/app/libs/a.jar")
        .file("app/jib-main-class-file", 0o644, "Main");
    let entrypoint = ["java", "-cp", "@/app/jib-classpath-file", "@/app/jib-main-class-file"];
    let config = json!({"created": "1970-01-01T00:00:20Z", "config": {
            "Env": ["VAR1=VAL1", "VAR2=VAL2"], "Entrypoint": entrypoint, "Cmd": ["arg1", "arg2"],
            "Healthcheck": {"Test": ["CMD-SHELL", "/checkhealth"], "Interval": 3_000_000_000_u64,
                "Timeout": 1_000_000_000, "StartPeriod": 2_000_000_000, "Retries": 3},
            "ExposedPorts": {"1000/tcp": {}, "2000/tcp": {}, "3000/udp": {}}, "WorkingDir": "/some/workspace",
            "Labels": {"key1": "value1", "key2": "value2"}, "Volumes": {"/var/log/my-app-logs": {}}},
        "history": [{"created": "1970-01-01T00:00:00Z", "author": "Bazel", "created_by": "bazel build ...", "empty_layer": true},
            {"created": "1970-01-01T00:00:20Z", "author": "Jib", "created_by": "jib"}]});
    let manifest = made.manifest(&DOCKER, config, &[dependencies, resources, classes, arguments]);
    let image = made.pull_layout(&[manifest]);
    let run = image.configuration().config().clone().unwrap();
    assert_eq!(run.entrypoint().as_deref().unwrap(), entrypoint);
    assert_eq!(run.working_dir().as_deref(), Some("/some/workspace"));
    assert!(image.health_check().is_some());
    made.assert_tree(
        image,
        &[
            "d 755 0:0 1 app",
            "d 755 0:0 1 app/classes",
            "f 644 0:0 1 app/classes/Main.class = class",
            "f 644 0:0 1 app/jib-classpath-file = /app/resources:/app/classes:/app/libs/a.jar",
            "f 644 0:0 1 app/jib-main-class-file = Main",
            "d 755 0:0 1 app/libs",
            "f 644 0:0 1 app/libs/a.jar = jar",
            "d 755 0:0 1 app/resources",
            "f 123 0:0 123 app/resources/fileB = def",
            "d 456 0:0 123 app/resources/folder",
        ],
    );
}

/// ko: the program below `ko-app`, and its data below `/var/run/ko`, with absolute names, directories without a slash at the
/// end, and the mode 0555 for all (pkg/build/gobuild.go, `tarBinary`, `tarKoData`); links in the data are resolved
/// (`walkRecursive`). In the usual base `/var/run` is a link, which the directory replaces. A bill of materials is in the same
/// layout, in the form of `cosign save`.
#[test]
fn data_of_ko_replaces_a_link_of_the_base_and_its_bill_of_materials_is_passed_over() {
    let made = Made::new();
    let base = Layer::new(ROOT_AT_0)
        .directory("./", 0o755)
        .directory("./run/", 0o755)
        .file("./run/kept", 0o644, "kept")
        .directory("./var/", 0o755)
        .link("./var/run", "/run");
    let data = Layer::new(ROOT_AT_0)
        .directory("/var", 0o555)
        .directory("/var/run", 0o555)
        .directory("/var/run/ko", 0o555)
        .directory("/var/run/ko/refs", 0o555)
        .file("/var/run/ko/refs/HEAD", 0o555, "main");
    let program = Layer::new(ROOT_AT_0)
        .directory("ko-app", 0o555)
        .records(&[("SCHILY.xattr.user.marker", "set")])
        .file("/ko-app/tool", 0o555, "ELF");
    let config = json!({"author": "github.com/ko-build/ko", "created": "0001-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/ko-app/tool"], "Env": ["PATH=/bin:/ko-app", "KO_DATA_PATH=/var/run/ko"]},
        "history": [{"created": "0001-01-01T00:00:00Z", "created_by": "ko build ko://example.com/tool",
            "comment": "kodata contents, at $KO_DATA_PATH"}]});
    let mut image = made.manifest(&OCI, config, &[base, data, program]);
    let bill = Types { layer: "text/spdx+json", ..OCI };
    let mut bill = made.manifest(&bill, json!({}), &[]);
    image["annotations"] = json!({"kind": "dev.cosignproject.cosign/image"});
    bill["annotations"] = json!({"kind": "dev.cosignproject.cosign/sboms"});
    let image = made.pull_layout(&[bill, image]);
    made.assert_tree(
        image,
        &[
            "d 555 0:0 0 ko-app",
            "f 555 0:0 0 ko-app/tool = ELF",
            "d 755 0:0 0 run",
            "f 644 0:0 0 run/kept = kept",
            "d 555 0:0 0 var",
            "d 555 0:0 0 var/run",
            "d 555 0:0 0 var/run/ko",
            "d 555 0:0 0 var/run/ko/refs",
            "f 555 0:0 0 var/run/ko/refs/HEAD = main",
        ],
    );
}

/// Cloud Native Buildpacks: absolute names of one time (archive/writer.go, `NormalizedModTime`); parents belong to root, the
/// content of the application and of the layers to the user of the build (layers/slices.go, `createLayerFromFiles`); each slice
/// is a layer, some without entries (`SliceLayers`); the launcher and a link for each process (layers/launcher.go). The
/// metadata of all layers are labels of the image (platform/labels.go).
#[test]
fn slices_of_buildpacks_may_be_empty_and_belong_to_their_users() {
    let made = Made::new();
    let root = Style { time: 315_532_801, owner: 0 };
    let user = Style { owner: 1000, ..root };
    let empty = || Layer::new(root);
    let dependencies = empty()
        .directory("/layers", 0o755)
        .styled(user)
        .directory("/layers/samples_java", 0o755)
        .directory("/layers/samples_java/jdk", 0o755)
        .file("/layers/samples_java/jdk/release", 0o644, "17");
    let application = empty()
        .styled(user)
        .directory("/workspace", 0o755)
        .file("/workspace/run.sh", 0o750, "run")
        .link("/workspace/current", "run.sh");
    let launcher = empty().directory("/cnb", 0o755).directory("/cnb/lifecycle", 0o755).file(
        "/cnb/lifecycle/launcher",
        0o755,
        "ELF",
    );
    let processes = empty()
        .directory("/cnb", 0o755)
        .directory("/cnb/process", 0o755)
        .link("/cnb/process/web", "/cnb/lifecycle/launcher");
    let metadata = json!({"app": vec![json!({"sha": Digest::of(b"").to_string()}); 4000]}).to_string();
    let config = json!({"created": "1980-01-01T00:00:01Z", "config": {
            "User": "1000:1000", "Entrypoint": ["/cnb/process/web"], "WorkingDir": "/workspace",
            "Env": ["CNB_LAYERS_DIR=/layers", "CNB_APP_DIR=/workspace", "PATH=/cnb/process:/cnb/lifecycle:/bin"],
            "Labels": {"io.buildpacks.lifecycle.metadata": metadata, "io.buildpacks.project.metadata": "{}"}},
        "history": [{"created_by": "Layer: 'jdk', Created by buildpack: samples/java@0.0.1"},
            {"created_by": "Application Slice: 1"}]});
    let layers = [dependencies, empty(), application, empty(), launcher, processes];
    let image = made.pull_layout(&[made.manifest(&DOCKER, config, &layers)]);
    let run = image.configuration().config().clone().unwrap();
    assert_eq!(run.labels().as_ref().unwrap()["io.buildpacks.lifecycle.metadata"], metadata);
    assert_eq!((run.user().as_deref(), image.layers().len()), (Some("1000:1000"), 6));
    made.assert_tree(
        image,
        &[
            "d 755 0:0 315532801 cnb",
            "d 755 0:0 315532801 cnb/lifecycle",
            "f 755 0:0 315532801 cnb/lifecycle/launcher = ELF",
            "d 755 0:0 315532801 cnb/process",
            "l 777 0:0 315532801 cnb/process/web -> /cnb/lifecycle/launcher",
            "d 755 0:0 315532801 layers",
            "d 755 1000:1000 315532801 layers/samples_java",
            "d 755 1000:1000 315532801 layers/samples_java/jdk",
            "f 644 1000:1000 315532801 layers/samples_java/jdk/release = 17",
            "d 755 1000:1000 315532801 workspace",
            "l 777 1000:1000 315532801 workspace/current -> run.sh",
            "f 750 1000:1000 315532801 workspace/run.sh = run",
        ],
    );
}

/// nixpkgs' dockerTools: a layer for each path of the store, with absolute names, read-only directories and files, all one second
/// after the epoch (pkgs/build-support/docker/stream_layered_image.py, `archive_paths_to`), in an archive as of `docker save`
/// whose layers are not compressed (`add_layer_dir`); at last a layer with links into the store, whose names begin with `./`.
#[test]
fn an_archive_of_nix_has_a_read_only_layer_for_each_path_of_the_store() {
    let made = Made::new();
    let store = || Layer::new(ROOT_AT_1).directory("/nix/", 0o755).directory("/nix/store/", 0o755);
    let library = store()
        .directory("/nix/store/0a-libc-2/", 0o555)
        .directory("/nix/store/0a-libc-2/lib/", 0o555)
        .file("/nix/store/0a-libc-2/lib/libc.so.6", 0o555, "ELF")
        .file("/nix/store/0a-libc-2/lib/libc.a", 0o444, "ar");
    let tool = store()
        .directory("/nix/store/1b-tool-1/", 0o555)
        .directory("/nix/store/1b-tool-1/bin/", 0o555)
        .file("/nix/store/1b-tool-1/bin/tool", 0o555, "ELF")
        .link("/nix/store/1b-tool-1/lib", "/nix/store/0a-libc-2/lib");
    let links = Layer::new(ROOT_AT_1).directory("./", 0o755).link("./bin", "/nix/store/1b-tool-1/bin");
    let layers = [library, tool, links];
    let time = "1970-01-01T00:00:01+00:00";
    let comment = |path: &str| json!({"created": time, "comment": format!("store paths: ['{path}']")});
    let history = ["/nix/store/0a-libc-2", "/nix/store/1b-tool-1", "/nix/store/2c-layer"].map(comment);
    let config = json!({"created": time, "config": {"Cmd": ["/bin/tool"]}, "history": history});
    let config = with_root(config, &layers).to_string();
    let mut archive = Layer::new(ROOT_AT_1);
    let mut names = Vec::new();
    for layer in &layers {
        let bytes = layer.finish();
        let name = format!("{}/layer.tar", Digest::of(&bytes).to_string().replace("sha256:", ""));
        archive = archive.add(EntryType::Regular, &name, 0o644, "", &bytes);
        names.push(name);
    }
    let name = format!("{}.json", Digest::of(config.as_bytes()).to_string().replace("sha256:", ""));
    let manifest = json!([{"Config": name, "RepoTags": ["tool:1b"], "Layers": names}]).to_string();
    let archive = archive.file(&name, 0o644, &config).file("manifest.json", 0o644, &manifest);
    fs::remove_dir_all(made.home.path().join("image")).unwrap();
    fs::write(made.home.path().join("image"), archive.finish()).unwrap();
    made.assert_tree(
        made.pull("docker-archive"),
        &[
            "l 777 0:0 1 bin -> /nix/store/1b-tool-1/bin",
            "d 755 0:0 1 nix",
            "d 755 0:0 1 nix/store",
            "d 555 0:0 1 nix/store/0a-libc-2",
            "d 555 0:0 1 nix/store/0a-libc-2/lib",
            "f 444 0:0 1 nix/store/0a-libc-2/lib/libc.a = ar",
            "f 555 0:0 1 nix/store/0a-libc-2/lib/libc.so.6 = ELF",
            "d 555 0:0 1 nix/store/1b-tool-1",
            "d 555 0:0 1 nix/store/1b-tool-1/bin",
            "f 555 0:0 1 nix/store/1b-tool-1/bin/tool = ELF",
            "l 777 0:0 1 nix/store/1b-tool-1/lib -> /nix/store/0a-libc-2/lib",
        ],
    );
}

/// Older nixpkgs: a layer has only the path of the store, without `nix` and `nix/store`
/// (pkgs/build-support/docker/store-path-to-layer.sh). The specification states no time for such directories; here it is 0.
#[test]
fn layers_of_older_nix_without_parents_share_them() {
    let made = Made::new();
    let path = |name: &str| {
        Layer::new(ROOT_AT_1).directory(&format!("nix/store/{name}/"), 0o555).file(
            &format!("nix/store/{name}/file"),
            0o444,
            name,
        )
    };
    let config = json!({"created": "1970-01-01T00:00:01Z", "config": {}});
    let manifest = made.manifest(&OCI, config, &[path("0a"), path("1b")]);
    made.assert_tree(
        made.pull_layout(&[manifest]),
        &[
            "d 755 0:0 0 nix",
            "d 755 0:0 0 nix/store",
            "d 555 0:0 1 nix/store/0a",
            "f 444 0:0 1 nix/store/0a/file = 0a",
            "d 555 0:0 1 nix/store/1b",
            "f 444 0:0 1 nix/store/1b/file = 1b",
        ],
    );
}

/// apko: one layer without an entry of the root, in the order of the names, directories without a slash at the end, extended
/// attributes and the checksums of apk as records (pkg/build/tarball.go, `walkFS`; pkg/apk/apk/install.go); links of the merged
/// `/usr`, before what they lead to; hard links of packages.
#[test]
fn links_of_apko_may_come_before_their_targets_and_attributes_are_kept() {
    let made = Made::new();
    let sum = [("APK-TOOLS.checksum.SHA1", "Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=")];
    let layer = Layer::new(ROOT_AT_0)
        .link("bin", "usr/bin")
        .directory("etc", 0o755)
        .directory("etc/apk", 0o755)
        .file("etc/apk/world", 0o644, "busybox")
        .directory("home", 0o755)
        .styled(Style { time: 0, owner: 65_532 })
        .directory("home/nonroot", 0o700)
        .styled(ROOT_AT_0)
        .link("lib", "usr/lib")
        .directory("tmp", 0o1777)
        .directory("usr", 0o755)
        .directory("usr/bin", 0o755)
        .records(&[sum[0], ("SCHILY.xattr.user.marker", "set")])
        .file("usr/bin/busybox", 0o4755, "ELF")
        .records(&sum)
        .hard_link("usr/bin/second", 0o4755, "usr/bin/busybox")
        .link("usr/bin/sh", "/bin/busybox")
        .directory("usr/lib", 0o755)
        .directory("usr/lib/apk", 0o755)
        .directory("usr/lib/apk/db", 0o755)
        .file("usr/lib/apk/db/installed", 0o644, "P:busybox");
    let config = json!({"author": "github.com/chainguard-dev/apko", "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/bin/sh", "-l"], "User": "65532", "Env": ["PATH=/usr/bin:/bin"]},
        "history": [{"author": "apko", "created": "1970-01-01T00:00:00Z", "created_by": "apko",
            "comment": "This is an apko single-layer image"}]});
    let image = made.pull_layout(&[made.manifest(&OCI, config, &[layer])]);
    made.assert_tree(
        image,
        &[
            "l 777 0:0 0 bin -> usr/bin",
            "d 755 0:0 0 etc",
            "d 755 0:0 0 etc/apk",
            "f 644 0:0 0 etc/apk/world = busybox",
            "d 755 0:0 0 home",
            "d 700 65532:65532 0 home/nonroot",
            "l 777 0:0 0 lib -> usr/lib",
            "d 1777 0:0 0 tmp",
            "d 755 0:0 0 usr",
            "d 755 0:0 0 usr/bin",
            "f 4755 0:0 0 usr/bin/busybox = ELF x2",
            "f 4755 0:0 0 usr/bin/second = ELF x2",
            "l 777 0:0 0 usr/bin/sh -> /bin/busybox",
            "d 755 0:0 0 usr/lib",
            "d 755 0:0 0 usr/lib/apk",
            "d 755 0:0 0 usr/lib/apk/db",
            "f 644 0:0 0 usr/lib/apk/db/installed = P:busybox",
        ],
    );
    let marked = made.home.path().join("root/usr/bin/second");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(marked, "user.marker", &mut value).unwrap();
    assert_eq!(&value[..length], b"set");
}

/// Bazel's rules_oci: a config without `created` and `history` (oci/private/image.sh, `base_from_scratch`, `add_layer`), layers of
/// tar.bzl, which have the entries of an mtree specification and no others (tar/tests/BUILD, `tar_custom_mtree` with `usr/bin`
/// alone, `test_change_owner` with 1000:500 as 1000:1000 here, `space in name.txt`), or of rules_pkg, whose names begin with
/// `./`; one has no entry.
#[test]
fn layers_of_bazel_need_neither_parents_nor_entries() {
    let made = Made::new();
    let at = Style { time: 1_672_560_000, owner: 0 };
    let custom = Layer::new(at).directory("usr/bin/", 0o755).file("usr/bin/ls", 0o755, "src_file");
    let changed = Layer::new(Style { owner: 1000, ..at })
        .directory("tar/", 0o755)
        .directory("tar/tests/", 0o755)
        .file("tar/tests/space in name.txt", 0o755, "a");
    let stripped = Layer::new(at).file("opt/deep/generated.txt", 0o755, "hello a");
    let pkg = Layer::new(ROOT_AT_0)
        .directory("./", 0o755)
        .directory("./app/", 0o755)
        .file("./app/main", 0o555, "main")
        .directory("./app/main.runfiles/", 0o755)
        .link("./app/main.runfiles/main", "../main")
        .file("./usr/bin/ls", 0o555, "ls");
    let layers = [custom, changed, stripped, Layer::new(at), pkg];
    let manifest = made.manifest(&OCI, json!({"config": {"Entrypoint": ["/app/main"]}}), &layers);
    made.assert_tree(
        made.pull_layout(&[manifest]),
        &[
            "d 755 0:0 0 app",
            "f 555 0:0 0 app/main = main",
            "d 755 0:0 0 app/main.runfiles",
            "l 777 0:0 0 app/main.runfiles/main -> ../main",
            "d 755 0:0 0 opt",
            "d 755 0:0 0 opt/deep",
            "f 755 0:0 1672560000 opt/deep/generated.txt = hello a",
            "d 755 1000:1000 1672560000 tar",
            "d 755 1000:1000 1672560000 tar/tests",
            "f 755 1000:1000 1672560000 tar/tests/space in name.txt = a",
            "d 755 0:0 0 usr",
            "d 755 0:0 1672560000 usr/bin",
            "f 555 0:0 0 usr/bin/ls = ls",
        ],
    );
}
