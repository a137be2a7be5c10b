//! The output formats of `iguana build`: how a kernel and its initrd get to a machine.

mod bios;
mod cmdline;
mod fat;
mod files;
mod iso;
mod loaders;
mod medium;
mod parts;
mod pe;
mod pxe;
mod sign;
mod uki;
mod usb;

use super::inputs::Input;
use super::{Initrd, Kernel, added};
use crate::output_file;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cmdline::CommandLine;
use hint::hinted;
use parts::Parts;
use sign::Signer;
use std::path::{Path, PathBuf};

/// The form in which kernel and initrd are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The initrd alone
    #[default]
    Initrd,
    /// A unified kernel image for UEFI, covered by one signature
    Uki,
    /// An image for optical discs and USB sticks, for BIOS and UEFI
    Iso,
    /// An image for USB sticks and disks (GPT), for BIOS and UEFI
    Usb,
    /// A directory for a boot server: iPXE, PXELINUX, GRUB, UEFI HTTP boot
    Pxe,
}

/// How what is built is delivered.
#[derive(Args, Clone, Debug)]
pub(crate) struct Delivery {
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The kernel command line; not with the format `initrd`, where the boot loader sets it
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// The private key for Secure Boot signatures, in PEM
    #[arg(long, value_name = "FILE", requires = "sign_cert")]
    sign_key: Option<PathBuf>,
    /// The certificate of the private key, in PEM
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_cert: Option<PathBuf>,
    /// A file to add to the root directory of an `iso` or `usb`; can be repeated
    #[arg(long = "add", value_name = "FILE")]
    added: Vec<PathBuf>,
    /// Where it goes; with `pxe` a directory
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// A delivery whose options are known to be consistent.
pub(super) struct Order {
    format: Format,
    cmdline: CommandLine,
    signer: Option<Signer>,
    added: Vec<(String, Input)>,
}

impl Delivery {
    /// Checks the options before anything is built.
    pub(super) fn order(&self) -> Result<Order> {
        let has_medium = matches!(self.format, Format::Iso | Format::Usb);
        let useless = [
            (
                self.cmdline.is_some() && self.format == Format::Initrd,
                "--cmdline",
                "uki`, `iso`, `usb` or `pxe",
            ),
            (
                self.sign_key.is_some() && self.format == Format::Initrd,
                "--sign-key",
                "uki`, `iso`, `usb` or `pxe",
            ),
            (!self.added.is_empty() && !has_medium, "--add", "iso` or `usb"),
        ];
        if let Some((_, option, formats)) = useless.iter().find(|(is_useless, ..)| *is_useless) {
            let format =
                self.format.to_possible_value().map_or_else(String::new, |value| value.get_name().into());
            let message = format!("`{option}` cannot be used with `--format {format}`");
            return Err(hinted(message, format!("use it with `--format {formats}`")));
        }
        let pair = self.sign_key.clone().zip(self.sign_cert.clone());
        let signer = pair.map(|(key, certificate)| Signer::new(key, certificate)).transpose()?;
        let added = added::read(&self.added)?;
        let cmdline = self.command_line().context("cannot use `--cmdline`")?;
        Ok(Order { format: self.format, cmdline, signer, added })
    }

    fn command_line(&self) -> Result<CommandLine> {
        let Some(text) = &self.cmdline else { return Ok(CommandLine::default()) };
        let cmdline = CommandLine::parse(text)?;
        if self.format == Format::Pxe {
            cmdline.check_for_ipxe()?;
        }
        Ok(cmdline)
    }
}

impl Order {
    /// Writes `initrd`, and `kernel` if the format has one, to `output`. Returns the number of bytes.
    pub(super) fn deliver(self, kernel: &Kernel, initrd: Initrd, output: &Path) -> Result<usize> {
        let is_secret = initrd.is_secret || self.added.iter().any(|(_, input)| !input.is_public);
        let mode = if is_secret { output_file::SECRET } else { output_file::PUBLIC };
        let bytes = match self.format {
            Format::Initrd => initrd.bytes,
            Format::Uki => uki::image(&self.parts(kernel, initrd)?)?,
            Format::Iso => iso::image(&self.parts(kernel, initrd)?)?,
            Format::Usb => usb::image(&self.parts(kernel, initrd)?)?,
            Format::Pxe => return pxe::write(&self.parts(kernel, initrd)?, output, mode),
        };
        output_file::write(output, mode, &bytes)?;
        Ok(bytes.len())
    }

    fn parts(self, kernel: &Kernel, initrd: Initrd) -> Result<Parts> {
        Ok(Parts {
            kernel: kernel.read_image()?,
            release: kernel.release.clone(),
            initrd: initrd.bytes,
            cmdline: self.cmdline,
            date: initrd.date,
            signer: self.signer,
            added: self.added.into_iter().map(|(name, input)| (name, input.bytes)).collect(),
        })
    }
}
