//! What pulls, for hints that name its options.

use fetch::http::SettingNames;

/// The command that pulls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caller {
    /// A boot.
    #[default]
    Boot,
    /// `iguana-init run`, on a running system.
    Run,
    /// `iguana pull`.
    Pull,
    /// The commands of `iguana` that read a trust directory: `lock`, `bundle`, `trust explain`.
    Trust,
}

impl Caller {
    /// How it names the settings of connections.
    pub fn setting_names(self) -> SettingNames {
        let own = SettingNames { proxy: "`HTTPS_PROXY`", no_proxy: "`NO_PROXY`", ..SettingNames::BOOT };
        match self {
            Self::Boot => SettingNames::BOOT,
            Self::Run => SettingNames {
                authority: "put it into `ca/` of the trust directory (`--trust DIR`)",
                certificates: "`certs.d` of the trust directory (`--trust DIR`), or in `/etc/containers/certs.d`",
                ..own
            },
            Self::Pull => SettingNames {
                authority: "name it with `--ca FILE`",
                certificates: "the directory that `--certs DIR` names",
                ..own
            },
            Self::Trust => SettingNames {
                authority: "put it into `ca/` of the trust directory",
                certificates: "`certs.d` of the trust directory",
                ..own
            },
        }
    }

    /// How to give a login for a registry.
    pub(crate) fn how_to_log_in(self, registry: &str) -> String {
        match self {
            Self::Boot => {
                "set the container's `credentials:`, or add an auth.json to the initrd (`iguana build \
                           --auth FILE`)"
                    .into()
            }
            Self::Run => {
                format!("set the container's `credentials:`, or log in with `skopeo login {registry}`")
            }
            Self::Pull => {
                format!("log in with `skopeo login {registry}`, or name an auth.json with `--auth FILE`")
            }
            Self::Trust => {
                format!("log in with `skopeo login {registry}`, or add an auth.json to the trust directory")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_command() {
        let names = [Caller::Boot, Caller::Run, Caller::Pull, Caller::Trust].map(Caller::setting_names);
        let authority = ["build the initrd", "--trust DIR", "--ca FILE", "ca/"];
        for ((names, authority), number) in names.iter().zip(authority).zip(0..) {
            if number > 0 {
                assert!(!names.proxy.contains("proxy=") && !names.authority.contains("build"), "{names:?}");
            }
            assert!(names.authority.contains(authority), "{names:?}");
        }
    }
}
