//! What every format is made of.

use super::cmdline::CommandLine;
use super::sign::Signer;

/// A kernel and what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// The bootable file.
    pub(super) kernel: Vec<u8>,
    /// `uname -r` of it.
    pub(super) release: String,
    /// Our initrd for it.
    pub(super) initrd: Vec<u8>,
    /// Its command line.
    pub(super) cmdline: CommandLine,
    /// Unix seconds of the newest input: the time of every file.
    pub(super) date: u32,
    /// Who signs what UEFI starts.
    pub(super) signer: Option<Signer>,
    /// More files for a medium: name and content.
    pub(super) added: Vec<(String, Vec<u8>)>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn parts() -> Parts {
        Parts {
            kernel: b"kernel".to_vec(),
            release: "6.1.0-9-amd64".into(),
            initrd: b"initrd".to_vec(),
            cmdline: CommandLine::parse("quiet console=ttyS0").unwrap(),
            date: 1_700_000_000,
            signer: None,
            added: Vec::new(),
        }
    }
}
