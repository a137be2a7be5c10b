//! Explains what is wrong with a server's certificate, and what to do about it.

use super::setting_names::SettingNames;
use rustls::pki_types::UnixTime;
use rustls::{CertificateError as Bad, Error::InvalidCertificate};

/// The TLS error in an error, if there is one.
pub(super) fn fault(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(fault) => Some(fault),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Whether bytes that were changed on their way have this effect, so that a retry may help. A server that does not speak
/// TLS sends other content types (RFC 8446, section 5.1) and is not asked again.
pub(super) fn may_be_damage(fault: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    match fault {
        rustls::Error::DecryptError | rustls::Error::PeerMisbehaved(_) => true,
        rustls::Error::InvalidMessage(message) => *message != rustls::InvalidMessage::InvalidContentType,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::BadRecordMac | Alert::DecryptError | Alert::DecodeError | Alert::IllegalParameter
        ),
        _ => false,
    }
}

/// Describes a certificate that is expired or not valid yet, with its date and the clock's, for either may be wrong.
pub(super) fn dates(fault: &rustls::Error) -> Option<String> {
    match fault {
        InvalidCertificate(Bad::NotValidYetContext { time, not_before }) => Some(format!(
            "its certificate is not valid before {}, and this machine's clock shows {}",
            date(*not_before),
            date(*time)
        )),
        InvalidCertificate(Bad::ExpiredContext { time, not_after }) => Some(format!(
            "its certificate expired at {}, and this machine's clock shows {}",
            date(*not_after),
            date(*time)
        )),
        _ => None,
    }
}

/// The hint for a TLS error.
pub(super) fn remedy(fault: &rustls::Error, host: &str, names: SettingNames) -> Option<String> {
    Some(match fault {
        InvalidCertificate(Bad::UnknownIssuer) => format!(
            "no CA trusted here has issued the certificate of `{host}`; to trust its CA, {}",
            names.authority
        ),
        InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            format!("renew the certificate of `{host}`, or correct this machine's clock")
        }
        InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "correct this machine's clock: the certificate is not yet valid".into()
        }
        InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the certificate is not for `{host}`: use a name that it was issued for")
        }
        rustls::Error::AlertReceived(
            rustls::AlertDescription::CertificateRequired
            | rustls::AlertDescription::BadCertificate
            | rustls::AlertDescription::HandshakeFailure,
        ) => format!(
            "`{host}` may require a client certificate: put it as `NAME.cert` and `NAME.key` into the directory \
             `{host}` in {}",
            names.certificates
        ),
        rustls::Error::InvalidMessage(_) => {
            format!("`{host}` does not speak TLS on this port: should the URL begin with http?")
        }
        _ => return None,
    })
}

/// `2026-01-31 23:59:59 UTC`, by the proleptic Gregorian calendar.
fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    // Years begin in March here, so that leap days come last; 719,468 days from 1 March of the year 0 to 1970.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = 400 * era + year + later;
    let clock = seconds % 86_400;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", clock / 3600, clock / 60 % 60, clock % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(seconds))), expected);
        }
    }
}
