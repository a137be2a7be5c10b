//! The cost of hostile layers.

use super::super::assembly::{ASSEMBLY_TIME_LIMIT, assemble_within};
use super::super::root::DEPTH_LIMIT;
use super::limits::deep;
use super::*;
use std::time::{Duration, Instant};

/// Looking up a directory does not cost more because it is deep: this took half a minute.
#[test]
fn a_deep_path_is_assembled_at_once() {
    let begin = Instant::now();
    let stack = Stack::of(vec![Tar::new().directory("."), deep(DEPTH_LIMIT - 1)]);
    stack.assembled();
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

/// An image with the same layer 500 times, with 500 directories without an entry: 144 kB, and this took minutes.
#[test]
fn the_cost_of_assembling_layers_is_limited() {
    let tar = || (0..20).fold(Tar::new(), |tar, number| tar.file(&format!("d/{number}/x"), ""));
    let stack = Stack::of((0..50).map(|_| tar()).collect());
    assert!(assemble_within(100_000, ASSEMBLY_TIME_LIMIT, &stack.store, stack.layers.clone()).is_ok());
    let error = assemble_within(10_000, ASSEMBLY_TIME_LIMIT, &stack.store, stack.layers.clone()).unwrap_err();
    assert!(error.to_string().contains("takes more than 10000 lookups"), "{error:#}");
    assert!(hint::of(&error).unwrap().contains("fewer layers"));
}

/// A lookup 240 directories deep takes as long as 16 others: an image of 100 kB took ten minutes.
#[test]
fn the_lookup_of_a_deep_path_costs_more() {
    let assembled = |layer: &dyn Fn() -> Tar| {
        let stack = Stack::of((0..10).map(|_| layer()).collect());
        assemble_within(50_000, ASSEMBLY_TIME_LIMIT, &stack.store, stack.layers.clone()).map(drop)
    };
    assembled(&|| (0..240).fold(Tar::new(), |tar, number| tar.file(&format!("{number}/x"), ""))).unwrap();
    let error = assembled(&|| deep(240)).unwrap_err();
    assert!(error.to_string().contains("takes more than 50000 lookups"), "{error:#}");
}

#[test]
fn assembling_layers_has_a_time_limit() {
    let stack = Stack::of(vec![Tar::new().file("d/x", ""), Tar::new().file("d/y", "")]);
    let error = assemble_within(1000, Duration::ZERO, &stack.store, stack.layers.clone()).unwrap_err();
    assert!(error.to_string().contains("takes more than 0 s"), "{error:#}");
}

/// Fitting a layer counts the files that it copies.
#[test]
fn the_cost_of_rebasing_layers_counts() {
    let content = (0..20).fold(Tar::new(), |tar, number| tar.file(&format!("l/{number}"), ""));
    let stack = Stack::of(vec![Tar::new().directory("d").link("l", "d"), content]);
    assert!(assemble_within(100, ASSEMBLY_TIME_LIMIT, &stack.store, stack.layers.clone()).is_ok());
    let error = assemble_within(20, ASSEMBLY_TIME_LIMIT, &stack.store, stack.layers.clone()).unwrap_err();
    assert!(format!("{error:#}").contains("takes more than 20 lookups"), "{error:#}");
}

/// 300 directories with 55,000 attributes of one letter each took 1.3 GB of memory.
#[test]
fn attributes_with_short_names_count_with_their_overhead() {
    let records: Vec<(&str, &[u8])> = vec![("SCHILY.xattr.a", b""); 20_000];
    let several = |count| (0..count).fold(Tar::new(), |tar, n| tar.pax(&records).directory(&format!("d{n}")));
    several(3).unpack().1.unwrap();
    assert!(several(20).error().contains("exceed 32 MiB"));
}

/// The map was parsed from its beginning for each of its blocks: 20 files took minutes.
#[test]
fn a_long_sparse_map_is_read_once() {
    let major: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"0")];
    let map = format!("{}1\n{}0\n0\n", "0".repeat(500_000), "0".repeat(500_000));
    let map = format!("{map}{}", "\0".repeat(map.len().next_multiple_of(512) - map.len()));
    let begin = Instant::now();
    let (outer, done) = Tar::new().pax(&major).file("f", &map).file("g", "after").unpack();
    done.unwrap();
    assert_eq!(fs::metadata(outer.path().join("root/f")).unwrap().len(), 0);
    assert_eq!(fs::read_to_string(outer.path().join("root/g")).unwrap(), "after");
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

/// A layer of 100 kB, within all limits, took hours, and an image may have 500.
#[test]
fn the_work_of_unpacking_all_layers_is_limited() {
    let links = |count, target: &str| {
        let tar = (0..9).fold(Tar::new().file("x", ""), |tar, number| {
            tar.link(&format!("l{number}"), &format!("./././l{}", number + 1))
        });
        (0..count).fold(tar.link("l9", "."), |tar, _| tar.add(EntryType::Link, "hard", target, b""))
    };
    let refused = |tar: Tar, limit| {
        let error = tar.unpack_within(Work::within(limit)).1.unwrap_err();
        let text = format!("takes more than {limit} steps");
        assert!(format!("{error:#}").contains(&text), "{error:#}");
        assert!(hint::of(&error).unwrap().contains("fewer files"));
    };
    links(100, "x").unpack_within(Work::within(150)).1.unwrap();
    links(100, "l0/x").unpack_within(Work::within(1500)).1.unwrap();
    refused(links(200, "x"), 150);
    refused(links(100, "l0/x"), 1000);
    // Bytes, long names and attributes count, too.
    let megabyte = || Tar::new().file("f", &"x".repeat(1 << 20));
    megabyte().unpack_within(Work::within(70)).1.unwrap();
    refused(megabyte(), 60);
    refused(Tar::new().pax(&[("path", "./".repeat(2000).as_bytes())]).directory("d"), 15);
    refused(Tar::new().pax(&vec![("SCHILY.xattr.user.a", &b"x"[..]); 20]).file("f", ""), 0);
    // Each piece of a sparse file is written on its own.
    let pieces = |count: usize| {
        let map: String = (0..count).map(|at| format!("{},1,", 2 * at)).collect();
        let records: [(&str, &[u8]); 2] =
            [("GNU.sparse.size", b"100000"), ("GNU.sparse.map", map.as_bytes())];
        Tar::new().pax(&records).file("f", &"x".repeat(count))
    };
    pieces(1000).unpack_within(Work::within(1010)).1.unwrap();
    refused(pieces(1000), 1000);
    // All layers of an image share it.
    let work = Work::within(100);
    let unpack = |tar: Tar| {
        let room = tempfile::tempdir().unwrap();
        super::unpack(&tar.0[..], Directory::open(room.path()).unwrap(), &work)
    };
    unpack(links(60, "x")).unwrap();
    assert!(unpack(links(60, "x")).is_err());
}

/// Links that wait for a target of a lower layer. A layer may have ten times as many.
const WAITING: usize = 20_000;

/// The time for which this thread has used a processor (Documentation/scheduler/sched-stats.rst): other tests use it,
/// too.
fn processor_time() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

/// All links were tried again for each link of a chain: 200,000 of them took minutes.
#[test]
fn links_that_wait_are_not_tried_again_for_each_link_of_a_chain() {
    let link = |tar: Tar, name: String, target: String| tar.add(EntryType::Link, &name, &target, b"");
    let chain = |tar: Tar, n: usize| {
        let tar = link(tar, format!("c{n:02}"), format!("c{:02}", n + 1));
        link(tar, format!("d{n:02}"), format!("d{:02}", n + 1))
    };
    let waiting = |tar: Tar, n: usize| link(tar, format!("w{n}"), "lower".into());
    let upper = (0..WAITING).fold((0..38).fold(Tar::new(), chain), waiting).file("c38", "end");
    let lower = Tar::new().file("lower", "below").file("d38", "end");
    let begin = processor_time();
    let stack = Stack::of(vec![lower, upper]);
    let unpacked = processor_time() - begin;
    let layers = stack.assembled();
    let assembled = processor_time() - begin;
    assert!(assembled.as_secs() < 5, "{unpacked:?} to unpack, {assembled:?} in all");
    let links = |name: &str| fs::metadata(layers.last().unwrap().path().join(name)).unwrap().nlink();
    // Those of the unpacked layer and of its copy, and the original.
    assert_eq!((links("c00"), links("d00"), links("w0")), (78, 39, WAITING as u64 + 1));
}

/// Fitting a layer kept the whole path of each of its files: an image of 2 MB took 2.4 GB.
#[test]
fn the_memory_for_rebasing_a_layer_is_limited() {
    let long = vec!["d".repeat(250); 15].join("/");
    let below = || {
        let directory = Tar::new().pax(&[("path", long.as_bytes())]).directory("d");
        directory.pax(&[("linkpath", long.as_bytes())]).link("l", "d")
    };
    let add = |tar: Tar, count, kind: fn(Tar, &str) -> Tar| {
        (0..count).fold(tar, |tar, number| kind(tar, &format!("l/{number}")))
    };
    // The files of a directory share its path, which takes 75 MB otherwise.
    let files = add(Tar::new(), 20_000, |tar, path| tar.file(path, ""));
    Stack::in_memory(vec![below(), files]).assembled();
    let directories = add(Tar::new(), 6_000, |tar, path| tar.directory(path));
    let stack = Stack::in_memory(vec![below(), directories]);
    let error = assemble(&stack.store, stack.layers.clone()).unwrap_err();
    assert!(format!("{error:#}").contains("which depend on lower layers, exceed 64 MiB"), "{error:#}");
    assert!(hint::of(&error).unwrap().contains("one layer"));
}
