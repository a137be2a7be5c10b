//! UDP datagrams in the packets of an interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The protocol number of UDP (RFC 768).
const UDP: u8 = 17;
/// Bytes of an IPv6 header (RFC 8200, section 3).
const IPV6_HEADER: usize = 40;
/// "More fragments", and the offset of a fragment (RFC 791, section 3.1).
const IS_FRAGMENT: u16 = 0x3fff;

/// A UDP datagram.
///
/// Its checksums are not verified: where the sender is on the same host, nobody has computed them, and elsewhere the link has
/// one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who claims to have sent it.
    pub from: SocketAddr,
    /// The port that it is for.
    pub port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Parses an IPv4 (RFC 791) or IPv6 packet (RFC 8200, without extension headers) as it was on the link. `None` for any
    /// other packet, for a fragment, and for one that is cut off.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::of_ipv4(packet),
            6 => Self::of_ipv6(packet),
            _ => None,
        }
    }

    fn of_ipv4(packet: &'a [u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0xf).checked_mul(4).filter(|length| *length >= 20)?;
        let is_whole = number(packet, 6)? & IS_FRAGMENT == 0;
        if *packet.get(9)? != UDP || !is_whole {
            return None;
        }
        let from = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
        Self::of_udp(from.into(), packet.get(header..number(packet, 2)?.into())?)
    }

    fn of_ipv6(packet: &'a [u8]) -> Option<Self> {
        if *packet.get(6)? != UDP {
            return None;
        }
        let from = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
        let end = IPV6_HEADER.checked_add(number(packet, 4)?.into())?;
        Self::of_udp(from.into(), packet.get(IPV6_HEADER..end)?)
    }

    /// RFC 768.
    fn of_udp(from: IpAddr, datagram: &'a [u8]) -> Option<Self> {
        let payload = datagram.get(8..number(datagram, 4)?.into())?;
        Some(Self { from: SocketAddr::new(from, number(datagram, 0)?), port: number(datagram, 2)?, payload })
    }
}

/// The 16-bit number at this offset, in network byte order.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From port 67 to port 68, with two bytes, and two more that pad the frame.
    const UDP_PART: [u8; 12] = [0, 67, 0, 68, 0, 10, 0, 0, 7, 8, 0, 0];

    fn ipv4() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9];
        packet.extend(UDP_PART);
        packet
    }

    fn ipv6() -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 10, UDP, 1];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(UDP_PART);
        packet
    }

    #[test]
    fn datagrams_of_both_protocols_are_found() {
        let from = |from: &str| Some(Datagram { from: from.parse().unwrap(), port: 68, payload: &[7, 8] });
        assert_eq!(Datagram::parse(&ipv4()), from("192.0.2.1:67"));
        assert_eq!(Datagram::parse(&ipv6()), from("[::1]:67"));
    }

    #[test]
    fn other_packets_fragments_and_cut_off_ones_are_none() {
        for whole in [ipv4(), ipv6()] {
            let end = whole.len() - 2;
            assert!((0..end).all(|length| Datagram::parse(&whole[..length]).is_none()));
        }
        let changes = [(0, 0x44), (0, 0x4f), (0, 0x55), (2, 1), (6, 0x20), (7, 1), (9, 6), (25, 7), (25, 11)];
        for (at, value) in changes {
            let mut packet = ipv4();
            packet[at] = value;
            assert_eq!(Datagram::parse(&packet), None, "{at}: {value}");
        }
    }
}
