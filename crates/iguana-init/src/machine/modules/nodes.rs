//! Static device nodes: the kernel loads a module when its node is opened (`modules.devname`, as for `kmod
//! static-nodes`). Without them nobody could open `/dev/fuse` or `/dev/net/tun` first.

use crate::report::Report;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use std::fs;
use std::path::{Path, PathBuf};

/// As of the nodes that the kernel makes itself.
const MODE: Mode = Mode::from_raw_mode(0o600);

#[derive(Debug, PartialEq, Eq)]
struct Node {
    path: PathBuf,
    kind: FileType,
    numbers: (u32, u32),
}

/// Makes the nodes of `modules.devname` in `directory`. One that exists stays as it is.
pub(super) fn make(directory: &Path, report: &Report) {
    let text = fs::read_to_string(directory.join("modules.devname")).unwrap_or_default();
    for node in text.lines().filter_map(Node::parse) {
        if let Err(error) = node.make() {
            report.detail(format_args!("modules: cannot create `{}`: {error}", node.path.display()));
        }
    }
}

impl Node {
    /// `MODULE NAME cMAJOR:MINOR`, or with `b` for a block device.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (name, device) = (words.next()?, words.next()?);
        let kind = match device.chars().next()? {
            'c' => FileType::CharacterDevice,
            'b' => FileType::BlockDevice,
            _ => return None,
        };
        let (major, minor) = device[1..].split_once(':')?;
        let numbers = (major.parse().ok()?, minor.parse().ok()?);
        Some(Self { path: Path::new("/dev").join(name), kind, numbers })
    }

    fn make(&self) -> std::io::Result<()> {
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        match mknodat(CWD, &self.path, self.kind, MODE, makedev(self.numbers.0, self.numbers.1)) {
            Err(Errno::EXIST) => Ok(()),
            made => Ok(made?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_from_its_line() {
        let node = Node::parse("tun net/tun c10:200").unwrap();
        assert_eq!((node.path.to_str(), node.kind), (Some("/dev/net/tun"), FileType::CharacterDevice));
        assert_eq!(node.numbers, (10, 200));
        assert_eq!(Node::parse("loop loop-control b7:0").unwrap().kind, FileType::BlockDevice);
        for wrong in [
            "# Device nodes to trigger on-demand module loading.",
            "tun",
            "tun net/tun",
            "a b x1:2",
            "a b c1",
        ] {
            assert_eq!(Node::parse(wrong), None, "{wrong}");
        }
    }
}
