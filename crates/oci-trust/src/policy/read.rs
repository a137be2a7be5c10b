//! Parser for containers-policy.json(5), as strict as containers/image.

use super::identity::SignedIdentity;
use super::{KeySource, Policy, Requirement, SignerSource, SigstoreSigned, Transport};
use crate::json::{Json, Object};
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oci_reference::canonical_scope;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// Suffixes of the keys that give keys or certificates: as one or more paths, or inline as data.
const SOURCES: [&str; 4] = ["Path", "Paths", "Data", "Datas"];

pub(super) fn policy(text: &[u8]) -> anyhow::Result<Policy> {
    let mut whole = Json::parse(text)?.object()?;
    let default = requirements(whole.need("default")?).context("`default`")?;
    let mut transports = Vec::new();
    if let Some(all) = whole.take("transports") {
        for (name, scopes) in all.object().context("`transports`")?.rest() {
            let scopes = self::scopes(&name, scopes).with_context(|| format!("`transports`: `{name}`"))?;
            transports.push((name, scopes));
        }
    }
    whole.end()?;
    Ok(Policy { default, transports, directory: PathBuf::new() })
}

fn scopes(transport: &str, scopes: Json) -> anyhow::Result<Transport> {
    let (mut read, mut seen) = (Vec::new(), HashSet::new());
    for (scope, list) in scopes.object()?.rest() {
        check_scope(transport, &scope)?;
        let requirements = requirements(list).with_context(|| format!("`{scope}`"))?;
        let known = if transport == "docker" { canonical_scope(&scope) } else { scope.clone() };
        ensure!(seen.insert(known.clone()), "`{scope}` is another spelling of the scope `{known}`");
        read.push((known, requirements));
    }
    Ok(read)
}

/// containers-policy.json(5), "Supported transports and their scopes".
fn check_scope(transport: &str, scope: &str) -> anyhow::Result<()> {
    match transport {
        _ if scope.is_empty() => Ok(()),
        "docker-archive" => {
            bail!("`docker-archive` has no scope except the empty one, not `{scope}`")
        }
        "oci" | "oci-archive" | "dir" => {
            let path = Path::new(scope);
            let plain =
                path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            let is_clean = plain && path.components().collect::<PathBuf>().as_os_str() == scope;
            ensure!(
                path.is_absolute() && scope != "/" && is_clean,
                "`{scope}` is not an absolute, normalized path"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

fn requirements(list: Json) -> anyhow::Result<Vec<Requirement>> {
    let list = list.list()?;
    ensure!(!list.is_empty(), "a list of requirements must not be empty; to allow nothing, use `reject`");
    list.into_iter().map(|one| requirement(one.object()?)).collect()
}

fn requirement(mut object: Object) -> anyhow::Result<Requirement> {
    let kind = object.need_text("type")?;
    let requirement = match kind.as_str() {
        "insecureAcceptAnything" => Requirement::AcceptAnything,
        "reject" => Requirement::Reject,
        "sigstoreSigned" => sigstore_signed(&mut object).context("`sigstoreSigned`")?,
        "signedBy" => return signed_by(object).context("`signedBy`"),
        "signedBaseLayer" => {
            SignedIdentity::read(object.need_object("baseLayerIdentity")?)?;
            Requirement::Unchecked("signatures of base layers")
        }
        other => bail!("unknown type of requirement `{other}`"),
    };
    object.end()?;
    Ok(requirement)
}

fn sigstore_signed(object: &mut Object) -> anyhow::Result<Requirement> {
    let keys = key_sources(object, "key")?;
    let logs = key_sources(object, "rekorPublicKey")?;
    let fulcio = object.take("fulcio").map(fulcio).transpose()?;
    let pki = object.take("pki").map(pki).transpose()?;
    let identity = identity(object)?;
    let sources = [keys.is_some(), fulcio.is_some(), pki.is_some()].into_iter().filter(|is| *is).count();
    ensure!(
        sources == 1,
        "exactly one of `keyPath`, `keyPaths`, `keyData`, `keyDatas`, `fulcio`, `pki` is required"
    );
    ensure!(fulcio.is_none() || logs.is_some(), "`fulcio` needs a `rekorPublicKey…`");
    ensure!(pki.is_none() || logs.is_none(), "`pki` cannot have a `rekorPublicKey…`");
    Ok(match keys {
        Some(keys) => {
            Requirement::SigstoreSigned(SigstoreSigned { signers: SignerSource::Keys(keys), logs, identity })
        }
        #[cfg(feature = "keyless")]
        None if fulcio.is_some() => {
            let (authority, issuer, email) = fulcio.context("it was present")?;
            let signers = SignerSource::Fulcio { authority, issuer, email };
            Requirement::SigstoreSigned(SigstoreSigned { signers, logs, identity })
        }
        #[cfg(not(feature = "keyless"))]
        None if fulcio.is_some() => Requirement::Unchecked("keyless signatures (`fulcio`)"),
        None => Requirement::Unchecked("certificate signatures (`pki`)"),
    })
}

/// The certificates of the authority, the OIDC issuer, and the subject's e-mail address.
fn fulcio(value: Json) -> anyhow::Result<(KeySource, String, String)> {
    let read = || {
        let mut object = value.object()?;
        let mut authorities = authorities(&mut object, "ca")?;
        let (issuer, email) = (object.need_text("oidcIssuer")?, object.need_text("subjectEmail")?);
        object.end()?;
        ensure!(authorities.len() == 1, "exactly one of `caPath`, `caData` is required");
        Ok((authorities.remove(0), issuer, email))
    };
    read().context("`fulcio`")
}

/// Checks the syntax of `pki`, although the requirement is not supported.
fn pki(value: Json) -> anyhow::Result<()> {
    let read = || {
        let mut object = value.object()?;
        let roots = authorities(&mut object, "caRoots")?;
        let intermediates = authorities(&mut object, "caIntermediates")?;
        let mut has_subject = false;
        for key in ["subjectEmail", "subjectHostname"] {
            if let Some(value) = object.take(key) {
                value.text().with_context(|| format!("`{key}`"))?;
                has_subject = true;
            }
        }
        object.end()?;
        ensure!(roots.len() == 1, "exactly one of `caRootsPath`, `caRootsData` is required");
        ensure!(
            intermediates.len() <= 1,
            "at most one of `caIntermediatesPath`, `caIntermediatesData` is allowed"
        );
        ensure!(has_subject, "one of `subjectEmail`, `subjectHostname` is required");
        Ok(())
    };
    read().context("`pki`")
}

/// The values of `STEMPath` and `STEMData`.
fn authorities(object: &mut Object, stem: &str) -> anyhow::Result<Vec<KeySource>> {
    let mut found = Vec::new();
    for ending in ["Path", "Data"] {
        let key = format!("{stem}{ending}");
        if let Some(value) = object.take(&key) {
            found.push(key_source(value, ending).with_context(|| format!("`{key}`"))?);
        }
    }
    Ok(found)
}

/// Signatures of OpenPGP: checks the syntax; the requirement itself is not supported.
fn signed_by(mut object: Object) -> anyhow::Result<Requirement> {
    let kind = object.need_text("keyType")?;
    let kinds = ["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"];
    ensure!(kinds.contains(&kind.as_str()), "unknown `keyType` `{kind}`");
    ensure!(
        key_sources(&mut object, "key")?.is_some(),
        "one of `keyPath`, `keyPaths`, `keyData` is required"
    );
    identity(&mut object)?;
    object.end()?;
    Ok(Requirement::Unchecked("OpenPGP signatures (`signedBy`)"))
}

fn identity(object: &mut Object) -> anyhow::Result<SignedIdentity> {
    object.take("signedIdentity").map_or(Ok(SignedIdentity::RepositoryDigestOrExact), |identity| {
        SignedIdentity::read(identity.object()?).context("`signedIdentity`")
    })
}

/// `keyPath` and the related keys; `None` if none of them is present.
fn key_sources(object: &mut Object, stem: &str) -> anyhow::Result<Option<Vec<KeySource>>> {
    let mut found = None;
    for ending in SOURCES {
        let key = format!("{stem}{ending}");
        let Some(value) = object.take(&key) else { continue };
        ensure!(
            found.is_none(),
            "at most one of `{stem}Path`, `{stem}Paths`, `{stem}Data`, `{stem}Datas` is allowed"
        );
        let list = if ending.ends_with('s') { value.list() } else { Ok(vec![value]) };
        let sources: anyhow::Result<Vec<KeySource>> =
            list.and_then(|list| list.into_iter().map(|one| key_source(one, ending)).collect());
        let sources = sources.with_context(|| format!("`{key}`"))?;
        ensure!(!sources.is_empty(), "`{key}` does not name a key");
        found = Some(sources);
    }
    Ok(found)
}

fn key_source(value: Json, ending: &str) -> anyhow::Result<KeySource> {
    let text = value.text()?;
    ensure!(!text.is_empty(), "it is empty");
    Ok(match ending {
        "Path" | "Paths" => KeySource::File(text.into()),
        _ => KeySource::Data(BASE64_STANDARD.decode(text).context("it is not base64")?),
    })
}
