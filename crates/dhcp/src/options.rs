//! The options of a message (RFC 2132), collected from all fields that may hold some (RFC 2131, section 4.1).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const PAD: u8 = 0;
pub(crate) const SUBNET_MASK: u8 = 1;
pub(crate) const ROUTER: u8 = 3;
pub(crate) const NAME_SERVERS: u8 = 6;
pub(crate) const HOST_NAME: u8 = 12;
pub(crate) const DOMAIN_NAME: u8 = 15;
pub(crate) const INTERFACE_MTU: u8 = 26;
pub(crate) const TIME_SERVERS: u8 = 42;
pub(crate) const REQUESTED_ADDRESS: u8 = 50;
pub(crate) const LEASE_TIME: u8 = 51;
pub(crate) const OVERLOAD: u8 = 52;
pub(crate) const MESSAGE_TYPE: u8 = 53;
pub(crate) const SERVER_IDENTIFIER: u8 = 54;
pub(crate) const PARAMETER_REQUEST_LIST: u8 = 55;
pub(crate) const LARGEST_SIZE: u8 = 57;
pub(crate) const RENEWAL_TIME: u8 = 58;
pub(crate) const REBINDING_TIME: u8 = 59;
pub(crate) const CLASS_IDENTIFIER: u8 = 60;
pub(crate) const BOOT_FILE: u8 = 67;
/// RFC 4578, section 2.
pub(crate) const ARCHITECTURE: u8 = 93;
pub(crate) const MACHINE_UUID: u8 = 97;
/// RFC 8910, section 2.1.
pub(crate) const CAPTIVE_PORTAL: u8 = 114;
/// RFC 3397.
pub(crate) const SEARCH_LIST: u8 = 119;
/// RFC 3442.
pub(crate) const CLASSLESS_ROUTES: u8 = 121;
pub(crate) const END: u8 = 255;

/// Options by code. An option that was sent in several parts, even in different fields, is concatenated (RFC 3396).
#[derive(Debug, Default)]
pub(crate) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Adds the options in one field of a message.
    ///
    /// # Errors
    /// When an option is longer than the rest of the field.
    pub(crate) fn add(&mut self, mut field: &[u8]) -> Result<(), &'static str> {
        const CUT: &str = "an option extends beyond its field";
        while let Some((&code, rest)) = field.split_first() {
            field = rest;
            match code {
                PAD => {}
                END => break,
                code => {
                    let (&length, rest) = field.split_first().ok_or(CUT)?;
                    let (value, rest) = rest.split_at_checked(length.into()).ok_or(CUT)?;
                    self.0.entry(code).or_default().extend_from_slice(value);
                    field = rest;
                }
            }
        }
        Ok(())
    }

    /// The bytes of an option.
    pub(crate) fn bytes(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// The value of an option of one byte.
    pub(crate) fn byte(&self, code: u8) -> Option<u8> {
        match self.bytes(code)? {
            [byte] => Some(*byte),
            _ => None,
        }
    }

    /// The value of an option that is a 32-bit number.
    pub(crate) fn number(&self, code: u8) -> Option<u32> {
        self.bytes(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The value of an option that is a 16-bit number.
    pub(crate) fn short(&self, code: u8) -> Option<u16> {
        self.bytes(code)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// The value of an option that is one address.
    pub(crate) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.number(code).map(Ipv4Addr::from)
    }

    /// The value of an option that is a list of addresses; `None` when the option is there but malformed.
    pub(crate) fn addresses(&self, code: u8) -> Option<Vec<Ipv4Addr>> {
        let (addresses, rest) = self.bytes(code).unwrap_or_default().as_chunks::<4>();
        rest.is_empty().then(|| addresses.iter().map(|address| Ipv4Addr::from(*address)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_option_are_joined() {
        let mut options = Options::default();
        options.add(&[PAD, 6, 4, 10, 0, 0, 1, 6, 2, 10, 0, PAD, END, 7]).unwrap();
        options.add(&[6, 2, 0, 2]).unwrap();
        assert_eq!(options.addresses(6).unwrap(), [[10, 0, 0, 1], [10, 0, 0, 2]].map(Ipv4Addr::from));
        assert_eq!(options.addresses(7), Some(vec![]));
    }

    #[test]
    fn an_option_ends_within_its_field() {
        for cut in [&[6][..], &[6, 1], &[6, 4, 1, 2, 3], &[0, 0, 6, 255]] {
            assert!(Options::default().add(cut).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn an_option_of_another_length_is_ignored() {
        let mut options = Options::default();
        options.add(&[51, 3, 0, 0, 1, 53, 2, 5, 5, 6, 5, 1, 2, 3, 4, 5, 54, 0]).unwrap();
        assert_eq!((options.number(51), options.byte(53), options.address(54)), (None, None, None));
        assert_eq!(options.addresses(6), None);
    }
}
