//! Error messages of failed requests.

use super::limits::Deadline;
use super::setting_names::SettingNames;
use super::{CONNECT_LIMIT, RESOLVE_LIMIT, SILENCE_LIMIT, SLOWNESS_LIMIT, certificate, host};
use crate::resolve::LookupError;
use retry::TransientError;
use std::io;
use ureq::{Error, Timeout};

/// Explains why there was no answer, with the URL and a hint.
pub(super) fn explain(error: Error, url: &str, deadline: Deadline, names: SettingNames) -> anyhow::Error {
    let host = host(url);
    let remedy = match &error {
        Error::HostNotFound => name_remedy(host),
        Error::Other(cause) if is_no_such_name(&**cause) => name_remedy(host),
        Error::Other(cause) if cause.is::<LookupError>() => servers_remedy(),
        Error::Timeout(Timeout::Resolve) => servers_remedy(),
        Error::BadUri(_) => "write it as `https://HOST/PATH` or `http://HOST/PATH`".into(),
        Error::ConnectProxyFailed(_) => format!(
            "check the proxy, its user and password ({}), whether it allows `{host}`, and whether `{host}` should \
             be reached without it ({})",
            names.proxy, names.no_proxy
        ),
        Error::Timeout(_) => format!("check that `{host}` is up and that no firewall blocks it"),
        Error::Io(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
            format!("`{host}` is up but refuses connections: check the port and the server")
        }
        _ => {
            let of_certificate =
                certificate::fault(&error).and_then(|fault| certificate::remedy(fault, host, names));
            of_certificate.unwrap_or_else(|| network_remedy(host))
        }
    };
    hint::attach(cause(error, deadline).context(format!("cannot fetch `{url}`")), remedy)
}

fn is_no_such_name(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(LookupError::NoSuchName(_)))
}

/// What to do about a connection that was made and did not last.
pub(super) fn network_remedy(host: &str) -> String {
    format!("check the network and any proxy between this machine and `{host}`, and the log of `{host}`")
}

fn servers_remedy() -> String {
    "check the DNS servers of this network (`nameserver` in `/etc/resolv.conf`)".into()
}

fn name_remedy(host: &str) -> String {
    format!("check the name `{host}`, and that the DNS server of this network knows it")
}

/// The original error, without the messages of the layers in between.
fn cause(error: Error, deadline: Deadline) -> anyhow::Error {
    if let Some(told) = certificate::fault(&error).and_then(certificate::dates) {
        return anyhow::Error::msg(told);
    }
    if let Some(fault) = certificate::fault(&error).filter(|fault| certificate::may_be_damage(fault)) {
        return TransientError(format!("the response was changed on its way, or is not TLS: {fault}")).into();
    }
    match error {
        Error::Io(cause) => cause.into(),
        Error::HostNotFound => anyhow::anyhow!("no such name"),
        Error::Other(cause) => match cause.downcast::<LookupError>() {
            Ok(failed) => failed.into_error(),
            Err(other) => anyhow::Error::from_boxed(other),
        },
        Error::Timeout(over) => timeout(over, deadline).into(),
        // A byte that was corrupted in transit has the same effect, so a retry may help.
        Error::Protocol(cause) => TransientError(format!("the response is not HTTP: {cause}")).into(),
        Error::Rustls(cause) => cause.into(),
        Error::ConnectionFailed => io::Error::from(io::ErrorKind::NotConnected).into(),
        Error::ConnectProxyFailed(reason) => anyhow::anyhow!("the proxy refused the connection: {reason}"),
        other => other.into(),
    }
}

/// The message for the limit that was exceeded.
fn timeout(over: Timeout, deadline: Deadline) -> io::Error {
    match over {
        Timeout::Connect => timed_out(format!("no connection within {} s", CONNECT_LIMIT.as_secs())),
        Timeout::Resolve => {
            timed_out(format!("no response from a DNS server within {} s", RESOLVE_LIMIT.as_secs()))
        }
        Timeout::Global => deadline.passed(),
        // The pace of a connection, see `limits`.
        Timeout::RecvBody => {
            timed_out(format!("no complete data received for {} s", SLOWNESS_LIMIT.as_secs()))
        }
        Timeout::PerRead => timed_out(format!("no data received for {} s", SILENCE_LIMIT.as_secs())),
        _ => timed_out(format!("no response within {} s", SILENCE_LIMIT.as_secs())),
    }
}

/// Explains why reading an answer failed: a server may be slow, but neither silent nor slow without end.
pub(super) fn broken(error: io::Error, deadline: Deadline) -> io::Error {
    let inner = error.get_ref();
    let cause: Option<&Error> = inner.and_then(|inner| inner.downcast_ref());
    let fault = cause.and_then(certificate::fault).or_else(|| inner?.downcast_ref());
    match cause {
        Some(Error::Timeout(over)) => timeout(*over, deadline),
        // As in `cause`.
        Some(Error::Protocol(_)) => changed("HTTP", &error),
        _ if fault.is_some_and(certificate::may_be_damage) => changed("TLS", &error),
        _ => error,
    }
}

fn changed(protocol: &str, error: &io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("the response is not {protocol}: {error}"))
}

pub(super) fn timed_out(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, message)
}
