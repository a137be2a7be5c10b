//! Hard links whose targets do not exist yet: made in an order in which they can be, with bounded work.

use anyhow::ensure;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Attempts to make such links in one layer. Each takes some system calls, about 10 us. A link takes one, or a second
/// if it leads to another one; only one that leads there through a symbolic link may take more.
pub(super) const ATTEMPTS_LIMIT: usize = 1_000_000;

/// Makes hard links, each a path and its target, of which one may lead to another. `make` returns `false` while the
/// target does not exist. Returns the links whose targets do not exist in the end.
///
/// # Errors
/// Those of `make`, and when the links take more than [`ATTEMPTS_LIMIT`].
pub(super) fn make_all(
    links: Vec<(PathBuf, PathBuf)>,
    make: impl FnMut(&Path, &Path) -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    make_within(ATTEMPTS_LIMIT, links, make)
}

fn make_within(
    limit: usize,
    mut links: Vec<(PathBuf, PathBuf)>,
    mut make: impl FnMut(&Path, &Path) -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let mut attempts = 0;
    for round in 0.. {
        let before = links.len();
        attempts += before;
        ensure!(attempts <= limit, "making its hard links takes more than {limit} attempts");
        let mut left = Vec::new();
        for (path, target) in links {
            if !make(&path, &target)? {
                left.push((path, target));
            }
        }
        // A round that makes nothing changes nothing for the next one.
        if left.is_empty() || left.len() == before {
            return Ok(left);
        }
        links = if round == 0 { in_order(left) } else { left };
    }
    Ok(links)
}

/// The links in an order in which each comes after the one that its target names. A circle has no such order, and none
/// of its links can be made.
fn in_order(links: Vec<(PathBuf, PathBuf)>) -> Vec<(PathBuf, PathBuf)> {
    let all: BTreeMap<&Path, &Path> =
        links.iter().map(|(path, target)| (path.as_path(), target.as_path())).collect();
    let (mut seen, mut ordered) = (HashSet::new(), Vec::with_capacity(links.len()));
    for (path, _) in &links {
        let begin = ordered.len();
        let mut next = path.as_path();
        while let Some(target) = all.get(next)
            && seen.insert(next)
        {
            ordered.push((next.to_owned(), (*target).to_owned()));
            next = target;
        }
        ordered[begin..].reverse();
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(pairs: &[(&str, &str)]) -> Vec<(PathBuf, PathBuf)> {
        pairs.iter().map(|(path, target)| (path.into(), target.into())).collect()
    }

    /// Makes links to what exists or was made; returns what is left, and the number of attempts.
    fn made(existing: &str, all: Vec<(PathBuf, PathBuf)>) -> (Vec<(PathBuf, PathBuf)>, usize) {
        let (mut known, mut attempts) = (HashSet::from([PathBuf::from(existing)]), 0);
        let left = make_all(all, |path, target| {
            attempts += 1;
            Ok(known.contains(target) && known.insert(path.to_owned()))
        });
        (left.unwrap(), attempts)
    }

    #[test]
    fn a_chain_is_made_from_its_end_whatever_its_length_and_order() {
        let chain: Vec<_> =
            (0..1000).map(|n| (format!("{n:04}").into(), format!("{:04}", n + 1).into())).collect();
        let (left, attempts) = made("1000", chain.clone());
        assert!(left.is_empty() && attempts <= 2 * chain.len(), "{attempts}");
        let (left, attempts) = made("1000", chain.into_iter().rev().collect());
        assert!(left.is_empty() && attempts == 1000, "{attempts}");
    }

    #[test]
    fn circles_and_what_leads_to_nothing_are_left() {
        let all = links(&[("a", "b"), ("b", "a"), ("c", "b"), ("d", "nothing"), ("e", "e"), ("f", "x")]);
        let (left, attempts) = made("x", all.clone());
        assert_eq!((left.len(), attempts), (5, 11));
        assert_eq!(made("y", all).1, 6);
    }

    #[test]
    fn attempts_have_a_limit() {
        // Each leads to the next through a symbolic link, so that a round makes only the last one.
        let all: Vec<_> = (0..10).map(|n| (format!("{n}").into(), format!("s/{}", n + 1).into())).collect();
        let within = |limit| {
            let mut known = HashSet::from([PathBuf::from("s/10")]);
            make_within(limit, all.clone(), |path, target| {
                Ok(known.contains(target) && known.insert(Path::new("s").join(path)))
            })
        };
        assert!(within(55).unwrap().is_empty());
        let error = within(54).unwrap_err().to_string();
        assert_eq!(error, "making its hard links takes more than 54 attempts");
    }
}
