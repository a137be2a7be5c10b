//! The IPv6 addresses of an interface, as the kernel lists them: the address, the interface's index, the prefix
//! length, the scope and the flags, all in hexadecimal (net/ipv6/addrconf.c, `if6_seq_show`).

use std::fs;
use std::net::Ipv6Addr;

/// Of the thread, whose namespace may be another than that of the process in tests.
const TABLE: &str = "/proc/thread-self/net/if_inet6";
/// linux/if_addr.h, `IFA_F_OPTIMISTIC`, `IFA_F_DADFAILED`, `IFA_F_TENTATIVE`.
const OPTIMISTIC: u32 = 0x04;
const DUPLICATE: u32 = 0x08;
const TENTATIVE: u32 = 0x40;
/// net/ipv6.h, `IPV6_ADDR_SCOPE_GLOBAL`, which private (ULA) addresses have, too; and that of a site.
const SCOPES: [u32; 2] = [0x00, 0x40];

/// Which address is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It reaches other networks.
    Usable,
    /// Another machine has it.
    Duplicate,
}

/// The first address of an interface in that state, with its prefix length.
pub(super) fn of(index: u32, state: State) -> Option<String> {
    find(&fs::read_to_string(TABLE).unwrap_or_default(), index, state)
}

fn find(table: &str, index: u32, state: State) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let (its_index, prefix, scope, flags) = (number()?, number()?, number()?, number()?);
        let is_usable = flags & DUPLICATE == 0 && (flags & TENTATIVE == 0 || flags & OPTIMISTIC != 0);
        let is_wanted = match state {
            State::Usable => is_usable && SCOPES.contains(&scope),
            State::Duplicate => flags & DUPLICATE != 0,
        };
        (its_index == index && is_wanted).then(|| format!("{address}/{prefix}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_usable_when_the_kernel_uses_it() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000505400fffe123456 02 40 20 80     eth0\n\
                     20010db8000000000000000000000015 02 40 00 48     eth0\n\
                     20010db8000000000000000000000016 02 80 00 44     eth0\n\
                     20010db8000000000000000000000017 03 40 00 40     eth1\n";
        assert_eq!(find(table, 2, State::Usable).as_deref(), Some("2001:db8::16/128"));
        assert_eq!(find(table, 2, State::Duplicate).as_deref(), Some("2001:db8::15/64"));
        assert_eq!(find(table, 3, State::Usable), None);
        assert_eq!(find("", 2, State::Usable), None);
    }
}
