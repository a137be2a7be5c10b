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
