//! What routers tell about an IPv6 network: Router Advertisements (RFC 4861, section 4.2). The kernel makes addresses and
//! routes of them by itself; the rest is here.

use crate::v6::is_usable;
use crate::{name, text};
use std::net::Ipv6Addr;

/// A Router Solicitation without options (RFC 4861, section 4.1). The kernel fills in the checksum.
pub const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
/// All routers on a link.
pub const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The ICMPv6 type.
const ADVERTISEMENT: u8 = 134;
/// Option types: RFC 4861, section 4.6; RFC 8106, section 5; RFC 8910, section 2.3.
const PREFIX: u8 = 3;
const NAME_SERVERS: u8 = 25;
const SEARCH_LIST: u8 = 31;
const CAPTIVE_PORTAL: u8 = 37;
/// Further servers and domains are left out.
const SERVERS_AT_MOST: usize = 8;
const DOMAINS_AT_MOST: usize = 6;

/// What a router tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// Whether it is a way to other networks.
    pub is_default: bool,
    /// Whether DHCPv6 gives addresses.
    pub is_managed: bool,
    /// Whether DHCPv6 gives everything but addresses.
    pub has_other: bool,
    /// Whether the kernel makes an address by itself.
    pub makes_address: bool,
    /// The name servers, in the order in which they are asked.
    pub name_servers: Vec<Ipv6Addr>,
    /// The domains in which names without a dot are looked up.
    pub search: Vec<String>,
    /// Where a person has to agree to something before the network can be used.
    pub captive_portal: Option<String>,
}

impl Advertisement {
    /// Decodes an ICMPv6 message; `None` if it is another one, or malformed: then all of it is to be ignored (RFC 4861,
    /// section 6.1.2).
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (head, mut rest) = message.split_first_chunk::<16>()?;
        let [ADVERTISEMENT, 0, _, _, _hop_limit, flags, lifetime @ ..] = head else { return None };
        let mut read = Self {
            is_default: lifetime.first_chunk::<2>() != Some(&[0, 0]),
            is_managed: flags & 0x80 != 0,
            has_other: flags & 0x40 != 0,
            ..Self::default()
        };
        while let [kind, length, ..] = rest {
            // Units of eight bytes; 0 is forbidden.
            let bytes = usize::from(*length).checked_mul(8).filter(|bytes| *bytes > 0)?;
            let (option, after) = rest.split_at_checked(bytes)?;
            read.take(*kind, option.get(2..).unwrap_or_default());
            rest = after;
        }
        rest.is_empty().then_some(read)
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match kind {
            PREFIX => self.makes_address |= is_autonomous(value),
            NAME_SERVERS => {
                let (servers, _) = lasting(value).as_chunks::<16>();
                let servers =
                    servers.iter().map(|octets| Ipv6Addr::from(*octets)).filter(|it| is_usable(*it));
                self.name_servers.extend(servers);
                self.name_servers.truncate(SERVERS_AT_MOST);
            }
            SEARCH_LIST => {
                // Names end with a zero, and so does the padding.
                self.search.extend(name::list(lasting(value)).unwrap_or_default());
                self.search.truncate(DOMAINS_AT_MOST);
            }
            CAPTIVE_PORTAL => self.captive_portal = text::url(value),
            _ => {}
        }
    }
}

/// What follows the two reserved bytes and the lifetime; nothing if the lifetime is over.
fn lasting(value: &[u8]) -> &[u8] {
    match value {
        [_, _, 0, 0, 0, 0, ..] => &[],
        _ => value.get(6..).unwrap_or_default(),
    }
}

/// Whether the kernel makes an address in this prefix: it has the flag, 64 bits, and a lifetime (RFC 4862, section
/// 5.5.3).
fn is_autonomous(value: &[u8]) -> bool {
    matches!(value, [64, flags, valid @ ..] if flags & 0x40 != 0 && valid.first_chunk::<4>().is_some_and(|it| *it != [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);

    fn advertisement(flags: u8, options: &[&[u8]]) -> Vec<u8> {
        let head = [134, 0, 0, 0, 64, flags, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        [&head[..], &options.concat()].concat()
    }

    fn prefix(flags: u8) -> Vec<u8> {
        let head = [PREFIX, 4, 64, flags, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [&head[..], &[0x20, 1, 0xd, 0xb8], &[0; 12]].concat()
    }

    fn servers(lifetime: u8) -> Vec<u8> {
        let list = [&SERVER.octets()[..], &Ipv6Addr::UNSPECIFIED.octets()].concat();
        [&[NAME_SERVERS, 5, 0, 0, 0, 0, 0, lifetime][..], &list].concat()
    }

    #[test]
    fn an_advertisement_says_how_the_network_is_used() {
        let domains = [&[SEARCH_LIST, 3, 0, 0, 0, 0, 0, 9][..], b"\x03lab\x07example\0\0\0\0"].concat();
        let read =
            Advertisement::parse(&advertisement(0x40, &[&prefix(0xC0), &servers(9), &domains])).unwrap();
        assert!(read.is_default && !read.is_managed && read.has_other && read.makes_address);
        assert_eq!((&*read.name_servers, &*read.search), (&[SERVER][..], &["lab.example".to_owned()][..]));
        let managed = Advertisement::parse(&advertisement(0x80, &[&prefix(0x80)])).unwrap();
        assert!(managed.is_managed && !managed.has_other && !managed.makes_address);
    }

    #[test]
    fn an_expired_server_is_omitted() {
        let read = Advertisement::parse(&advertisement(0, &[&servers(0)])).unwrap();
        assert!(read.name_servers.is_empty());
    }

    #[test]
    fn a_malformed_message_is_ignored_as_a_whole() {
        let good = advertisement(0x40, &[&prefix(0xC0), &servers(9)]);
        for length in (0..good.len()).filter(|length| ![16, 48].contains(length)) {
            assert_eq!(Advertisement::parse(&good[..length]), None, "{length}");
        }
        assert_eq!(
            Advertisement::parse(&advertisement(0, &[&[25, 0, 0, 0, 0, 0, 0, 0]])),
            None,
            "an option of length 0"
        );
        let mut solicitation = good;
        solicitation[0] = 133;
        assert_eq!(Advertisement::parse(&solicitation), None);
    }
}
