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
    query: Option<String>,
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
        let (path, query) = (uri.path().to_owned(), uri.query().map(str::to_owned));
        Ok(Self { url: url.to_owned(), is_secure, authority, path, query })
    }

    /// Resolves a `Location` header against this URL (RFC 9110, section 10.2.2; RFC 3986, section 5.2.2).
    pub(super) fn follow(&self, location: &[u8]) -> Result<Self, Error> {
        let location = escaped(location);
        // A fragment is for readers, not for servers.
        let reference = location.split('#').next().unwrap_or_default();
        let scheme = if self.is_secure { "https" } else { "http" };
        let here = format!("{scheme}://{}", self.authority);
        let head = reference.split(['/', '?']).next().unwrap_or_default();
        if head.contains(':') {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{scheme}:{reference}"));
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (reference, self.query.as_deref().filter(|_| reference.is_empty())),
        };
        let path = match path {
            "" => self.path.clone(),
            absolute if absolute.starts_with('/') => without_dots(absolute),
            relative => {
                let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
                without_dots(&format!("{directory}/{relative}"))
            }
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Self::parse(&format!("{here}{path}{query}"))
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

/// Resolves `.` and `..` in an absolute path (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let names: Vec<&str> = path.split('/').skip(1).collect();
    for (place, name) in names.iter().enumerate() {
        let is_last = place + 1 == names.len();
        match *name {
            "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
        if is_last && matches!(*name, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Percent-encodes the bytes that a URL cannot have and servers send all the same (RFC 3986, section 2).
fn escaped(location: &[u8]) -> String {
    let mut text = String::new();
    for byte in location.trim_ascii() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                text += &format!("%{byte:02X}")
            }
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986, sections 5.4.1 and 5.4.2, without the references whose scheme is not HTTP's.
    #[test]
    fn a_relative_reference_is_resolved_as_the_standard_says() {
        let base = Origin::parse("http://a/b/c/d;p?q").unwrap();
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/../x", "http://a/b/c/g"),
        ] {
            assert_eq!(base.follow(reference.as_bytes()).unwrap().url, expected, "{reference}");
        }
    }

    #[test]
    fn a_location_may_have_characters_that_no_url_has() {
        let base = Origin::parse("https://r.example/v2/x").unwrap();
        for (location, expected) in [
            (&b"/a b|c"[..], "https://r.example/a%20b%7Cc"),
            (b"/\xc3\xa9?sig=a+b%2F==", "https://r.example/%C3%A9?sig=a+b%2F=="),
            (b" https://s.example/{x}?y=\"z\" ", "https://s.example/%7Bx%7D?y=%22z%22"),
            (b"/caf\xe9", "https://r.example/caf%E9"),
        ] {
            assert_eq!(base.follow(location).unwrap().url, expected);
        }
    }

    #[test]
    fn a_relative_location_is_resolved() {
        let here = Origin::parse("https://r.example:5000/v2/a/blobs/x?y=/z").unwrap();
        for (location, expected) in [
            ("https://cdn.example/x?a=b:c", "https://cdn.example/x?a=b:c"),
            ("http://r.example/x", "http://r.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x:y", "https://r.example:5000/x:y"),
            ("other?a=:/", "https://r.example:5000/v2/a/blobs/other?a=:/"),
        ] {
            assert_eq!(here.follow(location.as_bytes()).unwrap().url, expected, "{location}");
        }
        for location in ["ftp://r.example/x", "https://", "file:/etc/passwd", "https:///x"] {
            assert!(here.follow(location.as_bytes()).is_err(), "{location}");
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
