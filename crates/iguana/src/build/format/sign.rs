//! Signatures that the firmware checks under Secure Boot (Authenticode), made by `sbsign`.

use crate::build::tool;
use crate::build::tool::Tool;
use crate::open_path;
use crate::temporary;
use anyhow::{Context, Result, ensure};
use hint::{WithHint, hinted};
use std::fs;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

const SBSIGN: Tool = Tool { program: "sbsign", package: "sbsigntool" };

const SBVERIFY: Tool = Tool { program: "sbverify", package: "sbsigntool" };

/// What `sbsign` prints when the key does not belong to the certificate.
const MISMATCH: &str = "key values mismatch";

/// Bytes of a key or a certificate with those that it depends on.
const PEM_LIMIT: u64 = 1 << 20;

/// A private key with its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    /// The private key.
    key: Pem,
    /// The certificate of that key.
    certificate: Pem,
}

/// A file in PEM. `sbsign` gets the open file: another one may take its place.
#[derive(Clone, Debug)]
struct Pem {
    path: PathBuf,
    file: Arc<File>,
}

impl Signer {
    /// A signer with that key and certificate. Both files must be readable.
    pub(crate) fn new(key: PathBuf, certificate: PathBuf) -> Result<Self> {
        let key = Pem::open("key", "--sign-key", key)?;
        let certificate = Pem::open("certificate", "--sign-cert", certificate)?;
        SBSIGN.command()?;
        Ok(Self { key, certificate })
    }

    /// Signs `program` and verifies the signature, which contains the time of signing.
    #[expect(clippy::disallowed_methods, reason = "only this user can write to a temporary directory")]
    pub(super) fn sign(&self, program: &[u8]) -> Result<Vec<u8>> {
        let directory = temporary::directory()?;
        let [unsigned, signed] = ["unsigned.efi", "signed.efi"].map(|name| directory.path().join(name));
        fs::write(&unsigned, program).context("cannot write into a temporary directory")?;
        let mut sign = SBSIGN.command()?;
        sign.arg("--key")
            .arg(open_path::of(&self.key.file))
            .arg("--cert")
            .arg(open_path::of(&self.certificate.file));
        let done = tool::run(sign.arg("--output").arg(&signed).arg(&unsigned));
        done.map_err(|error| self.explained(error))?;
        let mut verify = SBVERIFY.command()?;
        tool::run(verify.arg("--cert").arg(open_path::of(&self.certificate.file)).arg(&signed))?;
        fs::read(&signed).context("cannot read the output of `sbsign`")
    }

    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        if !error.to_string().contains(MISMATCH) {
            return error.context("cannot sign");
        }
        hinted(
            format!(
                "the key `{}` does not match the certificate `{}`",
                self.key.path.display(),
                self.certificate.path.display()
            ),
            "compare `openssl x509 -pubkey -noout -in CERT` with `openssl pkey -pubout -in KEY`",
        )
    }
}

impl Pem {
    fn open(what: &str, option: &str, path: PathBuf) -> Result<Self> {
        let read = || -> Result<(File, Vec<u8>)> {
            let file = untrusted_fs::open_file(&path)?;
            let pem = untrusted_fs::read_bounded(file.try_clone()?, PEM_LIMIT)?;
            Ok((file, pem))
        };
        let read = read().with_context(|| format!("cannot read the {what} `{}`", path.display()));
        let (file, pem) = read.hint(format!("`{option}` takes a PEM file"))?;
        ensure!(
            pem.windows(11).any(|bytes| bytes == b"-----BEGIN "),
            hinted(
                format!("the {what} `{}` is not in PEM", path.display()),
                "convert it: `openssl x509 -inform der -in FILE`, or for a key `openssl pkey -inform der -in FILE`"
            )
        );
        Ok(Self { path, file: Arc::new(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_key_is_the_file_that_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other] = ["key", "other"].map(|name| directory.path().join(name));
        fs::write(&path, "-----BEGIN KEY-----").unwrap();
        fs::write(&other, "another").unwrap();
        let pem = Pem::open("key", "--sign-key", path.clone()).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(fs::read(open_path::of(&pem.file)).unwrap(), b"-----BEGIN KEY-----");
        let error = Pem::open("key", "--sign-key", path).unwrap_err().to_string();
        assert!(error.ends_with("is not in PEM"), "{error}");
    }
}
