//! Limits of a layer's names, depth and size in memory.

use super::super::root::DEPTH_LIMIT;
use super::*;

pub(super) fn deep(directories: usize) -> Tar {
    let path = [vec!["d"; directories].join("/"), "/file".into()].concat();
    Tar::new().pax(&[("path", path.as_bytes())]).file("x", "deep")
}

#[test]
fn an_entry_lies_as_deep_as_the_limit() {
    let (outer, done) = deep(DEPTH_LIMIT - 1).file("d", "now a file").unpack();
    done.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("root/d")).unwrap(), "now a file");
    assert!(
        deep(DEPTH_LIMIT)
            .error()
            .contains("257 directories deep with links resolved, more than the limit of 256")
    );
    // Also through links.
    let half = vec!["d"; DEPTH_LIMIT / 2].join("/");
    let twice = Tar::new().directory("d").pax(&[("linkpath", half.as_bytes())]).link("l", "x");
    let below = format!("l/{half}/file");
    let twice = twice.pax(&[("path", below.as_bytes())]).file("x", "");
    assert!(twice.error().contains("257 directories deep with links resolved, more than the limit of 256"));
}

#[test]
fn names_and_attributes_have_limits() {
    let name = |bytes: usize| {
        ["d/".repeat(10), "./".repeat(bytes / 2 - 11), "file".chars().take(2 + bytes % 2).collect()].concat()
    };
    let named = |bytes| Tar::new().pax(&[("path", name(bytes).as_bytes())]).file("x", "");
    named(root::NAME_LIMIT).unpack().1.unwrap();
    let error = named(root::NAME_LIMIT + 1).error();
    assert!(error.contains("its name has 4096 bytes, more than the limit of 4095"), "{error}");
    let attribute = vec![b'x'; metadata::XATTRS_LIMIT + 1 - "user.x".len()];
    let error = Tar::new().pax(&[("SCHILY.xattr.user.x", &attribute)]).file("x", "").error();
    assert!(
        error.contains("its extended attributes have 131073 bytes, more than the limit of 131072"),
        "{error}"
    );
    assert!(check_count(ENTRIES_LIMIT).is_ok());
    assert!(check_count(ENTRIES_LIMIT + 1).unwrap_err().to_string().contains("more than 4000000 entries"));
}

/// A long name in GNU tar's format states its length: nothing is allocated for 64 GB.
#[test]
fn a_long_name_is_bounded_before_it_is_read() {
    let mut long = Tar::header(EntryType::GNULongName, "l", "", 0);
    long.as_old_mut().size = *b"\x80\0\0\0\0\0\0\x10\0\0\0\0";
    let error = Tar::new().raw(&mut long, b"").error();
    assert!(
        error.contains("an extension header of 68719476736 bytes exceeds the limit of 1048576"),
        "{error}"
    );
}

#[test]
fn the_memory_for_a_layer_is_limited() {
    let mut memory = Memory::for_unpacking();
    memory.take(memory::MEMORY_LIMIT - 128).unwrap();
    assert!(memory.take(0).unwrap_err().to_string().contains("exceed 32 MiB"));
}

/// A chain of links with many `..` does not cost a system call for each.
#[test]
fn a_path_through_many_names_is_refused() {
    let long = "../".repeat(1300);
    let mut tar = Tar::new();
    for number in 0..30 {
        let name = format!("l{number}");
        let target = format!("{long}l{}", number + 1);
        tar = tar.pax(&[("linkpath", target.as_bytes())]).link(&name, "x");
    }
    assert!(tar.file("l0/x", "").error().contains("takes more than 1024 steps"));
}

/// The kernel followed 40 links of 4 KiB for each hard link, which took 3 ms, for an entry that compresses to a byte.
#[test]
fn the_target_of_a_hard_link_has_the_limits_of_a_path() {
    let chain = |part: &str, count: usize| {
        (0..39).fold(Tar::new().directory("d").file("x", ""), |tar, number| {
            let next = if number == 38 { ".".into() } else { format!("l{}", number + 1) };
            let target = format!("{}{next}", part.repeat(count));
            tar.pax(&[("linkpath", target.as_bytes())]).link(&format!("l{number}"), "x")
        })
    };
    let hard = |tar: Tar, target| tar.add(EntryType::Link, "hard", target, b"");
    let (outer, done) = hard(chain("d/../", 2), "l0/x").unpack();
    done.unwrap();
    assert_eq!(fs::metadata(outer.path().join("root/hard")).unwrap().nlink(), 2);
    let error = hard(chain("d/../", 800), "l0/x").error();
    assert!(error.contains("cannot unpack `hard`: resolving `l0` takes more than 1024 steps"), "{error}");
    let looped = Tar::new().link("l", "l").add(EntryType::Link, "hard", "l/x", b"");
    assert!(looped.error().contains("too many symbolic links in `l`"));
}
