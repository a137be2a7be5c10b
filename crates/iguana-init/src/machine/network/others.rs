//! A network that another program brings up: dracut's NetworkManager, networkd or dhclient.

use super::{LIMIT, POLL_INTERVAL};
use crate::report::{Report, Waiting};
use config::cmdline;
use std::fs;
use std::thread;
use std::time::Instant;

/// The routing tables of IPv4 and IPv6 (Linux, Documentation/filesystems/proc.rst, "Network info in /proc/net").
const ROUTES: (&str, &str) = ("/proc/net/route", "/proc/net/ipv6_route");
/// `RTF_UP` and `RTF_GATEWAY` (linux/route.h), as in the flags column of the IPv6 table.
const GATEWAY: u32 = 0x0003;

/// Waits for a route to other machines. If there is none in time, only warns, because the workflow may not need the
/// network.
pub(crate) fn wait_for_others(cmdline: &str, report: &Report) {
    if !is_demanded(cmdline) || is_up() {
        return;
    }
    let start = Instant::now();
    let _waiting = Waiting::start(report, "network: waiting for a route".into(), LIMIT);
    while !is_up() {
        if start.elapsed() > LIMIT {
            let seconds = LIMIT.as_secs();
            report.warn(format_args!("no network after {seconds} s (`rd.neednet=0` continues without it)"));
            return;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn is_demanded(cmdline: &str) -> bool {
    let options = cmdline::options(cmdline);
    let is = |name: &str, word: &str| matches!(options.get(name), Some(Some(value)) if value == word);
    !is("rd.neednet", "0") && !is("ip", "off")
}

fn is_up() -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    has_route(&read(ROUTES.0), &read(ROUTES.1))
}

/// Whether there is an IPv4 route or an IPv6 gateway. Other IPv6 routes do not count, as every interface has some from
/// the beginning.
fn has_route(of_ipv4: &str, of_ipv6: &str) -> bool {
    let is_gateway = |line: &str| {
        let flags = line.split_ascii_whitespace().nth(8).and_then(|word| u32::from_str_radix(word, 16).ok());
        flags.is_some_and(|flags| flags & GATEWAY == GATEWAY)
    };
    // The first line is the heading.
    of_ipv4.lines().nth(1).is_some() || of_ipv6.lines().any(is_gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_to_other_machines_is_distinguished_from_a_local_one() {
        let heading = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let none = "0000 00 0000 00 0000 ffffffff 00000001 00000000 00200200 lo\nfe80 40 0000 00 0000 00000100 1 0 00000001 eth0\n";
        assert!(!has_route(heading, none));
        assert!(has_route(&format!("{heading}eth0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"), none));
        assert!(has_route(heading, &format!("{none}0000 00 0000 00 fe80 00000400 1 0 00000003 eth0\n")));
    }

    #[test]
    fn the_network_is_optional() {
        assert!(is_demanded("rd.neednet=1 ip=dhcp"));
        assert!(!is_demanded("rd.neednet=1 rd.neednet=0"));
        assert!(!is_demanded("ip=off"));
    }
}
