//! The options of a message (RFC 8415, section 21), and those inside of other options.

use crate::message::Unanswered;

pub(super) const CLIENT_ID: u16 = 1;
pub(super) const SERVER_ID: u16 = 2;
pub(super) const ADDRESS_ASSOCIATION: u16 = 3;
pub(super) const ADDRESS: u16 = 5;
pub(super) const OPTION_REQUEST: u16 = 6;
pub(super) const ELAPSED_TIME: u16 = 8;
const STATUS: u16 = 13;
pub(super) const RAPID_COMMIT: u16 = 14;
/// RFC 3646.
pub(super) const NAME_SERVERS: u16 = 23;
pub(super) const SEARCH_LIST: u16 = 24;
/// RFC 4075.
pub(super) const SNTP_SERVERS: u16 = 31;
/// RFC 5908.
pub(super) const NTP_SERVERS: u16 = 56;
/// RFC 5970.
pub(super) const BOOT_FILE_URL: u16 = 59;
pub(super) const ARCHITECTURE: u16 = 61;
/// RFC 8910, section 2.2.
pub(super) const CAPTIVE_PORTAL: u16 = 103;

/// The options that the client asks for.
pub(super) const WANTED: [u16; 6] =
    [NAME_SERVERS, SEARCH_LIST, SNTP_SERVERS, NTP_SERVERS, BOOT_FILE_URL, CAPTIVE_PORTAL];

/// Adds an option to a message. Values of more than 65535 bytes do not occur in what a client sends.
pub(super) fn put(message: &mut Vec<u8>, code: u16, value: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    message.extend(value);
}

/// Options in the order in which they were sent. Some may occur more than once.
pub(super) struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    pub(super) fn parse(mut bytes: &'a [u8]) -> Result<Self, &'static str> {
        const CUT: &str = "an option is longer than the message";
        let mut options = Vec::new();
        while !bytes.is_empty() {
            let (code, rest) = bytes.split_first_chunk::<2>().ok_or(CUT)?;
            let (length, rest) = rest.split_first_chunk::<2>().ok_or(CUT)?;
            let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(CUT)?;
            options.push((u16::from_be_bytes(*code), value));
            bytes = rest;
        }
        Ok(Self(options))
    }

    pub(super) fn all(&self, code: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(it, _)| *it == code).map(|(_, value)| *value)
    }

    pub(super) fn first(&self, code: u16) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    /// An error when the status is another than success (RFC 8415, section 21.13).
    pub(super) fn status(&self) -> Result<(), Unanswered> {
        match self.first(STATUS) {
            None | Some([0, 0, ..]) => Ok(()),
            Some([high, low, ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                Err(Unanswered::Unusable(format!(
                    "the server replied with status {code} ({})",
                    status_name(code)
                )))
            }
            Some(_) => Err(Unanswered::Malformed("its status is cut off")),
        }
    }
}

fn status_name(code: u16) -> &'static str {
    match code {
        1 => "failure",
        2 => "no addresses available",
        3 => "no binding",
        4 => "not on this link",
        5 => "use multicast",
        _ => "unknown",
    }
}
