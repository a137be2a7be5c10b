//! Signatures that the firmware checks under Secure Boot (Authenticode), made by `sbsign`.

use crate::build::tool;
use crate::build::tool::Tool;
use crate::temporary;
use anyhow::{Context, Result, ensure};
use hint::{WithHint, hinted};
use std::fs;
use std::path::PathBuf;

const SBSIGN: Tool = Tool { program: "sbsign", package: "sbsigntool" };

const SBVERIFY: Tool = Tool { program: "sbverify", package: "sbsigntool" };

/// What `sbsign` prints when the key does not belong to the certificate.
const MISMATCH: &str = "key values mismatch";

/// Bytes of a key or a certificate with those that it depends on.
const PEM_LIMIT: u64 = 1 << 20;

/// A private key with its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    /// The private key, in PEM.
    key: PathBuf,
    /// The certificate of that key, in PEM.
    certificate: PathBuf,
}

impl Signer {
    /// A signer with that key and certificate. Both files must be readable.
    pub(crate) fn new(key: PathBuf, certificate: PathBuf) -> Result<Self> {
        for (what, option, path) in
            [("key", "--sign-key", &key), ("certificate", "--sign-cert", &certificate)]
        {
            let pem = untrusted_fs::read_file(path, PEM_LIMIT);
            let pem = pem.with_context(|| format!("cannot read the {what} `{}`", path.display()));
            let pem = pem.hint(format!("`{option}` takes a PEM file"))?;
            let is_pem = pem.windows(11).any(|bytes| bytes == b"-----BEGIN ");
            ensure!(
                is_pem,
                hinted(
                    format!("the {what} `{}` is not in PEM", path.display()),
                    "convert it: `openssl x509 -inform der -in FILE`, or for a key `openssl pkey -inform \
                     der -in FILE`"
                )
            );
        }
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
        sign.arg("--key").arg(&self.key).arg("--cert").arg(&self.certificate);
        let done = tool::run(sign.arg("--output").arg(&signed).arg(&unsigned));
        done.map_err(|error| self.explained(error))?;
        let mut verify = SBVERIFY.command()?;
        tool::run(verify.arg("--cert").arg(&self.certificate).arg(&signed))?;
        fs::read(&signed).context("cannot read the output of `sbsign`")
    }

    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        if !error.to_string().contains(MISMATCH) {
            return error.context("cannot sign");
        }
        hinted(
            format!(
                "the key `{}` does not match the certificate `{}`",
                self.key.display(),
                self.certificate.display()
            ),
            "compare `openssl x509 -pubkey -noout -in CERT` with `openssl pkey -pubout -in KEY`",
        )
    }
}
