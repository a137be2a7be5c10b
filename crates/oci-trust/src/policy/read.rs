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
        ensure!(
            seen.insert(known.clone()),
            "`{scope}` is another spelling of a scope that stands there, too: `{known}`"
        );
        read.push((known, requirements));
    }
    Ok(read)
}

/// containers-policy.json(5), "Supported transports and their scopes".
fn check_scope(transport: &str, scope: &str) -> anyhow::Result<()> {
    match transport {
        _ if scope.is_empty() => Ok(()),
        "docker-archive" => {
            bail!("images in archives of Docker have no scope but the empty one, not `{scope}`")
        }
        "oci" | "oci-archive" | "dir" => {
            let path = Path::new(scope);
            let plain =
                path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            let is_clean = plain && path.components().collect::<PathBuf>().as_os_str() == scope;
            ensure!(path.is_absolute() && scope != "/" && is_clean, "`{scope}` is not a whole, plain path");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn requirements(list: Json) -> anyhow::Result<Vec<Requirement>> {
    let list = list.list()?;
    ensure!(!list.is_empty(), "a list of requirements must not be empty; `reject` stands for nothing at all");
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
        other => bail!("there is no requirement of the type `{other}`"),
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
        "exactly one of `keyPath`, `keyPaths`, `keyData`, `keyDatas`, `fulcio`, `pki` must be there"
    );
    ensure!(fulcio.is_none() || logs.is_some(), "`fulcio` needs a `rekorPublicKey…`");
    ensure!(pki.is_none() || logs.is_none(), "`pki` has no `rekorPublicKey…`");
    Ok(match keys {
        Some(keys) => {
            Requirement::SigstoreSigned(SigstoreSigned { signers: SignerSource::Keys(keys), logs, identity })
        }
        #[cfg(feature = "keyless")]
        None if fulcio.is_some() => {
            let (authority, issuer, email) = fulcio.context("it was there")?;
            let signers = SignerSource::Fulcio { authority, issuer, email };
            Requirement::SigstoreSigned(SigstoreSigned { signers, logs, identity })
        }
        #[cfg(not(feature = "keyless"))]
        None if fulcio.is_some() => {
            Requirement::Unchecked("signatures without a key of their own (`fulcio`)")
        }
        None => Requirement::Unchecked("signatures by certificates (`pki`)"),
    })
}

/// The certificates of the authority, the OIDC issuer, and the subject's e-mail address.
fn fulcio(value: Json) -> anyhow::Result<(KeySource, String, String)> {
    let read = || {
        let mut object = value.object()?;
        let mut authorities = Vec::new();
        for ending in ["Path", "Data"] {
            let key = format!("ca{ending}");
            if let Some(value) = object.take(&key) {
                authorities.push(key_source(value, ending).with_context(|| format!("`{key}`"))?);
            }
        }
        let (issuer, email) = (object.need_text("oidcIssuer")?, object.need_text("subjectEmail")?);
        object.end()?;
        ensure!(authorities.len() == 1, "exactly one of `caPath`, `caData` must be there");
        Ok((authorities.remove(0), issuer, email))
    };
    read().context("`fulcio`")
}

/// Checks the syntax of `pki`, although the requirement is not supported.
fn pki(value: Json) -> anyhow::Result<()> {
    let mut object = value.object()?;
    let known = [
        "caRootsPath",
        "caRootsData",
        "caIntermediatesPath",
        "caIntermediatesData",
        "subjectEmail",
        "subjectHostname",
    ];
    for key in known {
        object
            .take(key)
            .map_or(Ok(()), |value| value.text().map(drop))
            .with_context(|| format!("`{key}`"))?;
    }
    object.end().context("`pki`")
}

/// Signatures of OpenPGP: checks the syntax; the requirement itself is not supported.
fn signed_by(mut object: Object) -> anyhow::Result<Requirement> {
    let kind = object.need_text("keyType")?;
    let kinds = ["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"];
    ensure!(kinds.contains(&kind.as_str()), "there is no `keyType` of the name `{kind}`");
    ensure!(
        key_sources(&mut object, "key")?.is_some(),
        "one of `keyPath`, `keyPaths`, `keyData` must be there"
    );
    identity(&mut object)?;
    object.end()?;
    Ok(Requirement::Unchecked("signatures of OpenPGP (`signedBy`)"))
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
            "there are several of `{stem}Path`, `{stem}Paths`, `{stem}Data`, `{stem}Datas`"
        );
        let list = if ending.ends_with('s') { value.list() } else { Ok(vec![value]) };
        let sources: anyhow::Result<Vec<KeySource>> =
            list.and_then(|list| list.into_iter().map(|one| key_source(one, ending)).collect());
        let sources = sources.with_context(|| format!("`{key}`"))?;
        ensure!(!sources.is_empty(), "`{key}` names no key");
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
