//! What the trust demands beyond the files that are podman's, too: the file `iguana.conf`, TOML as they are.

use super::key::PublicKey;
use crate::cmdline::Settings;
use crate::hint::{WithHint as _, hinted};
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Its name in the trust folder.
pub const FILE: &str = "iguana.conf";

/// The longest signature in bytes, as text: far above one of RSA with 8192 bits.
const LONGEST_SIGNATURE: usize = 4096;

/// The demands. Nothing is demanded where the file is not there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Rules {
    workflow: WorkflowRules,
    command_line: CommandLineRules,
    /// Where paths in it begin.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct WorkflowRules {
    keys: Vec<PathBuf>,
    require_digest: bool,
    min_serial: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct CommandLineRules {
    allow: Option<Vec<String>>,
    shell: bool,
}

impl Default for CommandLineRules {
    fn default() -> Self {
        Self { allow: None, shell: true }
    }
}

impl Rules {
    /// The `iguana.conf` of a folder.
    ///
    /// # Errors
    /// When it cannot be read, or has anything in it that is not known.
    pub fn from_folder(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("cannot read `{}`", path.display()))?,
        };
        let rules = Self::parse(&text, folder).with_context(|| format!("cannot use `{}`", path.display()));
        rules.hint("docs/security.md has its keys; nothing runs until it is right")
    }

    /// Reads its text; paths in it begin at `folder`.
    ///
    /// # Errors
    /// When anything in it is not known.
    pub fn parse(text: &str, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { folder: folder.to_owned(), ..toml::from_str(text)? })
    }

    /// Whether a workflow has to be signed.
    #[must_use]
    pub fn demand_signature(&self) -> bool {
        !self.workflow.keys.is_empty()
    }

    /// Whether every image has to be named by its digest, or be pinned by a signed lock file.
    #[must_use]
    pub fn demand_digests(&self) -> bool {
        self.workflow.require_digest
    }

    /// Whether the kernel's command line may have this option. Options of others than Iguana are not its business.
    fn allow_option(&self, key: &str) -> bool {
        let listed = |allowed: &Vec<String>| allowed.iter().any(|known| known == key);
        !key.starts_with("rd.iguana.") || self.command_line.allow.as_ref().is_none_or(listed)
    }

    /// What a kernel command line asks for, as far as it is allowed to.
    #[must_use]
    pub fn settings(&self, cmdline: &str) -> Settings {
        let settings = Settings::parse_allowed(cmdline, |key| self.allow_option(key));
        Settings { no_shell: !self.command_line.shell, ..settings }
    }

    /// The keys one of which has to sign workflows.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn workflow_keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        let key = |path: &PathBuf| {
            let path = super::place_in(&self.folder, path);
            let pem = std::fs::read(&path);
            let pem = pem.with_context(|| format!("cannot read the key `{}`", path.display()))?;
            PublicKey::from_pem(&pem).with_context(|| format!("cannot use the key `{}`", path.display()))
        };
        self.workflow.keys.iter().map(key).collect()
    }

    /// The key that has signed a document; `signature` is what `cosign sign-blob` or `openssl dgst -sign` writes.
    ///
    /// # Errors
    /// When no key of the trust has.
    pub fn verify(&self, document: &[u8], signature: &[u8]) -> anyhow::Result<PublicKey> {
        ensure!(
            signature.len() <= LONGEST_SIGNATURE,
            "the signature is larger than {LONGEST_SIGNATURE} bytes"
        );
        let text = std::str::from_utf8(signature).map(|text| text.split_whitespace().collect::<String>());
        let decoded = text.ok().and_then(|text| BASE64_STANDARD.decode(text).ok());
        let bytes = decoded.as_deref().unwrap_or(signature);
        let keys = self.workflow_keys()?;
        keys.into_iter().find(|key| key.has_signed(document, bytes)).ok_or_else(|| {
            hinted(
                "no key of the trust has signed it",
                "sign it as it is now: `cosign sign-blob --key KEY FILE > FILE.sig`, or \
                 `openssl dgst -sha256 -sign KEY FILE > FILE.sig`",
            )
        })
    }

    /// Whether a workflow of this serial number may run: an older one is a replay.
    ///
    /// # Errors
    /// When it is too old, or says nothing although it has to.
    pub fn check_serial(&self, serial: Option<u64>) -> anyhow::Result<()> {
        let least = self.workflow.min_serial;
        if serial.unwrap_or(0) >= least {
            return Ok(());
        }
        let told = serial.map_or("no `serial`".into(), |serial| format!("the serial number {serial}"));
        Err(hinted(
            format!("the workflow has {told}, and the trust demands {least} at least"),
            "serve the newest workflow; an old one may have been put there by somebody else",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::Signer;
    use super::*;

    #[test]
    fn signatures_are_taken_as_cosign_and_openssl_write_them() {
        let folder = tempfile::tempdir().unwrap();
        let (signer, other) = (Signer::new(), Signer::new());
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        std::fs::write(folder.path().join("keys/a.pub"), signer.pem()).unwrap();
        std::fs::write(folder.path().join(FILE), "[workflow]\nkeys = ['/etc/containers/keys/a.pub']\n")
            .unwrap();
        let rules = Rules::from_folder(folder.path()).unwrap();
        assert!(rules.demand_signature());
        let raw = signer.sign(b"jobs: {}");
        let base64 = BASE64_STANDARD.encode(&raw);
        let folded = format!("{}\n{}\n", &base64[..20], &base64[20..]);
        for signature in [&raw[..], base64.as_bytes(), folded.as_bytes()] {
            rules.verify(b"jobs: {}", signature).unwrap();
        }
        for signature in [&raw[..20], b"", &other.sign(b"jobs: {}"), &[b'A'; 5000]] {
            assert!(rules.verify(b"jobs: {}", signature).is_err());
        }
        assert!(rules.verify(b"jobs: {a}", &raw).unwrap_err().to_string().contains("no key of the trust"));
    }

    #[test]
    fn what_is_not_known_is_an_error_and_what_is_not_there_demands_nothing() {
        let none = Rules::from_folder(Path::new("/nonexistent")).unwrap();
        assert!(!none.demand_signature() && !none.demand_digests() && !none.settings("").no_shell);
        assert!(none.allow_option("rd.iguana.debug") && none.check_serial(None).is_ok());
        for text in ["x = 1", "[workflow]\nkey = 'a'", "[command-line]\nshell = 1", "["] {
            assert!(Rules::parse(text, Path::new("/")).is_err(), "{text}");
        }
        let text = "[workflow]\nmin-serial = 7\nrequire-digest = true\n[command-line]\nallow = ['rd.iguana.debug']\n\
                    shell = false";
        let rules = Rules::parse(text, Path::new("/")).unwrap();
        assert!(rules.demand_digests() && rules.settings("").no_shell);
        assert!(rules.allow_option("rd.iguana.debug") && rules.allow_option("root"));
        assert!(!rules.allow_option("rd.iguana.control_url"));
        let settings =
            rules.settings("rd.iguana.debug rd.iguana.control_url=http://evil.example/x root=/dev/vda");
        assert!(settings.debug && settings.control_url.is_none() && settings.root.is_some());
        assert!(settings.warnings[0].contains("the trust in this initrd does not allow it"));
        assert!(rules.check_serial(Some(7)).is_ok() && rules.check_serial(Some(6)).is_err());
        assert!(rules.check_serial(None).unwrap_err().to_string().contains("no `serial`"));
    }
}
