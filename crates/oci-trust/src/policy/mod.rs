//! Which images may run: containers-policy.json(5).
//!
//! As in containers/image, with these differences, which are all stricter: requirements that are not supported here
//! (OpenPGP, `pki`, base layers; `fulcio` in a build without `keyless`) reject the image; keys must be ECDSA on P-256
//! and P-384, Ed25519, or RSA with at least 2048 bits.

mod identity;
mod read;
#[cfg(test)]
mod tests;

#[cfg(feature = "keyless")]
use super::fulcio::Authority;
use super::key::PublicKey;
use super::signature::{Signature, Signers};
use anyhow::{Context as _, ensure};
use hint::{WithHint as _, hinted};
use identity::{Name, SignedIdentity};
use oci_reference::{Digest, Named, Reference};
use std::fmt;
use std::path::{Path, PathBuf};
use trust_directory;
use trust_directory::Files;
use trust_directory::place_in;

/// Name of the policy file.
pub const FILE: &str = "policy.json";

/// The scopes of one transport with their requirements.
type Transport = Vec<(String, Vec<Requirement>)>;

/// The requirements for images by their names.
#[derive(Debug, Clone)]
pub struct Policy {
    default: Vec<Requirement>,
    transports: Vec<(String, Transport)>,
    /// The trust directory, the base of relative paths.
    directory: PathBuf,
}

/// One requirement. All requirements of a list must be met.
#[derive(Debug, Clone, PartialEq)]
enum Requirement {
    AcceptAnything,
    Reject,
    SigstoreSigned(SigstoreSigned),
    /// An unsupported requirement, with its description.
    Unchecked(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
struct SigstoreSigned {
    signers: SignerSource,
    /// The keys of the transparency logs, one of which must have recorded the signature.
    logs: Option<Vec<KeySource>>,
    identity: SignedIdentity,
}

/// How accepted signers are given.
#[derive(Debug, Clone, PartialEq)]
enum SignerSource {
    Keys(Vec<KeySource>),
    #[cfg(feature = "keyless")]
    Fulcio {
        authority: KeySource,
        issuer: String,
        email: String,
    },
}

impl SignerSource {
    fn files(&self) -> &[KeySource] {
        match self {
            Self::Keys(keys) => keys,
            #[cfg(feature = "keyless")]
            Self::Fulcio { authority, .. } => std::slice::from_ref(authority),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum KeySource {
    File(PathBuf),
    Data(Vec<u8>),
}

/// An image as a policy sees it: its source, and the name by which it is requested.
#[derive(Debug, Clone)]
pub struct Subject {
    transport: &'static str,
    /// The scopes of the policy that apply to it, the most specific first.
    scopes: Vec<String>,
    /// The name that a signature can be for.
    name: Option<Name>,
}

impl Subject {
    /// The subject for the name of an image.
    ///
    /// # Errors
    /// When its name is a path that does not exist.
    pub fn of(reference: &Reference) -> anyhow::Result<Self> {
        match reference {
            Reference::Registry(named) => Ok(Self::of_registry(named)),
            Reference::Local(local) => {
                let path = local.path().canonicalize();
                let path = path.with_context(|| format!("cannot find `{}`", local.path().display()))?;
                Ok(Self::of_path(local.transport().name(), &path))
            }
        }
    }

    /// The subject for an image in a registry.
    #[must_use]
    pub fn of_registry(reference: &Named) -> Self {
        let name = Name::wanted(reference);
        let scopes = [name.to_string()].into_iter().chain(registry_scopes(&name.repository)).collect();
        Self { transport: "docker", scopes, name: Some(name) }
    }

    /// The subject for an image in a file or directory. `transport` is `oci`, `oci-archive`, `docker-archive` or
    /// `dir`; `path` is absolute and without symbolic links.
    #[must_use]
    pub fn of_path(transport: &'static str, path: &Path) -> Self {
        let directories = path.ancestors().filter(|directory| directory.parent().is_some());
        let scopes = directories.map(|directory| directory.display().to_string());
        let has_scopes = transport != "docker-archive";
        Self { transport, scopes: scopes.filter(|_| has_scopes).collect(), name: None }
    }
}

/// The repository, its parent paths, the registry, and the parent domains of the registry.
pub(crate) fn registry_scopes(repository: &str) -> Vec<String> {
    let above = |name: &str| name.rsplit_once('/').map(|(above, _)| above.to_owned());
    let mut scopes: Vec<String> =
        std::iter::successors(Some(repository.to_owned()), |name| above(name)).collect();
    let registry = repository.split('/').next().unwrap_or_default();
    let host = registry.split_once(':').map_or(registry, |(host, _)| host);
    let domains = std::iter::successors(host.split_once('.'), |(_, domain)| domain.split_once('.'));
    scopes.extend(domains.map(|(_, domain)| format!("*.{domain}")));
    scopes
}

/// The permission to run an image. Only a [`Policy`] makes one.
///
/// Its existence proves that the policy allows the manifest with this digest to run under the requested name. If
/// [`Approval::is_by_signature`], it also proves that a signature demanded by the policy covers both. It does not
/// prove that the content of the manifest exists, that any byte of a layer has arrived or has its digest, or that the
/// signature is the newest.
#[derive(Debug, Clone)]
pub struct Approval {
    manifest: Digest,
    reason: String,
    is_by_signature: bool,
}

impl Approval {
    /// Whether the rule that decided demands signatures.
    #[must_use]
    pub fn is_by_signature(&self) -> bool {
        self.is_by_signature
    }

    /// The digest of the manifest that may run.
    #[must_use]
    pub fn manifest(&self) -> Digest {
        self.manifest
    }

    /// The rule that decided, and the signer.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The part of a policy that decides about an image.
pub struct Rule<'a> {
    policy: &'a Policy,
    place: RuleScope<'a>,
    requirements: &'a [Requirement],
}

/// Position of a rule in the policy.
#[derive(Clone, Copy)]
enum RuleScope<'a> {
    Default,
    Transport(&'a str, &'a str),
}

impl fmt::Display for RuleScope<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("`default`"),
            Self::Transport(transport, scope) => write!(out, "`{transport}`: `{scope}`"),
        }
    }
}

/// Position of the rule, and its requirements.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let demands: Vec<_> = self.requirements.iter().map(ToString::to_string).collect();
        write!(out, "{} ({})", self.place, demands.join(" and "))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptAnything => out.write_str("insecureAcceptAnything"),
            Self::Reject => out.write_str("reject"),
            Self::SigstoreSigned(_) => out.write_str("sigstoreSigned"),
            Self::Unchecked(what) => out.write_str(what),
        }
    }
}

impl Policy {
    /// Parses a policy.json. Relative paths in it, and those below `/etc/containers`, are resolved in `directory`.
    ///
    /// # Errors
    /// When the text is not a policy. The caller must then not let anything run.
    pub fn parse(text: &[u8], directory: &Path) -> anyhow::Result<Self> {
        let policy = read::policy(text)
            .hint("containers-policy.json(5) lists the keys; nothing runs until it is corrected")?;
        Ok(Self { directory: directory.to_owned(), ..policy })
    }

    /// Reads the `policy.json` of a directory; without the file everything may run.
    ///
    /// # Errors
    /// When it cannot be read, or is not a policy.
    pub fn from_directory(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let text = Files::of(directory)?.read(FILE);
        match text.with_context(|| format!("cannot read the policy `{}`", path.display()))? {
            Some(text) => Self::parse(&text, directory)
                .with_context(|| format!("cannot use the policy `{}`", path.display())),
            None => Ok(Self::absent()),
        }
    }

    /// The policy for a missing file: everything may run.
    #[must_use]
    pub fn absent() -> Self {
        Self { default: vec![Requirement::AcceptAnything], transports: Vec::new(), directory: PathBuf::new() }
    }

    /// Whether the policy would let any unsigned image run.
    #[must_use]
    pub fn allows_unsigned(&self) -> bool {
        let lists = self.transports.iter().flat_map(|(_, scopes)| scopes.iter().map(|(_, list)| list));
        let mut lists = lists.chain([&self.default]);
        lists.any(|list| list.iter().all(|one| *one == Requirement::AcceptAnything))
    }

    /// The most specific rule for an image.
    #[must_use]
    pub fn rule(&self, subject: &Subject) -> Rule<'_> {
        let by_default = Rule { policy: self, place: RuleScope::Default, requirements: &self.default };
        let Some((transport, scopes)) = self.transports.iter().find(|(name, _)| name == subject.transport)
        else {
            return by_default;
        };
        let wanted = subject.scopes.iter().map(String::as_str).chain([""]);
        let found = wanted.filter_map(|scope| scopes.iter().find(|(known, _)| known == scope)).next();
        found.map_or(by_default, |(scope, requirements)| Rule {
            policy: self,
            place: RuleScope::Transport(transport, scope),
            requirements,
        })
    }

    /// Checks that each key and certificate named in the policy exists and can be used.
    ///
    /// # Errors
    /// For the first one that cannot be used.
    pub fn check_keys(&self) -> anyhow::Result<()> {
        self.signatures().try_for_each(|signed| {
            self.signers(&signed.signers)?;
            signed.logs.as_deref().map(|logs| self.logs(logs)).transpose().map(drop)
        })
    }

    /// Checks that each key and certificate named in the policy is in the trust directory, as an initrd needs it.
    ///
    /// # Errors
    /// For the first one that is elsewhere.
    pub fn check_places(&self) -> anyhow::Result<()> {
        self.signatures().try_for_each(|signed| {
            let mut sources = signed.signers.files().iter().chain(signed.logs.iter().flatten());
            sources.try_for_each(|source| self.check_place(source))
        })
    }

    /// The requirements that name keys or certificates.
    fn signatures(&self) -> impl Iterator<Item = &SigstoreSigned> {
        let lists = self.transports.iter().flat_map(|(_, scopes)| scopes.iter().map(|(_, list)| list));
        lists.chain([&self.default]).flatten().filter_map(|requirement| match requirement {
            Requirement::SigstoreSigned(signed) => Some(signed),
            _ => None,
        })
    }

    fn check_place(&self, source: &KeySource) -> anyhow::Result<()> {
        match source {
            KeySource::File(path) if !place_in(&self.directory, path).starts_with(&self.directory) => {
                Err(hinted(
                    format!(
                        "the key `{}` is not in the trust directory and would be missing in the initrd",
                        path.display()
                    ),
                    "put it into `keys/` of the trust directory, and refer to it as \
                     `/etc/containers/keys/NAME`",
                ))
            }
            _ => Ok(()),
        }
    }

    fn signers(&self, source: &SignerSource) -> anyhow::Result<Signers> {
        Ok(match source {
            SignerSource::Keys(keys) => Signers::Keys(self.keys(keys)?),
            #[cfg(feature = "keyless")]
            SignerSource::Fulcio { authority, issuer, email } => {
                let trusted = Authority::new(&self.bytes(authority)?, issuer, email);
                Signers::Subject(trusted.with_context(|| self.cannot_use("CA of `fulcio`", authority))?)
            }
        })
    }

    fn keys(&self, sources: &[KeySource]) -> anyhow::Result<Vec<PublicKey>> {
        sources.iter().map(|source| self.key(source)).collect()
    }

    fn logs(&self, sources: &[KeySource]) -> anyhow::Result<Vec<PublicKey>> {
        let log = |source| {
            let key = self.key(source)?;
            let is_ecdsa = key.is_ecdsa();
            ensure!(
                is_ecdsa,
                "{}: it is not an ECDSA key",
                self.cannot_use("key of a transparency log", source)
            );
            Ok(key)
        };
        sources.iter().map(log).collect()
    }

    fn key(&self, source: &KeySource) -> anyhow::Result<PublicKey> {
        PublicKey::from_pem(&self.bytes(source)?).with_context(|| self.cannot_use("key", source))
    }

    fn cannot_use(&self, what: &str, source: &KeySource) -> String {
        match source {
            KeySource::Data(_) => format!("cannot use the {what} in the policy"),
            KeySource::File(path) => {
                format!("cannot use the {what} `{}`", place_in(&self.directory, path).display())
            }
        }
    }

    fn bytes(&self, source: &KeySource) -> anyhow::Result<Vec<u8>> {
        match source {
            KeySource::Data(bytes) => Ok(bytes.clone()),
            KeySource::File(path) => trust_directory::key(&self.directory, path),
        }
    }
}

impl Requirement {
    /// Why no image can meet it, if that is so.
    fn rejection(&self) -> Option<anyhow::Error> {
        match self {
            Self::AcceptAnything | Self::SigstoreSigned(_) => None,
            Self::Reject => Some(hinted(
                "the rule is `reject`",
                "use an image that the policy accepts, or change policy.json (an initrd must then be built again)",
            )),
            Self::Unchecked(what) => Some(hinted(
                format!("the rule requires {what}, which Iguana does not support"),
                "require `sigstoreSigned` with a key",
            )),
        }
    }
}

impl Rule<'_> {
    /// Whether the rule can only be decided with signatures of the image. Otherwise nothing has to be fetched.
    #[must_use]
    pub fn needs_signatures(&self) -> bool {
        self.requirements.iter().any(|one| matches!(one, Requirement::SigstoreSigned(_)))
    }

    /// Whether the rule rejects every image, whatever its signatures.
    #[must_use]
    pub fn rejects_all(&self) -> bool {
        self.check_acceptance().is_err()
    }

    /// Checks that the rule can accept an image.
    ///
    /// # Errors
    /// When it rejects every image, whatever its signatures, with the reason.
    pub fn check_acceptance(&self) -> anyhow::Result<()> {
        let rejection = self.requirements.iter().find_map(Requirement::rejection);
        rejection.map_or(Ok(()), Err).with_context(|| self.rejects())?;
        ensure!(!self.requirements.is_empty(), "a rule without requirements rejects everything");
        Ok(())
    }

    fn rejects(&self) -> String {
        format!("the policy rejects it by its rule {}", self.place)
    }

    /// Approves the image with this manifest and these signatures.
    ///
    /// # Errors
    /// When the policy rejects it, with the reason for each signature.
    pub fn judge(
        &self,
        subject: &Subject,
        manifest: Digest,
        signatures: &[Signature],
    ) -> anyhow::Result<Approval> {
        let mut signers = Vec::new();
        for requirement in self.requirements {
            let met = self.judge_one(requirement, subject, manifest, signatures);
            signers.extend(met.with_context(|| self.rejects())?);
        }
        ensure!(!self.requirements.is_empty(), "a rule without requirements rejects everything");
        let signed =
            if signers.is_empty() { String::new() } else { format!(", signed by {}", signers.join(", ")) };
        let reason = format!("by the rule {self}{signed}");
        Ok(Approval { manifest, reason, is_by_signature: self.needs_signatures() })
    }

    /// The signer, if the requirement is met.
    fn judge_one(
        &self,
        requirement: &Requirement,
        subject: &Subject,
        manifest: Digest,
        signatures: &[Signature],
    ) -> anyhow::Result<Option<String>> {
        match requirement {
            Requirement::AcceptAnything | Requirement::Reject | Requirement::Unchecked(_) => {
                requirement.rejection().map_or(Ok(None), Err)
            }
            Requirement::SigstoreSigned(signed) => {
                let signers = self.policy.signers(&signed.signers)?;
                let logs = signed.logs.as_deref().map(|logs| self.policy.logs(logs)).transpose()?;
                let mut failures = Vec::new();
                for signature in signatures {
                    let signer =
                        check(signature, &signers, logs.as_deref(), subject, &signed.identity, manifest);
                    match signer {
                        Ok(signer) => return Ok(Some(signer)),
                        Err(error) => failures.push(format!("{error:#}")),
                    }
                }
                Err(unsigned(manifest, &failures))
            }
        }
    }
}

/// The key that signed the image with this manifest and name.
fn check(
    signature: &Signature,
    signers: &Signers,
    logs: Option<&[PublicKey]>,
    subject: &Subject,
    identity: &SignedIdentity,
    manifest: Digest,
) -> anyhow::Result<String> {
    let (statement, signer) = signature.statement(signers, logs)?;
    ensure!(statement.manifest == manifest, "it is for another image, `{}`", statement.manifest);
    identity.check(subject.name.as_ref(), &statement.name)?;
    Ok(signer)
}

fn unsigned(manifest: Digest, failures: &[String]) -> anyhow::Error {
    match failures {
        [] => hinted(
            format!("it is not signed: found no signature of its manifest `{manifest}`"),
            "sign each manifest, not only the index (`cosign sign --recursive`, `skopeo copy --all \
             --sign-by-sigstore-private-key`), and enable signatures in registries.d \
             (`use-sigstore-attachments: true`)",
        ),
        [one] => hinted(
            format!("its signature is not accepted: {one}"),
            "sign the image with a key of the policy and under the name used here",
        ),
        several => hinted(
            format!("none of its {} signatures is accepted: {}", several.len(), several.join("; ")),
            "sign the image with a key of the policy and under the name used here",
        ),
    }
}
