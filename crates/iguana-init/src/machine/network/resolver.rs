//! Name resolution: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`.

use crate::report::Report;
use anyhow::Context as _;
use config::cmdline::Settings;
use dhcp::{Given, Learned, Resolver};
use untrusted_fs::Directory;

/// Readable by everyone: programs of any user look names up.
const MODE: u32 = 0o644;

/// Writes the files. Name servers of the command line come before those that were learned.
pub(super) fn write(settings: &Settings, learned: Learned<'_>, report: &Report) -> anyhow::Result<()> {
    let options = &settings.network;
    let given = Given {
        name_servers: &options.name_servers,
        host_name: options.host_name(),
        ignores_learned_name_servers: options.ignores_learned_name_servers,
    };
    let resolver = Resolver::new(given, learned);
    let directory = Directory::open("/etc")?;
    put(&directory, "resolv.conf", &resolver.resolv_conf)?;
    put(&directory, "hostname", &format!("{}\n", resolver.host_name))?;
    put(&directory, "hosts", &resolver.hosts)?;
    if let Err(error) = rustix::system::sethostname(resolver.host_name.as_bytes()) {
        report.warn(format_args!("network: cannot set the host name `{}`: {error}", resolver.host_name));
    }
    Ok(())
}

/// Replaces a file at once: a lookup that reads it meanwhile finds the old one or the new one, and never an empty one.
fn put(directory: &Directory, name: &str, text: &str) -> anyhow::Result<()> {
    directory.replace(name, MODE, text.as_bytes()).with_context(|| format!("cannot write `/etc/{name}`"))
}
