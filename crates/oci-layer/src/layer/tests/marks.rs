//! Whiteouts and opaque whiteouts beside entries of their own layer.

use super::*;

/// The hard link waits for its target, which is in a lower layer; meanwhile a whiteout in `c` makes a directory, and
/// the whiteout of `c` removes that. Found by fuzzing.
#[test]
fn a_whiteout_leaves_a_hard_link_of_its_own_layer() {
    let below = Tar::new().file("a", "hello");
    let marked = |tar: Tar| tar.file("c/.wh..wh..opq", "").file(".wh.c", "");
    let link = Tar::new().add(EntryType::Link, "c", "a", b"");
    let after = Stack::of(vec![Tar::new().file("a", "hello"), marked(link).file(".wh.c", "")]);
    let before = marked(Tar::new()).add(EntryType::Link, "c", "a", b"");
    let before = Stack::of(vec![below, before]);
    for stack in [after, before] {
        let tree = stack.flattened();
        let inode = |name: &str| fs::symlink_metadata(tree.path().join(name)).unwrap().ino();
        assert_eq!(inode("c"), inode("a"));
    }
}

/// layer.md, "Whiteouts": "Once a whiteout is applied, the whiteout itself MUST also be hidden", and "Whiteout files MUST only
/// apply to resources in lower/parent layers"; through links, as the path of any entry.
#[test]
fn marks_and_entries_below_a_chain_of_links_reach_its_end() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let real = || Tar::new().directory("real").file("real/old", "o").file("real/stay", "s");
    let chain = |tar: Tar| tar.link("l1", "real").link("l2", "l1").link("l3", "/l2");
    let names = |upper: Tar| {
        // The chain is in one layer, and in one layer for each link.
        [
            vec![chain(real())],
            vec![
                real(),
                Tar::new().link("l1", "real"),
                Tar::new().link("l2", "l1"),
                Tar::new().link("l3", "/l2"),
            ],
        ]
        .map(|mut layers| {
            layers.push(Tar(upper.0.clone()));
            let stack = Stack::of(layers);
            let tree = stack.flattened();
            let directory = Directory::open(tree.path().join("real")).unwrap();
            let mut names: Vec<_> =
                directory.names(10).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
            names.sort();
            for link in ["l1", "l2", "l3"] {
                assert!(fs::symlink_metadata(tree.path().join(link)).unwrap().is_symlink());
            }
            names.join(" ")
        })
    };
    let hard_link = |name: &str, target: &str| Tar::new().add(EntryType::Link, name, target, b"");
    for (upper, expected) in [
        (Tar::new().file("l3/new", "n"), "new old stay"),
        (Tar::new().file("l3/.wh.old", ""), "stay"),
        (Tar::new().file("l3/.wh..wh..opq", "").file("l3/new", "n"), "new"),
        (hard_link("l3/new", "l2/old"), "new old stay"),
        (hard_link("l3/new", "l2/old").file("l3/.wh.stay", ""), "new old"),
    ] {
        assert_eq!(names(upper), [expected, expected]);
    }
}
