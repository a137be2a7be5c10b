//! Parses URLs as far as a client needs it, and resolves redirects.

use ureq::Error;
use ureq::http::Uri;

/// The URL of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) url: String,
    pub(super) is_secure: bool,
    /// Host and port, as they are in the URL.
    pub(super) authority: String,
    path: String,
}

impl Origin {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let bad = || Error::BadUri(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(bad)?;
        let authority = authority.to_string();
        Ok(Self { url: url.to_owned(), is_secure, authority, path: uri.path().to_owned() })
    }

    /// Resolves a `Location` header against this URL (RFC 9110, section 10.2.2; RFC 3986, section 5.2).
    pub(super) fn follow(&self, location: &str) -> Result<Self, Error> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let here = format!("{scheme}://{}", self.authority);
        let head = location.split(['/', '?', '#']).next().unwrap_or_default();
        let url = if head.contains(':') {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{here}{location}")
        } else {
            let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{here}{directory}/{location}")
        };
        Self::parse(&url)
    }

    /// The origin: two URLs with the same one belong to one server (RFC 6454).
    pub(super) fn origin(&self) -> (bool, String, u16) {
        (self.is_secure, self.host().to_lowercase(), self.port())
    }

    pub(super) fn host(&self) -> &str {
        let authority = self.authority.rsplit_once('@').map_or(&*self.authority, |(_, host)| host);
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|letter| letter.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    pub(super) fn port(&self) -> u16 {
        let usual = if self.is_secure { 443 } else { 80 };
        self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_completed() {
        let here = Origin::parse("https://r.example:5000/v2/a/blobs/x?y=/z").unwrap();
        for (location, expected) in [
            ("https://cdn.example/x?a=b:c", "https://cdn.example/x?a=b:c"),
            ("http://r.example/x", "http://r.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x:y", "https://r.example:5000/x:y"),
            ("other?a=:/", "https://r.example:5000/v2/a/blobs/other?a=:/"),
        ] {
            assert_eq!(here.follow(location).unwrap().url, expected, "{location}");
        }
        for location in ["ftp://r.example/x", "https://", "file:/etc/passwd", "https:///x"] {
            assert!(here.follow(location).is_err(), "{location}");
        }
    }

    #[test]
    fn one_server_has_one_origin() {
        let origin = |url: &str| Origin::parse(url).unwrap().origin();
        assert_eq!(origin("https://r.example/a"), origin("https://R.example:443/b?c"));
        for other in [
            "http://r.example/a",
            "https://r.example:444/a",
            "https://a.r.example/a",
            "https://r.example.org/",
        ] {
            assert_ne!(origin("https://r.example/a"), origin(other), "{other}");
        }
        assert_eq!(Origin::parse("http://[::1]/x").unwrap().host(), "[::1]");
        assert_eq!(Origin::parse("http://[::1]:81/x").unwrap().origin(), (false, "[::1]".into(), 81));
        assert_eq!(Origin::parse("http://u:p@h.example/x").unwrap().host(), "h.example");
    }
}
