//! What a server demands before it answers: the challenges in `WWW-Authenticate` (RFC 9110, sections 11.3 and 11.6.1).

/// Challenges of one answer that are parsed. A registry sends one, perhaps three.
const CHALLENGES_LIMIT: usize = 8;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of a token server (distribution's docs/spec/auth/token.md).
    Bearer(Bearer),
    /// A name and a password (RFC 7617).
    Basic,
    /// A scheme that is not spoken here, or a challenge that cannot be answered.
    Other(String),
}

/// Where to fetch a token, and for which scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
}

/// The challenges in all headers of an answer, in their order.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for item in headers.flat_map(items) {
        let (word, rest) =
            item.split_at(item.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(item.len()));
        if let Some(parameter) = parameter(word, rest) {
            found.last_mut().into_iter().for_each(|(_, parameters)| parameters.push(parameter.clone()));
            continue;
        }
        if found.len() == CHALLENGES_LIMIT {
            break;
        }
        // A scheme, with the first of its parameters, or with a token, which no scheme spoken here has.
        let rest = rest.trim_start();
        let (name, value) = rest.split_at(rest.find(['=', ' ', '\t']).unwrap_or(rest.len()));
        found.push((word.to_owned(), parameter(name, value).into_iter().collect()));
    }
    found.into_iter().map(|(scheme, parameters)| Challenge::of(scheme, &parameters)).collect()
}

impl Challenge {
    fn of(scheme: String, parameters: &[(String, String)]) -> Self {
        let value = |name: &str| {
            let (_, value) = parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some(value.clone()).filter(|value| !value.is_empty())
        };
        match (scheme.to_ascii_lowercase().as_str(), value("realm")) {
            ("basic", _) => Self::Basic,
            ("bearer", Some(realm)) => {
                Self::Bearer(Bearer { realm, service: value("service"), scope: value("scope") })
            }
            _ => Self::Other(scheme),
        }
    }
}

/// The parts of a header between commas that are not in a quoted string.
fn items(header: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = header.split(move |letter| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match letter {
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// `name = value`, where `rest` is what follows the name; the value is a token or a quoted string (section 11.2).
fn parameter(name: &str, rest: &str) -> Option<(String, String)> {
    let value = rest.trim_start().strip_prefix('=')?.trim();
    // The padding of a token in base64.
    if value.is_empty() || value.starts_with('=') {
        return None;
    }
    Some((name.to_owned(), unquoted(value)))
}

/// The content of a quoted string without its escapes (section 5.6.4); other text as it is.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"') else { return value.to_owned() };
    let (mut text, mut letters) = (String::new(), quoted.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => text.extend(letters.next()),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer(Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) })
    }

    /// RFC 9110, section 11.6.1: "there can be more than one challenge in a field line … the contents of a challenge can
    /// itself contain a comma-separated list of authentication parameters".
    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let usual = || bearer("https://a.example/t", Some("r"), Some("repository:a:pull"));
        let other = |scheme: &str| Challenge::Other(scheme.into());
        let longest = "repository:a:pull,push repository:b:pull";
        for (header, expected) in [
            (r#"Bearer realm="https://a.example/t",service="r",scope="repository:a:pull""#, vec![usual()]),
            (r#"bearer Realm = "https://a.example/t" , SERVICE=r, scope =repository:a:pull"#, vec![usual()]),
            (
                "BEARER\trealm=https://a.example/t,,service=\"r\", scope=\"repository:a:pull\" ,",
                vec![usual()],
            ),
            (&format!(r#"Bearer scope="{longest}",realm="x""#), vec![bearer("x", None, Some(longest))]),
            (r#"Bearer realm="a\"b\\c, d",service="""#, vec![bearer("a\"b\\c, d", None, None)]),
            (r#"Basic realm="a, Bearer realm=b""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"Negotiate, Basic realm="x", charset="UTF-8", Bearer realm="y""#,
                vec![other("Negotiate"), Challenge::Basic, bearer("y", None, None)],
            ),
            ("Negotiate YWJjZA==, Basic realm=x", vec![other("Negotiate"), Challenge::Basic]),
            (r#"Bearer error="invalid_token""#, vec![other("Bearer")]),
            (r#"Bearer realm="unfinished"#, vec![bearer("unfinished", None, None)]),
            (r#"realm="of nothing""#, vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse([header].into_iter()), expected, "{header}");
        }
        let two = ["Negotiate", r#"Bearer realm="y""#];
        assert_eq!(parse(two.into_iter()), [other("Negotiate"), bearer("y", None, None)]);
    }

    #[test]
    fn the_number_of_challenges_has_a_limit() {
        for (others, is_found) in [(CHALLENGES_LIMIT - 1, true), (CHALLENGES_LIMIT, false)] {
            let header = format!("{}Basic realm=\"x\"", "Negotiate, ".repeat(others));
            assert_eq!(parse([&*header].into_iter()).contains(&Challenge::Basic), is_found);
        }
    }
}
