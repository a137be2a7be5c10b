//! What pulls, for hints that name its options.

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
