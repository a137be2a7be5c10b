//! CPU time of a process on the host.

use std::fs;

/// Clock ticks per second in `/proc/PID/stat` (`USER_HZ`): 100 on every architecture of Linux that QEMU's
/// x86-64 program is run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU time, user and system, that the process `pid` and its threads have used; `None` if it does not
/// exist.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    parse_cpu_seconds(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): fields 14 and 15. The second field is the program's name in parentheses and may contain any character.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    let [user, system] = ticks[..] else { return None };
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parenthesis_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (qemu 1 ) x) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(parse_cpu_seconds(stat), Some(3.0));
        assert_eq!(parse_cpu_seconds("42 (x) S 1"), None);
    }

    #[test]
    fn the_current_process_has_used_processor_time() {
        assert!(cpu_seconds(std::process::id()).is_some());
    }
}
