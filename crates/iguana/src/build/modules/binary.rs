//! kmod's binary indexes, which modprobe(8) reads instead of the text indexes.
//!
//! An index is a trie: a node has the letters that all keys below it have in common, the values of the key that ends
//! there, and a child for each next letter. Numbers are big-endian (kmod, libkmod/libkmod-index.h).

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
/// Version 2.1.
const VERSION: u32 = 0x0002_0001;
/// The header: magic, version, and offset of the root.
const HEADER: usize = 3 * size_of::<u32>();

/// What a node has, in the upper bits of its offset.
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// A value and its priority: the lowest comes first.
type Value<'a> = (u32, &'a str);

/// The index of `entries`, pairs of key and value. Of several values of a key, the first comes first. kmod has no
/// keys but ASCII; others are left out.
pub(crate) fn index<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut keys: BTreeMap<&str, Vec<Value<'a>>> = BTreeMap::new();
    for (number, (key, value)) in (0..).zip(entries) {
        if key.is_ascii() {
            keys.entry(key).or_default().push((number, value));
        }
    }
    let keys: Vec<_> = keys.iter().map(|(key, values)| (key.as_bytes(), &**values)).collect();
    let mut file = vec![0; HEADER];
    let root = write_node(&keys, &mut file);
    for (place, number) in file.chunks_exact_mut(4).zip([MAGIC, VERSION, root]) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    file
}

/// Writes the node of `keys`, which are sorted and distinct, behind its children. Returns its offset and what it has.
fn write_node(keys: &[(&[u8], &[Value<'_>])], file: &mut Vec<u8>) -> u32 {
    let (Some((first, values)), Some((last, _))) = (keys.first(), keys.last()) else {
        return offset(file);
    };
    let common = first.iter().zip(*last).take_while(|(one, other)| one == other).count();
    let ends_here = first.len() == common;
    let longer: Vec<_> = keys
        .iter()
        .filter_map(|(key, values)| {
            key[common..].split_first().map(|(letter, rest)| (*letter, (rest, *values)))
        })
        .collect();
    let children: Vec<(u8, u32)> = longer
        .chunk_by(|(one, _), (other, _)| one == other)
        .map(|group| {
            let below: Vec<_> = group.iter().map(|(_, key)| *key).collect();
            (group[0].0, write_node(&below, file))
        })
        .collect();
    let mut node = offset(file);
    if common > 0 {
        node |= HAS_PREFIX;
        file.extend(&first[..common]);
        file.push(0);
    }
    if let (Some((from, _)), Some((to, _))) = (children.first(), children.last()) {
        node |= HAS_CHILDREN;
        file.extend([*from, *to]);
        for letter in *from..=*to {
            let child = children.iter().find(|(of, _)| *of == letter).map_or(0, |(_, child)| *child);
            file.extend(child.to_be_bytes());
        }
    }
    if ends_here {
        node |= HAS_VALUES;
        file.extend((values.len() as u32).to_be_bytes());
        for (priority, value) in *values {
            file.extend(priority.to_be_bytes());
            file.extend(value.bytes());
            file.push(0);
        }
    }
    node
}

fn offset(file: &[u8]) -> u32 {
    file.len() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trie_is_written_as_kmod_reads_it() {
        let file = index([("ab", "1"), ("abx", "2"), ("ab", "3")]);
        let child = [&[0, 0, 0, 1, 0, 0, 0, 1][..], b"2\0"].concat();
        let root =
            [b"ab\0xx\x40\0\0\x0c".as_slice(), &[0, 0, 0, 2, 0, 0, 0, 0], b"1\0", &[0, 0, 0, 2], b"3\0"]
                .concat();
        let header = [0xB0, 0x07, 0xF4, 0x57, 0, 2, 0, 1, 0xE0, 0, 0, 12 + child.len() as u8];
        assert_eq!(file, [&header[..], &child, &root].concat());
    }

    #[test]
    fn an_index_without_keys_is_valid() {
        assert_eq!(index([])[8..], [0, 0, 0, 12]);
    }
}
