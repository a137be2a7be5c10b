//! Name resolution: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`.

use crate::report::Report;
use anyhow::Context as _;
use config::cmdline::Settings;
use dhcp::{Learned, Resolver};

/// Writes the files. Name servers of the command line come before those that were learned.
pub(super) fn write(settings: &Settings, learned: Learned<'_>, report: &Report) -> anyhow::Result<()> {
    let resolver = Resolver::new(&settings.nameservers, learned);
    put("/etc/resolv.conf", &resolver.resolv_conf)?;
    put("/etc/hostname", &format!("{}\n", resolver.host_name))?;
    put("/etc/hosts", &resolver.hosts)?;
    if let Err(error) = rustix::system::sethostname(resolver.host_name.as_bytes()) {
        report.warn(format_args!("network: cannot set the host name `{}`: {error}", resolver.host_name));
    }
    Ok(())
}

fn put(path: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write `{path}`"))
}
