//! The parts that every format is made from.

use super::cmdline::CommandLine;
use super::sign::Signer;

/// A kernel with its initrd, command line and signer.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// The bootable file.
    pub(super) kernel: Vec<u8>,
    /// The kernel's `uname -r`.
    pub(super) release: String,
    /// The initrd for this kernel.
    pub(super) initrd: Vec<u8>,
    /// The kernel's command line.
    pub(super) cmdline: CommandLine,
    /// Unix seconds of the newest input; the modification time of every file.
    pub(super) date: u32,
    /// The signer of the program that UEFI starts.
    pub(super) signer: Option<Signer>,
    /// Additional files for a medium: name and content.
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
