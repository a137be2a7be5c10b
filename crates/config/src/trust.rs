//! The trust directory: `/etc/containers` of an initrd, or a directory on a workstation that will become it. It has
//! the same files as podman's configuration, and `iguana.conf`.

use super::rules;
use super::rules::Rules;
use anyhow::Context as _;
use fetch::http;
use fetch::tls::{RegistryCertificates, Roots};
use hint::{WithHint as _, hinted};
use oci_pull::{Caller, Finder, Logins, Registries};
use oci_reference::Machine;
use oci_trust::attachments::Attachments;
use oci_trust::policy;
use oci_trust::policy::Policy;
use std::io::ErrorKind;
use std::path::Path;
use trust_directory::{FILE_LIMIT, Files};

/// Path of the trust directory in an initrd.
pub const HOME: &str = "/etc/containers";
/// Name of the file with the logins.
const LOGINS: &str = "auth.json";
/// Name of the file with the locations of images.
const REGISTRIES: &str = "registries.conf";

/// Trusted CA certificates of an installed system: Debian and derivatives, Fedora and derivatives, SUSE. They are
/// used if the trust directory has no `ca/`.
pub const OF_SYSTEMS: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The content of a trust directory.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The trusted certificate authorities: `ca/`, or else the system's.
    pub roots: Roots,
    /// Certificates for single registries: `certs.d/`.
    pub certificates: RegistryCertificates,
    /// Locations of images: `registries.conf`, `registries.conf.d/`.
    pub registries: Registries,
    /// Logins for registries: `auth.json`.
    pub logins: Logins,
    /// Which images may run: `policy.json`.
    pub policy: Policy,
    /// Where signatures are looked up: `registries.d/`.
    pub attachments: Attachments,
    /// Further demands: `iguana.conf`.
    pub rules: Rules,
}

impl Trust {
    /// Reads a directory. A missing file adds no demand.
    ///
    /// # Errors
    /// When a file exists and cannot be read or understood.
    pub fn from_directory(directory: &Path) -> anyhow::Result<Self> {
        Self::with_registries(directory, None)
    }

    fn with_registries(directory: &Path, registries_conf: Option<&Path>) -> anyhow::Result<Self> {
        let files = Files::of(directory)?;
        Ok(Self {
            // Read first, because it states the version of the format of the whole directory.
            rules: Rules::from_directory(directory)?,
            roots: roots(&files)?,
            certificates: RegistryCertificates::from_files(&files.directory("certs.d"))?,
            registries: registries(&files, registries_conf)?,
            logins: logins_of(files.text(LOGINS)?, &files.path(LOGINS))?,
            policy: Policy::from_directory(directory)?,
            attachments: Attachments::from_files(&files.directory("registries.d"))?,
        })
    }

    /// Reads a directory that the user named. It must exist and have a policy, because naming a trust directory means
    /// that something is demanded. Every key and certificate that its files name is parsed: otherwise a boot would be
    /// the first to find a damaged one.
    ///
    /// # Errors
    /// When it or the policy does not exist, or a file in it, or one that they name, cannot be read or understood.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        std::fs::read_dir(directory)
            .with_context(|| format!("cannot read the trust directory `{}`", directory.display()))
            .hint("create one with `iguana trust init DIR`")?;
        if directory
            .join(policy::FILE)
            .symlink_metadata()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
        {
            return Err(hinted(
                format!("the trust directory `{}` has no `{}`", directory.display(), policy::FILE),
                "create it and state which images may run; `{\"default\": [{\"type\": \
                 \"insecureAcceptAnything\"}]}` allows all",
            ));
        }
        let trust = Self::from_directory(directory)?;
        let cannot = |file| format!("cannot use `{}`", directory.join(file).display());
        trust.policy.check_keys().with_context(|| cannot(policy::FILE))?;
        trust.rules.workflow_keys().with_context(|| cannot(rules::FILE))?;
        Ok(trust)
    }

    /// Reads the trust directory of this machine, which may have none.
    ///
    /// # Errors
    /// When a file in it cannot be read or understood.
    pub fn of_machine() -> anyhow::Result<Self> {
        Self::from_directory(Path::new(HOME))
    }

    /// Reads the trust directory of this machine, with another registries.conf if the calling user named one.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn of_machine_for(registries_conf: Option<&Path>) -> anyhow::Result<Self> {
        Self::with_registries(Path::new(HOME), registries_conf)
    }

    /// A trust that demands nothing and has no certificate authorities, for checks without a trust directory.
    #[must_use]
    pub fn absent() -> Self {
        Self {
            roots: Roots::default(),
            certificates: RegistryCertificates::default(),
            registries: Registries::default(),
            logins: Logins::default(),
            policy: Policy::absent(),
            attachments: Attachments::default(),
            rules: Rules::default(),
        }
    }

    /// An HTTP client that accepts the trusted authorities, and those of `certs.d` for single registries.
    #[must_use]
    pub fn client(&self) -> http::Client {
        http::Client::new(&self.roots).with_certificates(self.certificates.clone())
    }

    /// Looks up images in the configured locations and accepts those that the policy lets run. `http` makes the
    /// requests.
    #[must_use]
    pub fn finder(&self, http: http::Client, machine: Machine) -> Finder {
        Finder {
            http,
            registries: self.registries.clone(),
            logins: self.logins.clone(),
            policy: self.policy.clone(),
            attachments: self.attachments.clone(),
            machine,
            bundle: None,
            believes_bundle: false,
            caller: Caller::default(),
        }
    }

    /// A notice about the signatures that are not demanded, for the user of this trust; `None` if all are.
    #[must_use]
    pub fn unsigned_notice(&self) -> Option<&'static str> {
        match (self.policy.allows_unsigned(), self.rules.demand_signature()) {
            (true, false) => Some("signatures are required neither for the workflow nor for all images"),
            (true, true) => Some("signatures are not required for all images"),
            (false, false) => Some("the workflow does not have to be signed"),
            (false, true) => None,
        }
    }
}

fn roots(files: &Files) -> anyhow::Result<Roots> {
    let own = files.directory("ca");
    // A dangling link is an error, not a missing directory.
    own.names()?;
    match OF_SYSTEMS.iter().find(|path| Path::new(path).exists()) {
        Some(path) if !files.has_directory("ca") => {
            let pem = std::fs::read(path).with_context(|| format!("cannot read `{path}`"))?;
            Roots::from_pem(&pem).with_context(|| format!("cannot use `{path}`"))
        }
        _ => Roots::from_files(&own),
    }
}

/// The text of a file outside of the trust directory; `None` if it does not exist.
pub(crate) fn text_of(path: &Path) -> anyhow::Result<Option<String>> {
    match untrusted_fs::read_file(path, FILE_LIMIT) {
        Err(error) if error.is_not_found() && path.symlink_metadata().is_err() => Ok(None),
        read => Ok(Some(
            String::from_utf8(read?).with_context(|| format!("`{}` is not UTF-8 text", path.display()))?,
        )),
    }
}

fn logins_of(text: Option<String>, path: &Path) -> anyhow::Result<Logins> {
    let logins = text.map_or(Ok(Logins::default()), |text| Logins::parse(&text));
    logins.with_context(|| format!("cannot use the logins in `{}`", path.display()))
}

/// The content of registries.conf, or of the file in its place, and the files of registries.conf.d. Later files, sorted
/// by name, override earlier ones.
fn registries(files: &Files, in_its_place: Option<&Path>) -> anyhow::Result<Registries> {
    let mut registries = match in_its_place {
        Some(path) => registries_of(path)?,
        None => added(files, REGISTRIES)?.unwrap_or_default(),
    };
    let drop_ins = files.directory("registries.conf.d");
    let names = drop_ins.names()?.into_iter();
    for name in names.filter(|name| name.ends_with(".conf") && !drop_ins.has_directory(name)) {
        if let Some(later) = added(&drop_ins, &name)? {
            registries.overlay(later);
        }
    }
    Ok(registries)
}

/// One file. Ignoring it could open a registry that it blocks.
fn added(directory: &Files, name: &str) -> anyhow::Result<Option<Registries>> {
    let parse = |text: String| {
        let path = directory.path(name);
        Registries::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
    };
    directory.text(name)?.map(parse).transpose()
}

/// The content of a registries.conf outside of the trust directory.
fn registries_of(path: &Path) -> anyhow::Result<Registries> {
    let text = text_of(path).and_then(|text| text.context("it does not exist"));
    let parsed = text.and_then(|text| Registries::parse(&text));
    let hint = "the environment names it (`CONTAINERS_REGISTRIES_CONF`)";
    parsed.with_context(|| format!("cannot use the registries in `{}`", path.display())).or_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_trust::testing::Signer;
    use std::fs;

    /// Opens a trust directory with a good key `good.pub` and a file `bad.pub` that is no key.
    fn opened(policy: &str, rules: &str) -> anyhow::Result<Trust> {
        let room = tempfile::tempdir()?;
        for (name, content) in [
            ("policy.json", policy),
            ("iguana.conf", rules),
            ("good.pub", &Signer::new().pem()),
            ("bad.pub", "no"),
        ] {
            fs::write(room.path().join(name), content)?;
        }
        Trust::open(room.path())
    }

    fn policy(demand: &str) -> String {
        let signed = format!(r#"{{"type": "sigstoreSigned", {demand}}}"#);
        format!(
            r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{"r.example/a": [{signed}]}}}}}}"#
        )
    }

    #[test]
    fn every_key_that_a_named_trust_directory_names_is_parsed_when_it_is_opened() {
        opened(&policy(r#""keyPath": "good.pub", "rekorPublicKeyPath": "good.pub""#), "").unwrap();
        let fulcio = r#""rekorPublicKeyPath": "good.pub", "fulcio": {"oidcIssuer": "i", "subjectEmail": "e", "caPath""#;
        for (demand, expected) in [
            (r#""keyPath": "bad.pub""#.to_owned(), "bad.pub`: it contains no `BEGIN PUBLIC KEY`"),
            (r#""keyPath": "/etc/containers/bad.pub""#.into(), "bad.pub`: it contains no `BEGIN PUBLIC KEY`"),
            (r#""keyPath": "none.pub""#.into(), "none.pub`: it does not exist"),
            (r#""keyPaths": ["good.pub", "bad.pub"]"#.into(), "bad.pub`: it contains no `BEGIN PUBLIC KEY`"),
            (r#""keyData": "bm8=""#.into(), "in the policy: it contains no `BEGIN PUBLIC KEY`"),
            (r#""keyPath": "good.pub", "rekorPublicKeyPath": "bad.pub""#.into(), "bad.pub`: it contains no"),
            (format!(r#"{fulcio}: "bad.pub"}}"#), "bad.pub`: it contains no `BEGIN CERTIFICATE`"),
            (format!(r#"{fulcio}: "good.pub"}}"#), "good.pub`: it contains no `BEGIN CERTIFICATE`"),
        ] {
            let error = format!("{:#}", opened(&policy(&demand), "").unwrap_err());
            assert!(error.contains("policy.json`: ") && error.contains(expected), "{demand}: {error}");
        }
    }

    #[test]
    fn the_keys_of_workflows_are_parsed_when_it_is_opened() {
        let rules = |key| format!("[[workflow.accept]]\nname = 'a'\nkeys = ['good.pub', '{key}']\n");
        opened(&policy(r#""keyPath": "good.pub""#), &rules("good.pub")).unwrap();
        let error = opened(&policy(r#""keyPath": "good.pub""#), &rules("bad.pub")).unwrap_err();
        assert!(format!("{error:#}").contains("iguana.conf`: cannot use the key"), "{error:#}");
    }
}
