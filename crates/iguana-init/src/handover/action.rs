//! The kernel action: one word in a result file.

use super::{Handover, kexec};
use crate::report::Report;
use exchange::KERNEL_ACTION;
use hint::hinted;

/// Parses the word. Case and surrounding white space are ignored.
///
/// # Errors
/// When it is unknown.
pub(super) fn parse(word: &str) -> anyhow::Result<Handover> {
    match word.trim().to_ascii_lowercase().as_str() {
        "reboot" => Ok(Handover::Reboot),
        "poweroff" => Ok(Handover::PowerOff),
        "halt" => Ok(Handover::Halt),
        "kexec" => Ok(Handover::Kexec),
        _ => Err(hinted(
            format!("`{KERNEL_ACTION}` asks for the unknown action `{}`", shown(word)),
            "write `kexec`, `reboot`, `poweroff` or `halt`",
        )),
    }
}

/// The same, or a reboot with a warning if no kernel is loaded for kexec: the firmware then starts what was installed.
pub(super) fn possible(handover: Handover, report: &Report) -> Handover {
    if handover != Handover::Kexec || kexec::is_loaded() {
        return handover;
    }
    let why = "no kernel is loaded (`kexec --load KERNEL --initrd=INITRD --command-line=…`)";
    report.warn(format_args!("`{KERNEL_ACTION}` asks for `kexec`, but {why}: rebooting instead"));
    Handover::Reboot
}

/// The beginning of the word, for a message.
fn shown(word: &str) -> String {
    /// Characters: enough to recognize what was written by mistake.
    const AT_MOST: usize = 40;
    let word = word.trim();
    let start: String = word.chars().take(AT_MOST).collect();
    if start.len() < word.len() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_parsed_as_containers_write_them() {
        for (word, expected) in [
            ("reboot", Handover::Reboot),
            (" PowerOff\r\n", Handover::PowerOff),
            ("\tHALT\n\n", Handover::Halt),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word:?}");
        }
    }

    #[test]
    fn kexec_without_a_loaded_kernel_becomes_a_reboot() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let report = Report::to_log(log.path());
        assert_eq!(possible(Handover::Halt, &report), Handover::Halt);
        assert_eq!(possible(parse("kexec").unwrap(), &report), Handover::Reboot);
        let told = std::fs::read_to_string(log.path()).unwrap();
        assert!(told.contains("no kernel is loaded") && told.contains("rebooting instead"), "{told}");
    }

    #[test]
    fn an_unknown_action_is_shown() {
        let error = |word: &str| parse(word).unwrap_err().to_string();
        assert!(error("explode").contains("`explode`"));
        assert!(error("reboot now").contains("`reboot now`"));
        // The report escapes it where it is printed.
        assert!(error("\x1b[2J").contains("`\x1b[2J`"));
        assert!(error(&"x".repeat(1000)).contains(&format!("`{}…`", "x".repeat(40))));
    }
}
