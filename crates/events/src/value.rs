//! The types of fields.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Bytes of the longest text in a line, the same as for a message on the console. Queues of sinks and the log have
/// room for many of them.
const TEXT_LIMIT: usize = 16 << 10;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Any text, of at most 16 KiB.
    Text,
    /// A list of texts.
    Texts,
    /// A number of at least zero.
    Count,
    /// A time in seconds, with milliseconds.
    Seconds,
    /// A boolean.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The value, or `null`.
    Optional(&'static Self),
}

/// A Rust type that a field can have.
pub(crate) trait FieldType {
    const VALUE: Value;

    /// An example value for the documentation.
    fn example() -> Self;
}

/// A text, which may be untrusted. It is stored whole, and shortened when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Text(String);

impl Text {
    /// The text of a displayable value.
    pub fn of(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = &self.0[..self.0.floor_char_boundary(TEXT_LIMIT)];
        match self.0.len() - shown.len() {
            0 => serializer.serialize_str(shown),
            cut => serializer.collect_str(&format_args!("{shown}… ({cut} bytes omitted)")),
        }
    }
}

impl FieldType for Text {
    const VALUE: Value = Value::Text;

    fn example() -> Self {
        Self("text".into())
    }
}

impl FieldType for Vec<Text> {
    const VALUE: Value = Value::Texts;

    fn example() -> Self {
        vec![Text::example()]
    }
}

impl FieldType for u64 {
    const VALUE: Value = Value::Count;

    fn example() -> Self {
        1
    }
}

impl FieldType for bool {
    const VALUE: Value = Value::Flag;

    fn example() -> Self {
        true
    }
}

/// A time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Seconds(f64);

impl Seconds {
    /// From seconds, rounded to milliseconds.
    #[must_use]
    pub fn from_f64(seconds: f64) -> Self {
        Self((seconds * 1e3).round() / 1e3)
    }
}

impl From<Duration> for Seconds {
    fn from(time: Duration) -> Self {
        Self::from_f64(time.as_secs_f64())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl FieldType for Seconds {
    const VALUE: Value = Value::Seconds;

    fn example() -> Self {
        Self(1.5)
    }
}

impl<T: FieldType> FieldType for Option<T> {
    const VALUE: Value = Value::Optional(&T::VALUE);

    fn example() -> Self {
        Some(T::example())
    }
}

macro_rules! choice {
    ($(#[$attribute:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl FieldType for $name {
            const VALUE: Value = Value::Choice(&[$($word),+]);

            fn example() -> Self {
                [$(Self::$variant),+][0]
            }
        }
    };
}

choice! {
    /// The part of the boot in which something happens.
    Stage {
        /// The program itself.
        Boot = "boot",
        /// The trust directory.
        Trust = "trust",
        /// The kernel modules in the initrd.
        Modules = "modules",
        /// The devices, and their drivers.
        Devices = "devices",
        /// Interfaces and their addresses.
        Network = "network",
        /// The clock.
        Clock = "clock",
        /// Finding and fetching the workflow.
        ControlFile = "control-file",
        /// Reading the workflow.
        Workflow = "workflow",
        /// The image of a container.
        Image = "image",
        /// A service beside a job.
        Service = "service",
        /// The jobs.
        Job = "job",
        /// What comes after the last job.
        Handover = "handover",
    }
}

/// The name of the stage in messages.
impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Boot => "boot",
            Self::Trust => "trust",
            Self::Modules => "kernel modules",
            Self::Devices => "devices",
            Self::Network => "network",
            Self::Clock => "clock",
            Self::ControlFile => "control file",
            Self::Workflow => "workflow",
            Self::Image => "image",
            Self::Service => "service",
            Self::Job => "job",
            Self::Handover => "handover",
        })
    }
}

choice! {
    /// How something ended.
    Outcome {
        /// It succeeded.
        Success = "success",
        /// It failed.
        Failure = "failure",
        /// It did not run: its condition was false, or a job that it needs failed.
        Skipped = "skipped",
    }
}

choice! {
    /// The audience of a message.
    Level {
        /// The person at the machine.
        Info = "info",
        /// A developer or administrator who analyses a problem.
        Debug = "debug",
    }
}

choice! {
    /// What happens to the machine after the boot.
    Decision {
        /// Start the new system with the running kernel.
        SwitchRoot = "switch-root",
        /// Start another kernel.
        Kexec = "kexec",
        /// Restart the machine.
        Reboot = "reboot",
        /// Switch the machine off.
        PowerOff = "power-off",
        /// Halt the machine.
        Halt = "halt",
        /// Start a shell on the console.
        Shell = "shell",
        /// Try the system on the disk.
        Local = "local",
    }
}
