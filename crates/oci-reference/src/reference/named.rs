//! Names of images in registries: `[docker://]REGISTRY/REPOSITORY[:TAG][@DIGEST]`.

use super::ReferenceError;
use super::domain;
use super::domain::HUB;
use crate::digest::Digest;
use std::fmt;
use std::str::FromStr;

/// The complete name of an image in a registry: registry, repository, and a tag or a digest.
///
/// Names without a registry mean Docker Hub, as for docker: `busybox` is `docker.io/library/busybox:latest`, unless
/// registries.conf has an alias for it or lists registries to search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    /// The name as written, if it had no registry.
    short: Option<String>,
}

impl Named {
    /// The name as written, without tag and digest, if it had no registry.
    #[must_use]
    pub fn short_name(&self) -> Option<&str> {
        self.short.as_deref()
    }

    /// Registry and repository.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The image with the same tag and digest in the repository `name`, which has a registry.
    pub fn moved_to(&self, name: &str) -> Result<Self, ReferenceError> {
        let place: Self = name.parse()?;
        Ok(Self { tag: self.tag.clone(), digest: self.digest, ..place })
    }

    /// The tag, if it has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The same name with a digest, which then identifies the image.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The registry's host, with its port if it has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The required digest, if it has one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The identifier in requests to the registry: the digest, or else the tag.
    #[must_use]
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(out, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Named {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = |why: &str| ReferenceError::of(text, why);
        let whole = text.strip_prefix("docker://").unwrap_or(text);
        if is_identifier(whole) {
            return Err(bad("64 hexadecimal digits are an image ID, not a repository"));
        }
        let (name, digest) =
            match whole.split_once('@') {
                Some((name, digest)) => {
                    let digest = digest.parse();
                    (
                        name,
                        Some(digest.map_err(|_| {
                            bad("`@` must be followed by `sha256:` and 64 hexadecimal digits")
                        })?),
                    )
                }
                None => (whole, None),
            };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("its tag must consist of at most 128 characters of [a-zA-Z0-9_.-]"));
        }
        let (registry, repository, short) = match name.split_once('/') {
            Some((first, rest)) if domain::is_named(first) => {
                (domain::canonical(first).map_err(|why| bad(&why))?, rest.to_owned(), None)
            }
            _ => (HUB.to_owned(), name.to_owned(), Some(name.to_owned())),
        };
        let repository = match &*registry {
            HUB if !repository.contains('/') => format!("library/{repository}"),
            _ => repository,
        };
        if !repository.split('/').all(is_path_component) {
            return Err(bad(
                "its parts must consist of [a-z0-9], separated by one `.`, one or two `_`, or `-`",
            ));
        }
        if registry.len() + 1 + repository.len() > NAME_LIMIT {
            return Err(bad("registry and repository together may have at most 255 characters"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(ToOwned::to_owned),
        };
        Ok(Self { registry, repository, tag, digest, short })
    }
}

/// Characters of the longest registry, slash and repository: the limit "on the length of the concatenation" in the
/// distribution specification, "Pulling manifests", and distribution/reference's `NameTotalLengthMax`.
const NAME_LIMIT: usize = 255;

/// An `identifier` of distribution/reference, which is refused as a name to avoid confusion with a digest.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|letter| matches!(letter, b'0'..=b'9' | b'a'..=b'f'))
}

/// Distribution specification, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// Distribution specification, "Pulling manifests": `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(part: &str) -> bool {
    let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_separator =
        |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    part.starts_with(is_word) && part.ends_with(is_word) && part.split(is_word).all(is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("user/tool:1.2", "docker.io/user/tool:1.2"),
            ("docker://r.example/a/b", "r.example/a/b:latest"),
            ("10.0.2.2:5000/x", "10.0.2.2:5000/x:latest"),
            ("localhost/x:y", "localhost/x:y"),
        ] {
            assert_eq!(short.parse::<Named>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn docker_hub_has_one_name() {
        for (text, expected) in [
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/user/tool:1", "docker.io/user/tool:1"),
            ("registry-1.docker.io/library/busybox", "docker.io/library/busybox:latest"),
            ("Docker.IO/busybox", "docker.io/library/busybox:latest"),
            ("docker.io:443/busybox", "docker.io/library/busybox:latest"),
            ("docker.io:5000/busybox", "docker.io:5000/busybox:latest"),
        ] {
            let name: Named = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.short_name()), (expected, None), "{text}");
        }
    }

    /// The cases of distribution/reference, `reference_test.go` and `normalize_test.go`, and the stricter ones here:
    /// invalid ports and invalid addresses.
    #[test]
    fn the_grammar_of_names_is_that_of_distribution() {
        let (long, longer) = (format!("a/{}", "a".repeat(243)), format!("a/{}", "a".repeat(244)));
        let (identifier, short) =
            ("0123456789abcdef".repeat(4), "0123456789abcdef".repeat(4)[1..].to_owned());
        for text in [
            "test.com/repo:tag",
            "test:5000/repo",
            "lowercase:Uppercase",
            "a-a/a-a",
            "a--a",
            "a__a/a_a",
            "a.b",
            "r.example/foo__bar/foo-bar/foo---bar/b.a_r",
            "xn--n3h.com/myimage:xn--n3h.com",
            "[::1]/x",
            "[2001:db8::1]:5000/x",
            "Uppercase/lowercase",
            "a/a/a/a/a/a/b/a/a/a/a",
            "foo_bar.com:8080",
            "foo/foo_bar.com:8080",
            "r.example/x:_t",
            "1.2.3.4/x",
            "localhost:5000/x",
            "r.example:65535/x",
            "r-e.example/x",
            "docker/docker",
            &short,
            &long,
            &format!("r.example/{identifier}"),
            &format!("docker.io/{identifier}"),
        ] {
            assert!(text.parse::<Named>().is_ok(), "{text}");
        }
        for text in [
            "",
            ":justtag",
            "@sha256:ffff",
            "UPPER",
            "repo/UPPER",
            "a//b",
            "r.example/",
            "/x",
            "-",
            "r.example/x:",
            "r.example/x:a b",
            "r.example/x:-a",
            "r.example/x:.a",
            "r.example/x@sha256:0",
            "../x",
            "a..b",
            "a___b",
            "a._b",
            "a-_b",
            "a-",
            "_a",
            "a_",
            ".a",
            "a/-b",
            "a/b/-",
            "-foo/bar",
            "foo_bar.com:8080/x",
            "-host.io/x",
            "host-.io/x",
            "a..b.io/x",
            ".host.io/x",
            "host.io./x",
            "HOST./x",
            "[::1/x",
            "::1/x",
            "[::1]x/x",
            "[]/x",
            "[1]/x",
            "[fe80::1%25eth0]/x",
            "[1.2.3.4]/x",
            "host.io:/x",
            "host.io:0/x",
            "host.io:65536/x",
            "host.io:99999/x",
            "host.io:abc/x",
            "host.io:+1/x",
            "host.io:0443/x",
            "host.io:1:2/x",
            "docker://",
            "https://r.example/x",
            "r.example//x",
            "user@r.example/x",
            "xn--n3h.com/\u{2603}",
            "\u{2603}.com/x",
            "a\n",
            "aa/asdf$$^/aa",
            &identifier,
            &longer,
            &format!("docker://{identifier}"),
            "r.example/x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852B855",
        ] {
            let error = text.parse::<Named>().map(|name| name.to_string());
            let error = error.expect_err(&format!("{text:?} is taken")).to_string();
            assert!(error.starts_with(&format!("`{text}` is not")), "{error}");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let digest = Digest::of(b"");
        let name: Named = format!("r.example/x:1@{digest}").parse().unwrap();
        assert_eq!(name.identifier(), digest.to_string());
        assert_eq!(name.digest(), Some(digest));
    }
}
