//! Compares the name in a signature with the requested name: `signedIdentity` of containers-policy.json(5).

use super::super::json::Object;
use anyhow::{Context as _, bail, ensure};
use oci_reference::{Named, canonical_scope};
use std::fmt;

/// The full name of an image, with its tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Registry and repository.
    pub(super) repository: String,
    /// `:TAG`, `@DIGEST`, or empty for a whole repository.
    pub(super) version: String,
}

impl Name {
    /// The name by which an image is requested. With both a tag and a digest, the digest is used, as in podman.
    pub(super) fn wanted(reference: &Named) -> Self {
        let version = match reference.digest() {
            Some(digest) => format!("@{digest}"),
            None => format!(":{}", reference.identifier()),
        };
        Self { repository: reference.name(), version }
    }

    /// Parses a name in a signature or a policy. Docker's defaults are added, except the tag.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let reference: Named = text.parse()?;
        ensure!(!text.contains("://"), "`{text}` is not a valid image name");
        let (name, digest) = text.split_at(text.find('@').unwrap_or(text.len()));
        let last = name.rsplit('/').next().unwrap_or(name);
        let tag = &last[last.find(':').unwrap_or(last.len())..];
        Ok(Self { repository: reference.name(), version: format!("{tag}{digest}") })
    }

    fn is_by_digest(&self) -> bool {
        self.version.starts_with('@')
    }

    fn is_of_a_repository(&self) -> bool {
        self.version.is_empty()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.repository, self.version)
    }
}

/// Which names in signatures are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignedIdentity {
    /// The same name.
    Exact,
    /// The same name; for an image requested by digest, any name in the same repository.
    RepositoryDigestOrExact,
    /// Any name in the same repository.
    Repository,
    /// This name, whatever name was requested.
    ExactReference(Name),
    /// Any name in this repository.
    ExactRepository(String),
    /// As [`Self::RepositoryDigestOrExact`], after `prefix` at the beginning of the requested name is replaced by
    /// `signed_prefix`.
    Remap { prefix: String, signed_prefix: String },
}

impl SignedIdentity {
    pub(super) fn read(mut object: Object) -> anyhow::Result<Self> {
        let identity = match object.need_text("type")?.as_str() {
            "matchExact" => Self::Exact,
            "matchRepoDigestOrExact" => Self::RepositoryDigestOrExact,
            "matchRepository" => Self::Repository,
            "exactReference" => {
                let name = Name::parse(&object.need_text("dockerReference")?)?;
                ensure!(!name.is_of_a_repository(), "`dockerReference` has neither a tag nor a digest");
                Self::ExactReference(name)
            }
            "exactRepository" => {
                Self::ExactRepository(Name::parse(&object.need_text("dockerRepository")?)?.repository)
            }
            "remapIdentity" => Self::Remap {
                prefix: prefix(object.need_text("prefix")?).context("`prefix`")?,
                signed_prefix: prefix(object.need_text("signedPrefix")?).context("`signedPrefix`")?,
            },
            other => bail!("unknown type `{other}` of `signedIdentity`"),
        };
        object.end()?;
        Ok(identity)
    }

    /// Checks whether an image signed as `signed` may be used under the name `wanted`.
    ///
    /// # Errors
    /// When it may not, with the names that would be accepted.
    pub(super) fn check(&self, wanted: Option<&Name>, signed: &str) -> anyhow::Result<()> {
        let told = Name::parse(signed).with_context(|| format!("it is signed as `{signed}`"))?;
        let wanted = || wanted.context("the image has no name to compare with a signature");
        let (fits, accepted) = match self {
            Self::Exact => exact(wanted()?, &told),
            Self::RepositoryDigestOrExact => repository_digest_or_exact(wanted()?, &told),
            Self::Repository => in_repository(&wanted()?.repository, &told),
            Self::ExactReference(name) => exact(name, &told),
            Self::ExactRepository(repository) => in_repository(repository, &told),
            Self::Remap { prefix, signed_prefix } => {
                repository_digest_or_exact(&remapped(wanted()?, prefix, signed_prefix)?, &told)
            }
        };
        ensure!(fits, "it is signed as `{signed}`, not as {accepted}");
        Ok(())
    }
}

fn exact(wanted: &Name, signed: &Name) -> (bool, String) {
    (!signed.is_of_a_repository() && wanted == signed, format!("`{wanted}`"))
}

fn in_repository(repository: &str, signed: &Name) -> (bool, String) {
    (repository == signed.repository, format!("a name in `{repository}`"))
}

fn repository_digest_or_exact(wanted: &Name, signed: &Name) -> (bool, String) {
    // The digest itself is compared with that in the signature.
    match wanted.is_by_digest() {
        true if !signed.is_of_a_repository() => in_repository(&wanted.repository, signed),
        true => (false, format!("a name in `{}` with its tag", wanted.repository)),
        false => exact(wanted, signed),
    }
}

fn remapped(wanted: &Name, prefix: &str, signed_prefix: &str) -> anyhow::Result<Name> {
    let rest = wanted.repository.strip_prefix(prefix);
    let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Ok(wanted.clone());
    };
    let repository = format!("{signed_prefix}{rest}");
    let name = Name::parse(&repository)?;
    ensure!(name.repository == repository, "`remapIdentity` yields `{repository}`, which is not a full name");
    Ok(Name { version: wanted.version.clone(), ..name })
}

/// Checks a prefix of a name: a registry, or a registry and a path.
fn prefix(text: String) -> anyhow::Result<String> {
    let whole = format!("{text}/x").parse::<Named>();
    let is_whole = whole.is_ok_and(|reference| reference.short_name().is_none()) && !text.contains("://");
    ensure!(is_whole, "`{text}` is neither a registry nor a registry with a path");
    Ok(canonical_scope(&text))
}

#[cfg(test)]
mod tests {
    use super::super::super::json::Json;
    use super::*;

    const DIGEST: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn identity(text: &str) -> anyhow::Result<SignedIdentity> {
        SignedIdentity::read(Json::parse(text.as_bytes())?.object()?)
    }

    #[test]
    fn names_are_compared_as_the_manual_specifies() {
        let by_digest = format!("r.example/a/x{DIGEST}");
        let both = format!("r.example/a/x:1{DIGEST}");
        let hub = "docker.io/library/busybox:1";
        let exact = r#"{"type": "matchExact"}"#;
        let usual = r#"{"type": "matchRepoDigestOrExact"}"#;
        let repository = r#"{"type": "matchRepository"}"#;
        let reference = r#"{"type": "exactReference", "dockerReference": "s.example/y:2"}"#;
        let other = r#"{"type": "exactRepository", "dockerRepository": "s.example/y"}"#;
        let remap = r#"{"type": "remapIdentity", "prefix": "r.example/a", "signedPrefix": "s.example"}"#;
        for (kind, wanted, signed, fits) in [
            (exact, "r.example/a/x:1", "r.example/a/x:1", true),
            (exact, "r.example/a/x:1", "r.example/a/x:2", false),
            (exact, "r.example/a/x:1", "r.example/a/x", false),
            (exact, "busybox:1", hub, true),
            (exact, hub, "busybox:1", true),
            (exact, &by_digest, &by_digest, true),
            (exact, &both, &by_digest, true),
            (exact, &by_digest, "r.example/a/x:1", false),
            (usual, "r.example/a/x:1", "r.example/a/x:1", true),
            (usual, "r.example/a/x:1", "r.example/a/y:1", false),
            (usual, "r.example/a/x:1", &both, false),
            (usual, &by_digest, "r.example/a/x:1", true),
            (usual, &both, "r.example/a/x:2", true),
            (usual, &by_digest, "r.example/a/y:1", false),
            (usual, &by_digest, "r.example/a/x", false),
            (usual, "r.example/a/x:1", "docker://r.example/a/x:1", false),
            (repository, "r.example/a/x:1", "r.example/a/x:2", true),
            (repository, "r.example/a/x:1", "r.example/a/x", true),
            (repository, "r.example/a/x:1", "r.example/a:1", false),
            (reference, "r.example/a/x:1", "s.example/y:2", true),
            (reference, "r.example/a/x:1", "r.example/a/x:1", false),
            (other, "r.example/a/x:1", "s.example/y:3", true),
            (other, "r.example/a/x:1", "s.example/z:3", false),
            (remap, "r.example/a/x:1", "s.example/x:1", true),
            (remap, "r.example/a/x:1", "r.example/a/x:1", false),
            (remap, "r.example/ab/x:1", "r.example/ab/x:1", true),
            (remap, &by_digest, "s.example/x:7", true),
            (usual, "r.example/a/x:1", "nothing to be read", false),
        ] {
            let wanted_name = Name::wanted(&wanted.parse().unwrap());
            let fit = identity(kind).unwrap().check(Some(&wanted_name), signed);
            assert_eq!(fit.is_ok(), fits, "{kind} {wanted} {signed}: {fit:?}");
        }
        assert!(identity(exact).unwrap().check(None, hub).is_err());
        assert!(identity(reference).unwrap().check(None, "s.example/y:2").is_ok());
    }

    #[test]
    fn undocumented_identities_are_refused() {
        for text in [
            r#"{"type": "matchAll"}"#,
            r#"{"type": "matchExact", "more": 1}"#,
            r#"{}"#,
            r#"{"type": "exactReference"}"#,
            r#"{"type": "exactReference", "dockerReference": "r.example/x"}"#,
            r#"{"type": "exactRepository", "dockerRepository": "UPPER"}"#,
            r#"{"type": "remapIdentity", "prefix": "r.example", "signedPrefix": "busybox"}"#,
            r#"{"type": "remapIdentity", "prefix": "r.example/x:1", "signedPrefix": "s.example"}"#,
        ] {
            assert!(identity(text).is_err(), "{text}");
        }
    }
}
