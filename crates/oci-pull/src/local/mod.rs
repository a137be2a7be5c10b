//! Images in files of this machine: containers-transports(5).

mod docker;
mod files;
mod layout;
mod members;

use super::source::Source;
use docker::DockerArchive;
pub(super) use files::{Files, Packed};
pub(super) use layout::{Layout, name_of};
use oci_reference::reference::{Local, Transport};

/// Opens the place that a name leads to.
pub(super) fn open(local: &Local) -> anyhow::Result<Box<dyn Source>> {
    let path = local.path();
    Ok(match local.transport() {
        Transport::Layout => Box::new(Layout::open(Files::directory(path)?)?),
        Transport::LayoutArchive => Box::new(Layout::open(Files::Packed(Packed::open(path)?))?),
        Transport::DockerArchive => Box::new(DockerArchive::open(Packed::open(path)?, local.name())?),
    })
}

/// The place from 0 on that `@N` means.
fn place(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}
