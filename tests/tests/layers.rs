//! Transfer of layers: broken connections, servers that send wrong data, and content that does not match its
//! description.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test tells how far it is, and what it compared"
)]

use anyhow::{Context as _, Result};
use iguana_lab::crafted_image::{self, Layer, digest};
use iguana_lab::fault_proxy::{Action, FaultProxy, Impairment, Request};
use iguana_lab::image::{Maker, Packing, Recipe, busybox_root};
use iguana_lab::process::{self, LONG};
use iguana_lab::puller::{Puller, fails, here, insecure, mirror, succeeds, text};
use iguana_lab::registry::Registry;
use std::io::Read as _;
use std::process::Command;
use std::process::Output;

/// Bytes of a layer that needs more than one read.
const LAYER_BYTES: usize = 3 << 20;

/// Free memory of a machine in MiB, which is not enough for 200 MB.
const FREE_MIB: u64 = 80;

/// A registry with the image `tool`.
fn filled() -> Result<Registry> {
    let registry = Registry::plain()?;
    let mut random = vec![0; LAYER_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let recipe = Recipe::script("echo it runs")?.file("/random", 0o644, random)?;
    registry.push(&recipe.make(Maker::Spec)?, "tool")?;
    Ok(registry)
}

fn pulled_from(fault_proxy: &FaultProxy) -> Result<Output> {
    Puller::with(&insecure(&fault_proxy.address()))?.run(&format!("{}/tool", fault_proxy.address()), "")
}

/// The `Range` headers of the requests that `is_of_layer` selects, in order.
fn ranges(fault_proxy: &FaultProxy, is_of_layer: impl Fn(&Request) -> bool) -> Vec<Option<String>> {
    let range = |request: &Request| {
        let lines = request.head.lines().map(str::to_lowercase);
        lines.filter_map(|line| line.strip_prefix("range: ").map(str::to_owned)).next()
    };
    fault_proxy.requests().iter().filter(|request| is_of_layer(request)).map(range).collect()
}

#[test]
fn an_interrupted_download_resumes() -> Result<()> {
    let registry = filled()?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| match request.before {
        0 if request.target.contains("/blobs/") => Action::Impaired(Impairment::Cut(LAYER_BYTES / 2)),
        // Progress resets the retry counter: this is more often than the retry limit.
        1..=6 if request.target.contains("/blobs/") => Action::Impaired(Impairment::Cut(LAYER_BYTES / 20)),
        _ => Action::Pass,
    })?;
    let output = pulled_from(&fault_proxy)?;
    succeeds(&output, &["the connection was lost after", "retrying in", "(1 of 5)"]);
    let asked: Vec<_> =
        ranges(&fault_proxy, |request| request.target.contains("/blobs/")).into_iter().flatten().collect();
    assert!(asked.len() >= 7, "{asked:?}");
    let starts =
        asked.iter().map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>());
    let starts = starts.collect::<Result<Vec<_>, _>>().context("a start")?;
    assert!(starts[0] > LAYER_BYTES / 3 && starts.windows(2).all(|pair| pair[0] < pair[1]), "{starts:?}");
    Ok(())
}

#[test]
fn content_that_changed_in_transit_is_named_by_digest_and_fetched_again() -> Result<()> {
    let registry = filled()?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| match request.before {
        0 if request.target.contains("/blobs/") => Action::Impaired(Impairment::Damage(700)),
        _ => Action::Pass,
    })?;
    let output = pulled_from(&fault_proxy)?;
    succeeds(&output, &["arrived damaged: the ", "has digest `sha256:", "retrying in", "(1 of 3)"]);
    assert!(!text(&output).contains("tar header"), "{}", text(&output));
    Ok(())
}

#[test]
fn a_server_that_sends_a_little_each_time_is_given_up() -> Result<()> {
    let registry = filled()?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| {
        // More than the configuration has, and less than the progress that resets the retry counter.
        if request.target.contains("/blobs/") {
            Action::Impaired(Impairment::Cut(20_000))
        } else {
            Action::Pass
        }
    })?;
    let output = pulled_from(&fault_proxy)?;
    fails(&output, &["the connection was lost after", "(4 of 5)", "gave up after 5 attempts"]);
    Ok(())
}

#[test]
fn a_download_continues_from_the_next_mirror_when_the_first_fails() -> Result<()> {
    let registry = filled()?;
    let broken = FaultProxy::before(&registry.address(), |request| {
        if request.target.contains("/blobs/") {
            Action::Impaired(Impairment::Cut(LAYER_BYTES / 2))
        } else {
            Action::Pass
        }
    })?;
    let second = FaultProxy::before(&registry.address(), |_| Action::Pass)?;
    let name = here(&registry);
    let registries = insecure(&name) + &mirror(&broken.address()) + &mirror(&second.address());
    let output = Puller::with(&registries)?.run(&format!("{name}/tool"), "")?;
    succeeds(&output, &["the connection was lost after", "cannot use"]);
    let ranges = ranges(&second, |request| request.target.contains("/blobs/"));
    assert!(ranges.iter().flatten().count() >= 1, "{ranges:?}");
    Ok(())
}

#[test]
fn a_server_without_ranges_sends_it_all_again() -> Result<()> {
    let registry = filled()?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| match request.before {
        0 if request.target.contains("/blobs/") => Action::Impaired(Impairment::Cut(LAYER_BYTES / 2)),
        _ => Action::PassWithout("range"),
    })?;
    succeeds(&pulled_from(&fault_proxy)?, &["the connection was lost after", "retrying in"]);
    Ok(())
}

/// A busybox image whose description was changed by `change`.
fn forged(
    change: impl FnOnce(&mut Layer),
    rule: impl Fn(&Request) -> Option<Action> + Send + Sync + 'static,
) -> Result<FaultProxy> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    let mut layer = Layer::of_directory(root.path())?;
    change(&mut layer);
    crafted_image::server(vec![layer], &["echo", "it runs"], rule)
}

#[test]
fn a_crafted_image_runs_when_every_statement_is_true() -> Result<()> {
    succeeds(&pulled_from(&forged(|_| (), |_| None)?)?, &[]);
    Ok(())
}

/// manifest.md, `layers`: "Manifests concerned with portability SHOULD use one of the above media types"; podman and docker go
/// by the content of a layer.
#[test]
fn a_layer_is_unpacked_by_its_content_and_not_by_its_media_type() -> Result<()> {
    for packing in ["tar+zstd", "tar"] {
        succeeds(&pulled_from(&forged(|layer| layer.packing = packing, |_| None)?)?, &[]);
    }
    Ok(())
}

#[test]
fn layers_that_differ_from_their_description_are_refused() -> Result<()> {
    type Change = fn(&mut Layer);
    let cases: &[(&str, Change, &[&str])] = &[
        (
            "other bytes than the manifest says",
            |layer| layer.sent[4] ^= 1,
            &["the layer has digest `sha256:", "instead of", "its content is damaged"],
        ),
        (
            "other content than the configuration says",
            |layer| layer.diff_id = format!("sha256:{}", "0".repeat(64)),
            &["the unpacked layer has digest `sha256:", "instead of `sha256:0000"],
        ),
        (
            "more bytes than the manifest says",
            |layer| layer.size -= 1000,
            &["the layer is longer than the", "bytes stated in the manifest"],
        ),
        (
            "content that is damaged, and was when it was pushed",
            |layer| {
                let middle = layer.sent.len() / 2;
                layer.sent[middle..middle + 64].fill(0xaa);
                layer.digest = digest(&layer.sent).unwrap_or_default();
            },
            &["cannot decompress it"],
        ),
        (
            "content that was cut before it was pushed",
            |layer| {
                layer.sent.truncate(layer.sent.len() / 2);
                layer.size = layer.sent.len();
                layer.digest = digest(&layer.sent).unwrap_or_default();
            },
            &["cannot decompress it"],
        ),
    ];
    for (name, change, words) in cases {
        let output = pulled_from(&forged(change, |_| None)?)?;
        assert!(!text(&output).contains("it runs"), "{name}");
        fails(&output, &[&["the layer `sha256:"][..], words].concat());
    }
    Ok(())
}

#[test]
fn false_statements_of_a_server_are_detected() -> Result<()> {
    type Lie = fn(&Request) -> Option<Action>;
    let cases: &[(&str, Lie, &[&str])] = &[
        (
            "a part that begins behind what was asked for",
            |request| part(request, "bytes 999999999-1000000000/1000000001"),
            &["was requested from byte", "but the response begins at byte 999999999"],
        ),
        (
            "a part of which nobody knows which",
            |request| part(request, "pages 1-2/3"),
            &["does not state its range"],
        ),
        (
            "no part at all",
            |request| {
                request
                    .says("\r\nrange:")
                    .then(|| Action::Answer("416 Range Not Satisfiable", Vec::new(), Vec::new()))
            },
            &["416"],
        ),
    ];
    for (name, lie, words) in cases {
        let registry = filled()?;
        let lie = *lie;
        let fault_proxy = FaultProxy::before(&registry.address(), move |request| match lie(request) {
            Some(action) => action,
            None if request.target.contains("/blobs/") && request.before == 0 => {
                Action::Impaired(Impairment::Cut(LAYER_BYTES / 2))
            }
            None => Action::Pass,
        })?;
        let output = pulled_from(&fault_proxy)?;
        fails(&output, words);
        assert!(!text(&output).contains("it runs"), "{name}");
    }
    Ok(())
}

fn part(request: &Request, range: &str) -> Option<Action> {
    let headers = vec![("Content-Range", range.to_owned())];
    request.says("\r\nrange:").then(|| Action::Answer("206 Partial Content", headers, vec![0; 100]))
}

#[test]
fn a_body_that_does_not_end_is_not_read_to_its_end() -> Result<()> {
    let fault_proxy = forged(
        |layer| {
            // Zeros mark the end of an archive, so only the check of the size notices them.
            layer.packing = "tar";
            layer.digest = format!("sha256:{}", "1".repeat(64));
        },
        |request| request.target.ends_with(&"1".repeat(64)).then_some(Action::Endless),
    )?;
    fails(&pulled_from(&fault_proxy)?, &["the layer is longer than the", "bytes stated in the manifest"]);
    Ok(())
}

#[test]
fn a_silent_transfer_is_ended_and_the_rest_fetched_again() -> Result<()> {
    let registry = filled()?;
    let fault_proxy = FaultProxy::before(&registry.address(), |request| match request.before {
        0 if request.target.contains("/blobs/") => Action::Impaired(Impairment::Stall(LAYER_BYTES / 2)),
        _ => Action::Pass,
    })?;
    succeeds(
        &pulled_from(&fault_proxy)?,
        &["the connection was lost after", "no data received for 30 s", "retrying in"],
    );
    Ok(())
}

#[test]
fn a_layer_is_the_same_however_it_is_packed() -> Result<()> {
    let registry = Registry::plain()?;
    for (name, packing) in [("one", Packing::Gzip), ("other", Packing::Zstd)] {
        registry.push(&Recipe::script("echo it runs")?.packing(packing).make(Maker::Spec)?, name)?;
    }
    let name = here(&registry);
    let workflow = format!(
        "jobs:\n  one:\n    container: {name}/one\n    services: {{other: {{image: '{name}/other', restart: on-failure}}}}\n"
    );
    let output = Puller::with(&insecure(&name))?.run_workflow(&workflow, "")?;
    let said = text(&output);
    // Images of services are pulled first.
    assert!(
        said.contains("/other:latest: 2 layers") && said.contains("/one:latest: 0 layers, 0.0 MB"),
        "{said}"
    );
    Ok(())
}

/// A layer from a script that writes an archive to `$1`, in an empty directory.
fn scripted(script: &str) -> Result<Layer> {
    let directory = tempfile::tempdir()?;
    let file = tempfile::NamedTempFile::new()?;
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("cd \"$0\"; {script}")]).arg(directory.path()).arg(file.path());
    process::run(&mut shell, LONG)?;
    Layer::of_tar(&std::fs::read(file.path())?)
}

/// The digests are all correct; the archives are malicious.
#[test]
fn malicious_archives_are_refused() -> Result<()> {
    const FULL: &str = "the memory for images is full";
    const LONGER: &str = "the unpacked archive exceeds the";
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "a file of zeros that never fits",
            "truncate -s 200M f; tar -cf $1 f",
            &[FULL, "give the machine more memory"],
        ),
        (
            "zeros behind the end of the archive",
            "echo x > f; tar -cf $1 f; truncate -s +200M $1",
            &[LONGER, "that fit into the file system"],
        ),
        (
            "a file again and again",
            "truncate -s 20M f; tar --hard-dereference -cf $1 f f f f f f f f f f",
            &[LONGER],
        ),
        (
            "a cut archive in a whole stream",
            "head -c 100000 /dev/urandom > f; tar -cf $1 f; truncate -s 50000 $1",
            &["cannot unpack `f`", "the archive ends in the middle of it"],
        ),
        ("no archive", "head -c 4096 /dev/urandom > $1", &["there is no tar header at byte 0"]),
        ("an archive of something else", "echo f > f; echo f | cpio -o -H newc > $1", &["no tar header"]),
        (
            "a name that leads out",
            "echo x > f; tar -P --transform 's,^,../../,' -cf $1 f",
            &["cannot unpack `../../f`", "its name leads out of the image"],
        ),
        (
            "a hard link that leads out",
            "echo x > f; ln f g; tar -P --transform 'flags=h;s,^,../../etc/,' -cf $1 f g",
            &["cannot unpack `g`", "its name leads out of the image"],
        ),
        (
            "a link to itself on the way",
            "ln -s l l; tar -cf $1 l; rm l; mkdir l; echo x > l/x; tar --append -f $1 l/x",
            &["too many symbolic links in `l`"],
        ),
    ];
    for (name, script, words) in cases {
        eprintln!("hostile: {name}");
        let fault_proxy = crafted_image::server(vec![scripted(script).context(*name)?], &["true"], |_| None)?;
        let puller = Puller::with(&insecure(&fault_proxy.address()))?.with_free_memory(FREE_MIB);
        let output = puller.run(&format!("{}/tool", fault_proxy.address()), "")?;
        fails(&output, &[&["the layer `sha256:"][..], words].concat());
    }
    Ok(())
}
