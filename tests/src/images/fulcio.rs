//! A certificate authority that issues short-lived certificates as sigstore's Fulcio does, made with openssl.

use crate::process::{self, QUICK};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Object identifiers of the extensions in which Fulcio names the OIDC issuer.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.1";
const ISSUER_AS_DER: &str = "1.3.6.1.4.1.57264.1.8";

/// The content of a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The owner of the key.
    pub email: &'static str,
    /// The OIDC issuer as raw text.
    pub issuer: Option<&'static str>,
    /// The OIDC issuer as DER.
    pub issuer_as_der: Option<&'static str>,
    /// The extended key usage in openssl's spelling.
    pub usage: &'static str,
}

/// The key and the certificate of an authority in a directory.
#[derive(Debug, Clone)]
pub struct Authority {
    directory: PathBuf,
    name: String,
}

impl Authority {
    /// Makes a self-signed authority.
    pub fn root(directory: &Path, name: &str) -> Result<Authority> {
        let authority = Authority { directory: directory.into(), name: name.into() };
        let (key, certificate) = (authority.file("key"), authority.file("crt"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args([
            "-days",
            "2",
            "-subj",
            &format!("/O=lab/CN={name}"),
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]);
        process::run(openssl.arg("-keyout").arg(key).arg("-out").arg(certificate), QUICK)?;
        Ok(authority)
    }

    /// Makes a self-signed authority with these extensions in openssl's syntax, valid from one year to another.
    pub fn unusual(directory: &Path, name: &str, extensions: &str, years: (u32, u32)) -> Result<Authority> {
        let authority = Authority { directory: directory.into(), name: name.into() };
        let (request, config) = (authority.file("csr"), authority.file("config"));
        let home = directory.display();
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {home}/{name}.index\nnew_certs_dir = {home}\n\
             private_key = {home}/{name}.key\ndefault_md = sha256\npolicy = any\nunique_subject = no\n\
             rand_serial = yes\nx509_extensions = own_extensions\n[any]\norganizationName = optional\n\
             commonName = supplied\n[own_extensions]\nsubjectKeyIdentifier = hash\n{extensions}"
        );
        fs::write(&config, text)?;
        fs::write(authority.file("index"), "")?;
        authority.make_key()?;
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-new", "-subj", &format!("/O=lab/CN={name}"), "-key"])
            .arg(authority.file("key"));
        process::run(openssl.arg("-out").arg(&request), QUICK)?;
        let mut openssl = Command::new("openssl");
        openssl.args(["ca", "-batch", "-notext", "-selfsign", "-config"]).arg(config);
        let (from, to) = years;
        openssl.args(["-startdate", &format!("{from}0101000000Z"), "-enddate", &format!("{to}0101000000Z")]);
        process::run(openssl.arg("-in").arg(request).arg("-out").arg(authority.file("crt")), QUICK)?;
        Ok(authority)
    }

    fn make_key(&self) -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]);
        process::run(openssl.arg(self.file("key")), QUICK).map(drop)
    }

    /// Makes an intermediate authority below this one.
    pub fn below(&self, name: &str) -> Result<Authority> {
        let below = Authority { directory: self.directory.clone(), name: name.into() };
        below.make_key()?;
        let extensions = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n\
            extendedKeyUsage=codeSigning\n";
        self.sign(&below.file("key"), &format!("/O=lab/CN={name}"), extensions, &below.file("crt"))?;
        Ok(below)
    }

    /// A certificate for a key of openssl's, in PEM.
    pub fn certify(&self, key: &Path, subject: &Subject) -> Result<String> {
        let mut extensions = format!(
            "keyUsage=critical,digitalSignature\nextendedKeyUsage={}\nsubjectAltName=critical,email:{}\n",
            subject.usage, subject.email
        );
        if let Some(issuer) = subject.issuer {
            let hex: String = issuer.bytes().map(|byte| format!("{byte:02x}")).collect();
            extensions += &format!("{ISSUER}=DER:{hex}\n");
        }
        if let Some(issuer) = subject.issuer_as_der {
            extensions += &format!("{ISSUER_AS_DER}=ASN1:UTF8String:{issuer}\n");
        }
        let file = self.directory.join("leaf.crt");
        self.sign(key, "/", &extensions, &file)?;
        Ok(fs::read_to_string(file)?)
    }

    fn sign(&self, key: &Path, subject: &str, extensions: &str, target: &Path) -> Result<()> {
        let (request, file) = (self.directory.join("request"), self.directory.join("extensions"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-new", "-subj", subject, "-key"]).arg(key).arg("-out").arg(&request);
        process::run(&mut openssl, QUICK)?;
        fs::write(&file, extensions)?;
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-req", "-days", "1", "-in"]).arg(request).arg("-extfile").arg(file);
        openssl.arg("-CA").arg(self.file("crt")).arg("-CAkey").arg(self.file("key"));
        process::run(openssl.arg("-CAcreateserial").arg("-out").arg(target), QUICK).map(drop)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.name))
    }

    /// The file with the authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("crt")
    }
}
