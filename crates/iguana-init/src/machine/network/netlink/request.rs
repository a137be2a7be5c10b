//! Requests of rtnetlink(7) as bytes: a header of netlink(7), one of the family, and attributes. Numbers have the byte
//! order of the machine, and each part begins at a multiple of four bytes.

use libc::{NLM_F_ACK, NLM_F_REQUEST};
use std::net::IpAddr;

/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `rtattr`.
const ATTRIBUTE: u16 = 4;

/// A request that the kernel acknowledges.
#[derive(Debug, Clone)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = (NLM_F_REQUEST | NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        // The sequence number and the port stay zero: a socket has one request at a time, and the kernel knows its port.
        Self { bytes }
    }

    /// About an interface (`ifinfomsg`); sets those of its flags that are in `up`.
    pub(super) fn of_link(index: u32, up: i32) -> Self {
        let (family_and_kind, up) = ([0; 4], up as u32);
        Self::new(libc::RTM_SETLINK, 0).part(&family_and_kind).number(index).number(up).number(up)
    }

    /// About an address of an interface (`ifaddrmsg`), of this family, with the length of its network's prefix.
    pub(super) fn of_address(kind: u16, flags: i32, (index, family, prefix): (u32, i32, u8)) -> Self {
        Self::new(kind, flags).part(&[family as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]).number(index)
    }

    /// About a route (`rtmsg`) in the main table.
    pub(super) fn of_route(kind: u16, flags: i32, route: &RouteHeader) -> Self {
        let RouteHeader { family, prefix, protocol, scope, flags: of_hop } = *route;
        Self::new(kind, flags)
            .part(&[family as u8, prefix, 0, 0])
            .part(&[libc::RT_TABLE_MAIN, protocol, scope, libc::RTN_UNICAST])
            .number(of_hop)
    }

    /// Adds an attribute that is a number.
    pub(super) fn with_number(self, attribute: u16, value: u32) -> Self {
        self.attribute(attribute, &value.to_ne_bytes())
    }

    /// Adds an attribute that is an address.
    pub(super) fn with_address(self, attribute: u16, value: impl Into<IpAddr>) -> Self {
        match value.into() {
            IpAddr::V4(address) => self.attribute(attribute, &address.octets()),
            IpAddr::V6(address) => self.attribute(attribute, &address.octets()),
        }
    }

    /// Adds an attribute that is text or another string of bytes.
    pub(super) fn with_bytes(self, attribute: u16, value: &[u8]) -> Self {
        self.attribute(attribute, value)
    }

    /// Adds the seconds for which an address is preferred and valid (`ifa_cacheinfo`; the kernel ignores its two times).
    pub(super) fn with_lifetime(self, preferred: u32, valid: u32) -> Self {
        let numbers = [preferred, valid, 0, 0].map(u32::to_ne_bytes);
        self.attribute(libc::IFA_CACHEINFO, numbers.as_flattened())
    }

    /// The bytes to send.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }

    fn attribute(self, attribute: u16, value: &[u8]) -> Self {
        let length = ATTRIBUTE + value.len() as u16;
        let [low, high] = length.to_ne_bytes();
        let [first, second] = attribute.to_ne_bytes();
        self.part(&[low, high, first, second]).part(value)
    }

    fn number(self, number: u32) -> Self {
        self.part(&number.to_ne_bytes())
    }

    /// Adds a part, and zeros up to the beginning of the next one.
    fn part(mut self, part: &[u8]) -> Self {
        self.bytes.extend_from_slice(part);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

/// The fields of `rtmsg` that differ between our routes.
pub(super) struct RouteHeader {
    pub(super) family: i32,
    pub(super) prefix: u8,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) flags: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_request_has_the_layout_of_the_kernels_headers() {
        let address = Ipv4Addr::new(203, 0, 113, 5);
        let request =
            Request::of_address(libc::RTM_NEWADDR, libc::NLM_F_CREATE, (0x0102_0304, libc::AF_INET, 24));
        let bytes = request.with_address(libc::IFA_LOCAL, address).into_bytes();
        let [length, index] = [32_u32, 0x0102_0304].map(u32::to_ne_bytes);
        let [kind, flags] = [20_u16, 0x405].map(u16::to_ne_bytes);
        let [size, local] = [8_u16, 2].map(u16::to_ne_bytes);
        let expected =
            [&length[..], &kind, &flags, &[0; 8], &[2, 24, 0, 0], &index, &size, &local, &[203, 0, 113, 5]];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn parts_begin_at_a_multiple_of_four_bytes() {
        let request = Request::of_link(1, 0).with_bytes(libc::IFLA_IFNAME, b"lan\x30x\0").with_number(4, 7);
        let bytes = request.into_bytes();
        assert_eq!(bytes[32..34], 10_u16.to_ne_bytes(), "the length is without the padding");
        assert_eq!(bytes[36..46], [b'l', b'a', b'n', b'0', b'x', 0, 0, 0, 8, 0]);
    }
}
