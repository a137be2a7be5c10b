//! Which addresses an interface, a gateway or a server can have.

use std::net::Ipv4Addr;

/// Why `address` cannot belong to a machine on a network (RFC 6890, section 2.2.2); `None` if it can.
///
/// 240.0.0.0/4 is reserved, but Linux accepts it and some networks use it.
pub(crate) fn defect(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("is reserved (0.0.0.0/8)"),
        [127, ..] => Some("is a loopback address"),
        [224..=239, ..] => Some("is a multicast address"),
        [255, 255, 255, 255] => Some("is the broadcast address"),
        _ => None,
    }
}

/// Whether `address` can belong to a machine on a network.
pub(crate) fn is_usable(address: Ipv4Addr) -> bool {
    defect(address).is_none()
}

/// Whether `address` is the broadcast address of its network. Networks of one or two addresses have none (RFC 3021).
pub(crate) fn is_broadcast(address: Ipv4Addr, prefix: u8) -> bool {
    prefix < 31 && u32::from(address) | mask(prefix) == u32::MAX
}

/// The mask of the first `prefix` bits.
pub(crate) fn mask(prefix: u8) -> u32 {
    let host_bits = 32_u32.saturating_sub(prefix.into());
    u32::MAX.checked_shl(host_bits).unwrap_or(0)
}

/// The prefix length of a netmask; `None` unless it is ones followed by zeros. 0.0.0.0 is refused, 255.255.255.255 is
/// /32.
pub(crate) fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones > 0 && ones == bits.count_ones()).then(|| u8::try_from(ones).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_ones_and_then_zeros() {
        let read = |mask: [u8; 4]| prefix(mask.into());
        assert_eq!(read([255, 255, 255, 0]), Some(24));
        assert_eq!(read([255, 255, 255, 255]), Some(32));
        assert_eq!(read([128, 0, 0, 0]), Some(1));
        for wrong in [[0, 0, 0, 0], [255, 0, 255, 0], [0, 0, 0, 255], [255, 255, 255, 1]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!([0, 1, 24, 32].map(mask), [0, 1 << 31, 0xffff_ff00, u32::MAX]);
    }

    #[test]
    fn the_last_address_of_a_network_is_broadcast() {
        let is = |address: [u8; 4], prefix| is_broadcast(address.into(), prefix);
        assert!(is([10, 0, 2, 255], 24) && is([10, 0, 255, 255], 16));
        assert!(!is([10, 0, 2, 255], 16) && !is([10, 0, 2, 255], 31) && !is([10, 0, 2, 255], 32));
    }
}
