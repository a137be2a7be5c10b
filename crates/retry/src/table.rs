//! The table of retries: one row for each kind of retry in the product.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// One row: how one kind of failure is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The operation that is retried.
    pub operation: &'static str,
    /// The failure that this row is for.
    pub failure: &'static str,
    /// The maximum number of attempts, the first one included; `None` where only the total limit counts.
    pub tries: Option<u32>,
    /// The pause after the first attempt; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The total limit: no attempt begins later than this after the first one.
    pub total: Duration,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Connections that fail or break. A server that restarts is back within seconds; someone who mistyped its name or port
/// should not wait minutes for the error.
pub const UNREACHABLE: Schedule = Schedule {
    operation: "a document or a layer by HTTP, a DNS lookup",
    failure: "refused, reset, no response; 408, 500, 502, 504; DNS failures except \"no such name\"",
    tries: Some(5),
    first_pause: seconds(1),
    longest_pause: seconds(8),
    total: seconds(300),
};

/// Servers that answer that they are overloaded. A thousand machines that boot at once are served within minutes, but
/// only if they back off.
pub const OVERLOADED: Schedule = Schedule {
    operation: "a document or a layer by HTTP",
    failure: "429, 503; `Retry-After` is followed if it ends within the total",
    tries: Some(10),
    first_pause: seconds(2),
    longest_pause: seconds(60),
    total: seconds(600),
};

/// Bytes that do not match their digest. A fault in memory or in a proxy is transient; one in the registry's storage is
/// not.
pub const DAMAGED: Schedule = Schedule {
    operation: "a document or a layer by HTTP",
    failure: "the digest does not match",
    tries: Some(3),
    first_pause: seconds(1),
    longest_pause: seconds(2),
    total: seconds(1800),
};

/// One of several locations of an image: the next one is tried instead.
pub const NEXT_LOCATION: Schedule = Schedule {
    operation: "an image from one of several mirrors, except the last",
    failure: "any",
    tries: Some(1),
    first_pause: seconds(0),
    longest_pause: seconds(0),
    total: seconds(300),
};

/// What getaddrinfo(3) does (resolv.conf(5), `timeout` and `attempts`, for three servers). The total limit is our own:
/// glibc waits without a limit for a server that has begun to answer by TCP.
pub const ADDRESS_LOOKUP: Schedule = Schedule {
    operation: "a query to each of three DNS servers, by getaddrinfo(3)",
    failure: "no response",
    tries: Some(2),
    first_pause: seconds(5),
    longest_pause: seconds(5),
    total: seconds(30),
};

/// Retransmission of the last TFTP packet. The total is that of other documents: the largest document has 5794 blocks,
/// sent one after the other, so it arrives in time over a network with a round trip of 50 ms.
pub const TFTP_PACKET: Schedule = Schedule {
    operation: "a TFTP packet; the transfer ends when no new data arrives for 30 s",
    failure: "no response",
    tries: None,
    first_pause: seconds(1),
    longest_pause: seconds(1),
    total: seconds(300),
};

/// The first lease. RFC 2131, section 4.1, starts with 4 s, but a switch that drops the first packet is more common
/// than a slow server. A switch with spanning tree forwards nothing for 30 s after a link comes up. Servers behind
/// relays that look names up, or that probe addresses first, have been seen to take 30 s for a message; the transaction
/// stays the same, so their answers count.
pub const DHCP_LEASE: Schedule = Schedule {
    operation: "a DHCP lease: the offer",
    failure: "no response",
    tries: None,
    first_pause: seconds(1),
    longest_pause: seconds(16),
    total: seconds(120),
};

/// The question for an IPv6 router (RFC 4861, section 10, asks three times every 4 s; RFC 7559 goes on for ever, with
/// growing pauses, since one packet may be lost and routers come up later than machines).
pub const ROUTER_SOLICITATION: Schedule = Schedule {
    operation: "the question for an IPv6 router",
    failure: "no response",
    tries: None,
    first_pause: seconds(1),
    longest_pause: seconds(16),
    total: seconds(120),
};

/// The request for an offered address (RFC 2131, section 3.1, step 5: about 60 s, then the client begins anew).
pub const DHCP_SELECTION: Schedule = Schedule {
    operation: "a DHCP lease: the offered address",
    failure: "no response",
    tries: None,
    first_pause: seconds(1),
    longest_pause: seconds(16),
    total: seconds(60),
};

/// The renewal of a lease (RFC 2131, section 4.4.5, asks for at least 60 s between repetitions). The lease's end is the
/// total limit; the value here is that of the longest lease.
pub const DHCP_RENEWAL: Schedule = Schedule {
    operation: "the renewal of a DHCP lease, until it ends",
    failure: "no response",
    tries: None,
    first_pause: seconds(60),
    longest_pause: seconds(60),
    total: seconds(u32::MAX as u64),
};

/// Every row.
pub const TABLE: [Schedule; 10] = [
    UNREACHABLE,
    OVERLOADED,
    DAMAGED,
    NEXT_LOCATION,
    ADDRESS_LOOKUP,
    TFTP_PACKET,
    ROUTER_SOLICITATION,
    DHCP_LEASE,
    DHCP_SELECTION,
    DHCP_RENEWAL,
];

impl Schedule {
    /// The pause after `tried` attempts: between three quarters of the nominal pause and all of it, so that machines
    /// that boot at the same time do not retry at the same time.
    #[must_use]
    pub fn pause(&self, tried: u32) -> Duration {
        let doubled = 1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.first_pause.saturating_mul(doubled).min(self.longest_pause);
        full * 3 / 4 + some_of(full / 4)
    }

    fn row(&self) -> String {
        let seconds = |duration: Duration| format!("{} s", duration.as_secs());
        let tries = self.tries.map_or("until the total".into(), |tries| tries.to_string());
        let pauses = match (self.first_pause.as_secs(), self.longest_pause.as_secs()) {
            (0, _) => "none".into(),
            (first, longest) if first == longest => format!("{first} s each"),
            (first, longest) => format!("{first} s, doubled up to {longest} s"),
        };
        let total = if *self == DHCP_RENEWAL { "the lease's end".into() } else { seconds(self.total) };
        format!("| {} | {} | {tries} | {pauses} | {total} |", self.operation, self.failure)
    }
}

/// A random part of a duration, for jitter. It need not be secret, so it does not wait for the kernel's random numbers.
pub(crate) fn some_of(duration: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) % 1024;
    duration * u32::try_from(chance).unwrap_or_default() / 1024
}

/// The table as it stands in docs/retries.md.
#[must_use]
pub fn markdown() -> String {
    let head =
        "| operation | failure | attempts | pauses between them | total |\n| --- | --- | --- | --- | --- |";
    let rows = TABLE.iter().map(|schedule| format!("\n{}", schedule.row()));
    format!("{head}{}\n", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_this_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/retries.md");
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(&markdown()), "docs/retries.md must have:\n\n{}", markdown());
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread_over_a_quarter() {
        for (tried, full) in [(1, 2), (2, 4), (5, 32), (6, 60), (40, 60), (u32::MAX, 60)] {
            for _ in 0..50 {
                let (pause, full) = (OVERLOADED.pause(tried), seconds(full));
                assert!(pause >= full * 3 / 4 && pause <= full, "{tried}: {pause:?}");
            }
        }
        let pauses: Vec<_> = (0..50).map(|_| OVERLOADED.pause(9)).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }

    #[test]
    fn an_overloaded_server_gets_minutes_to_recover() {
        let pauses: Duration = (1..10).map(|tried| OVERLOADED.pause(tried)).sum();
        assert!(pauses >= seconds(180) && pauses < OVERLOADED.total, "{pauses:?}");
    }
}
