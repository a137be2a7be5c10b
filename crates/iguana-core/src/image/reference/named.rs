//! Names of images in registries: `[docker://]REGISTRY/REPOSITORY[:TAG][@DIGEST]`.

use super::ReferenceError;
use crate::image::digest::Digest;
use std::fmt;
use std::str::FromStr;

/// The name of an image in a registry, complete: registry, repository, and a tag or a digest.
///
/// Names without a registry mean Docker Hub, as for docker: `busybox` is `docker.io/library/busybox:latest`,
/// unless registries.conf has an alias for it or says which registries are searched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    /// What stood there, if no registry did.
    short: Option<String>,
}

impl Named {
    /// The name as it was written, without tag and digest, if it has no registry in it.
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
    pub(in crate::image) fn moved_to(&self, name: &str) -> Result<Self, ReferenceError> {
        let place: Self = name.parse()?;
        Ok(Self { tag: self.tag.clone(), digest: self.digest, ..place })
    }

    /// The tag, if it was named by one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The same name with a digest, which then counts.
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

    /// The digest that the image must have, if it was named by one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest, else the tag.
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
        let name = text.strip_prefix("docker://").unwrap_or(text);
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => (
                name,
                Some(
                    digest
                        .parse()
                        .map_err(|_| bad("after `@` must come `sha256:` and 64 hexadecimal digits"))?,
                ),
            ),
            None => (name, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("its tag must be at most 128 of [a-zA-Z0-9_.-]"));
        }
        let (registry, repository, short) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest.to_owned(), None),
            _ => ("docker.io", name.to_owned(), Some(name.to_owned())),
        };
        let repository = match registry {
            "docker.io" if !repository.contains('/') => format!("library/{repository}"),
            _ => repository,
        };
        if !registry.chars().all(|letter| letter.is_ascii_alphanumeric() || ".:-[]".contains(letter))
            || registry.starts_with('.')
        {
            return Err(bad("its registry must be a host name or address, perhaps with a port"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(bad("its parts must be of [a-z0-9] with single `.`, `_` or `-` between"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(ToOwned::to_owned),
        };
        Ok(Self { registry: registry.into(), repository, tag, digest, short })
    }
}

/// Docker's rule: the first part is a host if it has a dot or a port, or is `localhost`.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains('.') || part.contains(':')
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
    part.starts_with(is_word)
        && part.ends_with(is_word)
        && part.chars().all(|letter| is_word(letter) || "._-".contains(letter))
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
    fn a_digest_wins_over_a_tag() {
        let digest = Digest::of(b"");
        let name: Named = format!("r.example/x:1@{digest}").parse().unwrap();
        assert_eq!(name.identifier(), digest.to_string());
        assert_eq!(name.digest(), Some(digest));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in [
            "",
            "UPPER",
            "a//b",
            "r.example/",
            "r.example/x:",
            "r.example/x:a b",
            "r.example/x@sha256:0",
            "../x",
        ] {
            let error = text.parse::<Named>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not")), "{error}");
        }
    }
}
