//! The faults of a name server.

use crate::name_server::{FOUND, answer};
use crate::soak::random::Random;
use std::time::Duration;

/// What the name server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameKind {
    Servfail,
    Refused,
    Silence,
    Garbage,
    /// It says that there are records, and sends none.
    Nothing,
    NoSuchName,
    NoAddress,
}

const KINDS: &[NameKind] = &[
    NameKind::Servfail,
    NameKind::Refused,
    NameKind::Silence,
    NameKind::Garbage,
    NameKind::Nothing,
    NameKind::NoSuchName,
    NameKind::NoAddress,
];

/// A fault of the name server for some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameFault {
    kind: NameKind,
    /// When it ends; `None` if never.
    until: Option<Duration>,
}

impl NameFault {
    pub(super) fn draw(random: &mut Random) -> NameFault {
        let kind = random.pick(KINDS);
        // Longer than one lookup, and shorter than the attempts at it.
        let until = Duration::from_millis(random.between(100, 8000));
        NameFault { kind, until: (!random.one_in(4)).then_some(until) }
    }

    pub(super) fn is_on(self, since: Duration) -> bool {
        self.until.is_none_or(|until| since < until)
    }

    pub(super) fn reply(self, question: &[u8]) -> Option<Vec<u8>> {
        let coded = |flags| Some(answer(question, flags, 0, &[]));
        match self.kind {
            NameKind::Servfail => coded(0x8182),
            NameKind::Refused => coded(0x8185),
            NameKind::Silence => None,
            NameKind::Garbage => Some(vec![0xff; 512]),
            NameKind::Nothing => Some(answer(question, FOUND, 9, &[])),
            NameKind::NoSuchName => coded(0x8183),
            NameKind::NoAddress => coded(FOUND),
        }
    }

    pub(super) fn may_be_fatal(self) -> bool {
        self.until.is_none() || matches!(self.kind, NameKind::NoSuchName | NameKind::NoAddress)
    }

    pub(super) fn name(self) -> &'static str {
        match self.kind {
            NameKind::Servfail => "SERVFAIL",
            NameKind::Refused => "REFUSED",
            NameKind::Silence => "silence",
            NameKind::Garbage => "garbage",
            NameKind::Nothing => "records that are not there",
            NameKind::NoSuchName => "NXDOMAIN",
            NameKind::NoAddress => "no address",
        }
    }

    /// Words of a message about it, as docs/retries.md has them.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self.kind {
            NameKind::Servfail => &["answers `SERVFAIL`"],
            NameKind::Refused => &["answers `REFUSED`"],
            NameKind::Silence => &["does not answer within", "no response from a DNS server"],
            NameKind::Garbage => &["sends invalid responses", "no response from a DNS server"],
            NameKind::Nothing => &["has no usable records"],
            NameKind::NoSuchName | NameKind::NoAddress => &["no such name: DNS has no address"],
        }
    }

    /// Five attempts, each of two questions of 5 s and one of 1 s.
    pub(super) fn bound(self) -> Duration {
        Duration::from_secs(90)
    }
}
