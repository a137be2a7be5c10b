//! How a command names the settings that hints are about.

/// The names of settings, for hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingNames {
    /// How to trust an authority, as an instruction.
    pub authority: &'static str,
    /// Where the certificates of single registries are, as a directory.
    pub certificates: &'static str,
    /// The proxy.
    pub proxy: &'static str,
    /// The hosts that are reached without the proxy.
    pub no_proxy: &'static str,
}

impl SettingNames {
    /// Those of a boot.
    pub const BOOT: Self = Self {
        authority: "build the initrd with `--ca FILE`, or put it into `ca/` of the trust directory",
        certificates: "`certs.d` of the trust directory, or the `--certs DIR` of the initrd",
        proxy: "`proxy=`",
        no_proxy: "`rd.iguana.no_proxy=`",
    };
}

impl Default for SettingNames {
    fn default() -> Self {
        Self::BOOT
    }
}
