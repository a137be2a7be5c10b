//! What to do when a boot fails.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What to do when the boot fails: `rd.iguana.on_failure=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnFailurePolicy {
    /// Restart the machine after a countdown.
    #[default]
    Reboot,
    /// Start a shell on the console.
    Shell,
    /// Switch the machine off.
    PowerOff,
    /// Boot the system on the disk (`root=`).
    Local,
}

impl OnFailurePolicy {
    /// The policy of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "reboot" => Self::Reboot,
            "shell" => Self::Shell,
            "poweroff" => Self::PowerOff,
            "local" => Self::Local,
            _ => return None,
        })
    }
}

impl fmt::Display for OnFailurePolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Reboot => "reboot",
            Self::Shell => "shell",
            Self::PowerOff => "poweroff",
            Self::Local => "local",
        })
    }
}
