//! What is told of answers that cannot be used.

use crate::report::Report;
use dhcp::Unanswered;
use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;

/// How many different unusable answers are reported per interface. There is a limit because anyone on the network can
/// send them.
const AT_MOST: usize = 8;

/// What was told of answers or leases that cannot be used, each once: who answers as often as he likes must not fill the
/// console.
pub(super) struct Warnings<'a> {
    interface: &'a str,
    report: &'a Report,
    made: RefCell<HashSet<String>>,
}

impl<'a> Warnings<'a> {
    pub(super) fn new(interface: &'a str, report: &'a Report) -> Self {
        Self { interface, report, made: RefCell::default() }
    }

    /// Where it is told.
    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// Warns that an answer is not used.
    pub(super) fn make(&self, from: SocketAddr, why: &Unanswered) {
        let what = format!("ignoring the reply of DHCP server {}: ", from.ip());
        self.once(&what, why.to_string());
    }

    /// Warns of something, unless that was done, or too much else; whether it was told.
    pub(super) fn tell(&self, text: String) -> bool {
        self.once("", text)
    }

    fn once(&self, before: &str, text: String) -> bool {
        let mut made = self.made.borrow_mut();
        let is_told = made.len() < AT_MOST && !made.contains(&text);
        if is_told {
            self.report.warn(format_args!("network: {}: {before}{text}", self.interface));
            made.insert(text);
        }
        is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    /// A lease of four seconds is renewed every two: one with another mistake each time would fill the console.
    #[test]
    fn warnings_about_leases_are_limited() {
        let report = Report::to_caller(Level::Error);
        let warnings = Warnings::new("lo", &report);
        let told: Vec<_> =
            (0..100).filter(|number| warnings.tell(format!("mistake {}", number / 2))).collect();
        assert_eq!(told, [0, 2, 4, 6, 8, 10, 12, 14]);
    }
}
