//! Extended headers (POSIX.1-2017, pax, "pax Extended Header").

use super::sparse;
use anyhow::{Context as _, ensure};
use rustix::fs::Timespec;

/// Records with this prefix are extended attributes, as GNU tar and Go's archive/tar write them.
const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";
/// Digits of a fraction of a second that are used.
const NANOSECOND_DIGITS: usize = 9;

/// The properties in an extended header, which override those in the header of the next entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) owner: Option<i128>,
    pub(super) group: Option<i128>,
    pub(super) mtime: Option<Timespec>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: sparse::Records,
}

impl Records {
    /// Parses records `LENGTH KEY=VALUE\n`, where the length is that of the whole record in bytes.
    pub(super) fn read(mut bytes: &[u8]) -> anyhow::Result<Self> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = split(bytes).context("a damaged extended header")?;
            records.take(key, value).with_context(|| format!("its record `{}`", key.escape_ascii()))?;
            bytes = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        // An empty value cancels an earlier record.
        let text = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = text.map(<[u8]>::to_vec),
            b"linkpath" => self.link = text.map(<[u8]>::to_vec),
            b"size" => self.size = text.map(decimal).transpose()?.map(u64::try_from).transpose()?,
            b"uid" => self.owner = text.map(decimal).transpose()?.map(Into::into),
            b"gid" => self.group = text.map(decimal).transpose()?.map(Into::into),
            b"mtime" => self.mtime = text.map(time).transpose()?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(SPARSE) {
                    self.sparse.take(name, value)?;
                }
            }
        }
        Ok(())
    }
}

/// Key and value of the first record, and the bytes after it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let record = bytes.get(digits + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

pub(super) fn decimal(text: &[u8]) -> anyhow::Result<i64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.with_context(|| format!("`{}` is not a number", text.escape_ascii()))
}

/// Decimal seconds since 1970, possibly negative, possibly with a fraction.
fn time(text: &[u8]) -> anyhow::Result<Timespec> {
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    ensure!(fraction.iter().all(u8::is_ascii_digit), "`{}` is not a time", text.escape_ascii());
    let digits = fraction.iter().chain(&[b'0'; NANOSECOND_DIGITS]).take(NANOSECOND_DIGITS);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let seconds = decimal(whole)?;
    // In the text the fraction points away from zero, in the kernel's representation towards the future.
    Ok(if whole.starts_with(b"-") && nanoseconds > 0 {
        Timespec { tv_sec: seconds.saturating_sub(1), tv_nsec: 1_000_000_000 - nanoseconds }
    } else {
        Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_anything() {
        let records = Records::read(b"18 path=a\n\xffb=c \nd\n25 SCHILY.xattr.user.x=\n\n").unwrap();
        assert_eq!(records.path.unwrap(), b"a\n\xffb=c \nd");
        assert_eq!(records.xattrs, [(b"user.x".to_vec(), b"\n".to_vec())]);
        for damaged in [
            &b"8 path=a\n"[..],
            b"x path=a\n",
            b"99 path=a\n",
            b"8 path=a",
            b"7 patha\n",
            b"9999999999999999999999 a=b\n",
            b"1 path=a\n",
            b"13 uid=many x\n",
        ] {
            assert!(Records::read(damaged).is_err(), "{}", damaged.escape_ascii());
        }
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        let read = |text: &str| time(text.as_bytes()).map(|time| (time.tv_sec, time.tv_nsec)).ok();
        assert_eq!(read("1700000000.25"), Some((1_700_000_000, 250_000_000)));
        assert_eq!(read("5"), Some((5, 0)));
        assert_eq!(read("5.1234567899"), Some((5, 123_456_789)));
        assert_eq!(read("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(read("-0.5"), Some((-1, 500_000_000)));
        assert_eq!(read("-3"), Some((-3, 0)));
        for wrong in ["x", "1.x", "", "1.-5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
