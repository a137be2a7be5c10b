//! Compares decisions about images with skopeo's under the same policy.json and registries.d: they agree, or Iguana
//! is stricter for a stated reason.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test tells how far it is, and what it compared"
)]

mod lab;

use anyhow::{Context, Result, ensure};
use iguana_lab::fulcio::{Authority, Subject};
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::process::{self, QUICK};
use iguana_lab::puller::here;
use iguana_lab::registry::Registry;
use iguana_lab::signing::{
    self, Attachment, BUNDLE, CERTIFICATE, CHAIN, Key, MANIFEST, PURPOSE, Repository, SIGNATURE,
};
use iguana_lab::skopeo::Skopeo;
use iguana_lab::{packages, program, scratch_directory};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

/// The identity of a keyless signer, and its OIDC issuer.
const EMAIL: &str = "signer@lab.example";
const ISSUER: &str = "https://accounts.lab.example";

/// Authorities, most of which have a reason to be refused: names, extensions in openssl's syntax, and years.
const UNUSUAL_ROOTS: &[(&str, &str, (u32, u32))] = &[
    ("expired-root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", (2020, 2021)),
    ("early-root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", (2090, 2091)),
    ("dated-root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", (2020, 2090)),
    (
        "short-path",
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n",
        (2020, 2090),
    ),
    (
        "long-path",
        "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign\n",
        (2020, 2090),
    ),
    ("no-authority", "basicConstraints=critical,CA:FALSE\n", (2020, 2090)),
    ("server-root", "basicConstraints=critical,CA:TRUE\nextendedKeyUsage=serverAuth\n", (2020, 2090)),
    (
        "no-certificates",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n",
        (2020, 2090),
    ),
    (
        "other-names",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
         nameConstraints=critical,permitted;email:other.example\n",
        (2020, 2090),
    ),
];

/// The least number of comparisons.
const FEWEST: usize = 60;

/// The expected decisions of skopeo and Iguana.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Rejected,
    /// skopeo accepts it, Iguana does not.
    Stricter(&'static str),
}
use Verdict::{Accepted, Rejected, Stricter};

/// Images with all kinds of signatures, and the keys.
struct Lab {
    registry: Registry,
    skopeo: Skopeo,
    room: tempfile::TempDir,
    /// The digest of the manifest that all images share.
    manifest: String,
    keys: Keys,
}

struct Keys {
    usual: Key,
    other: Key,
    p384: Key,
    p521: Key,
    rsa: Key,
    small_rsa: Key,
    ed25519: Key,
    log: Key,
    /// The key that skopeo made.
    skopeo: PathBuf,
}

impl Keys {
    fn make(directory: &Path, skopeo: &Skopeo) -> Result<Keys> {
        let curve = |name: &str| {
            ["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{name}")].map(String::from)
        };
        let ec = |file: &str, name: &str| {
            let words = curve(name);
            Key::make(directory, file, &words.each_ref().map(String::as_str))
        };
        let rsa = |file: &str, bits: &str| {
            Key::make(directory, file, &["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
        };
        fs::write(directory.join("passphrase"), "open sesame")?;
        skopeo.make_key(&directory.join("skopeo"), &directory.join("passphrase"))?;
        Ok(Keys {
            usual: Key::usual(directory, "usual")?,
            other: Key::usual(directory, "other")?,
            p384: ec("p384", "P-384")?,
            p521: ec("p521", "P-521")?,
            rsa: rsa("rsa", "2048")?,
            small_rsa: rsa("small-rsa", "1024")?,
            ed25519: Key::make(directory, "ed25519", &["-algorithm", "ed25519"])?,
            log: Key::usual(directory, "log")?,
            skopeo: directory.join("skopeo.pub"),
        })
    }
}

/// Repositories with the expected decision under a policy that demands the usual key.
const DEFAULT_POLICY_VERDICTS: &[(&str, Verdict)] = &[
    ("unsigned", Rejected),
    ("usual", Accepted),
    ("by-skopeo", Rejected),
    ("by-other", Rejected),
    ("p384", Rejected),
    ("beside-other", Accepted),
    ("of-other", Rejected),
    ("as-other-tag", Rejected),
    ("as-other-name", Rejected),
    ("as-repository", Rejected),
    ("as-digest", Rejected),
    ("as-nonsense", Rejected),
    ("no-signature", Rejected),
    ("no-base64", Rejected),
    ("empty-signature", Rejected),
    ("truncated", Rejected),
    ("of-other-bytes", Rejected),
    ("no-json", Rejected),
    ("truncated-payload", Rejected),
    ("other-purpose", Rejected),
    ("creator", Accepted),
    ("bad-creator", Rejected),
    ("bad-timestamp", Rejected),
    ("more-critical", Rejected),
    ("more", Rejected),
    ("twice", Rejected),
    ("no-optional", Rejected),
    ("no-digest", Rejected),
    ("other-type", Rejected),
    ("beside-malformed", Accepted),
    ("beside-attestation", Accepted),
    ("index-only", Rejected),
    ("manifest-only", Accepted),
    ("index-and-manifest", Accepted),
    ("promised", Accepted),
];

/// Invalid or nearly invalid policies.
const TEXTS: &[(&str, Verdict)] = &[
    ("", Rejected),
    ("{}", Rejected),
    (r#"{"default": []}"#, Rejected),
    (r#"{"default": [{"type": "insecureAcceptAnything"}]}"#, Accepted),
    (r#"{"default": [{"type": "insecureAcceptAnything", "x": 1}]}"#, Rejected),
    (r#"{"default": [{"type": "insecureAcceptAnything", "type": "insecureAcceptAnything"}]}"#, Rejected),
    (r#"{"default": [{"type": "insecureAcceptAnything"}], "x": 1}"#, Rejected),
    (
        r#"{"default": [{"type": "insecureAcceptAnything"}], "default": [{"type": "insecureAcceptAnything"}]}"#,
        Rejected,
    ),
    (r#"{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"": []}}}"#, Rejected),
    (
        r#"{"default": [{"type": "insecureAcceptAnything"}], "transports": {"unheard-of": {"x": [{"type": "reject"}]}}}"#,
        Accepted,
    ),
    (
        r#"{"default": [{"type": "insecureAcceptAnything"}], "transports": {"dir": {"x": [{"type": "reject"}]}}}"#,
        Rejected,
    ),
    (
        r#"{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker-archive": {"/x": [{"type": "reject"}]}}}"#,
        Rejected,
    ),
    (r#"{"default": [{"type": "insecureAcceptAnything"}, {"type": "reject"}]}"#, Rejected),
    (r#"{"default": [{"type": "reject"}]}"#, Rejected),
    (r#"{"default": [{"type": "acceptAnything"}]}"#, Rejected),
    (r#"{"default": [{"type": "sigstoreSigned"}]}"#, Rejected),
    (r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/nonexistent"}]}"#, Rejected),
    (r#"{"default": [{"type": "sigstoreSigned", "keyPaths": []}]}"#, Rejected),
    (r#"{"default": [{"type": "sigstoreSigned", "keyData": "bm8ga2V5"}]}"#, Rejected),
    (r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nonexistent"}]}"#, Rejected),
    (r#"{"default": [{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}]}"#, Rejected),
];

/// Policies for images with other kinds of keys, other signed names, and log entries.
fn special(lab: &Lab) -> Result<Vec<(String, Value, Verdict)>> {
    let (keys, address) = (&lab.keys, lab.address());
    let default = |list: Value| json!({"default": list});
    let by = |key: &Key| default(json!([lab.signed(key, json!({}))]));
    let as_identity =
        |identity: Value| default(json!([lab.signed(&keys.usual, json!({"signedIdentity": identity}))]));
    let of_type = |kind: &str| as_identity(json!({"type": kind}));
    let logged = |more: Value| default(json!([lab.signed(&keys.usual, more)]));
    let by_log = || logged(json!({"rekorPublicKeyPath": keys.log.public}));
    let data = |key: &Key| -> Result<String> { signing::base64(key.pem()?.as_bytes()) };
    let signed = |more: Value| -> Value {
        let mut demand = json!({"type": "sigstoreSigned"});
        demand
            .as_object_mut()
            .into_iter()
            .zip(more.as_object())
            .for_each(|(to, from)| to.extend(from.clone()));
        default(json!([demand]))
    };
    let scoped = |scopes: Value| json!({"default": [{"type": "reject"}], "transports": {"docker": scopes}});
    let usual = || json!([lab.signed(&keys.usual, json!({}))]);
    let anything = || json!([{"type": "insecureAcceptAnything"}]);
    let by_digest = |repository: &str| format!("{address}/{repository}@{}", lab.manifest);
    let latest = |repository: &str| lab.name(repository);
    Ok(vec![
        (latest("by-skopeo"), signed(json!({"keyPath": keys.skopeo})), Accepted),
        (by_digest("by-skopeo"), signed(json!({"keyPath": keys.skopeo})), Accepted),
        (latest("p384"), by(&keys.p384), Accepted),
        (latest("p521"), by(&keys.p521), Stricter("ring does not know P-521")),
        (latest("rsa"), by(&keys.rsa), Accepted),
        (latest("small-rsa"), by(&keys.small_rsa), Stricter("RSA below 2048 bits can be broken")),
        (latest("ed25519"), by(&keys.ed25519), Accepted),
        (latest("usual"), by(&keys.ed25519), Rejected),
        (latest("usual"), signed(json!({"keyData": data(&keys.usual)?})), Accepted),
        (latest("usual"), signed(json!({"keyDatas": [data(&keys.other)?, data(&keys.usual)?]})), Accepted),
        (latest("usual"), signed(json!({"keyPaths": [keys.other.public, keys.usual.public]})), Accepted),
        (latest("usual"), signed(json!({"keyPaths": [keys.other.public, "/nonexistent"]})), Rejected),
        (
            latest("usual"),
            signed(json!({"keyPath": keys.usual.public, "keyData": data(&keys.usual)?})),
            Rejected,
        ),
        (
            latest("usual"),
            default(json!([lab.signed(&keys.usual, json!({})), lab.signed(&keys.other, json!({}))])),
            Rejected,
        ),
        (
            latest("beside-other"),
            default(json!([lab.signed(&keys.usual, json!({})), lab.signed(&keys.other, json!({}))])),
            Accepted,
        ),
        (latest("usual"), of_type("matchExact"), Accepted),
        (by_digest("usual"), of_type("matchExact"), Rejected),
        (by_digest("as-digest"), of_type("matchExact"), Accepted),
        (by_digest("usual"), of_type("matchRepoDigestOrExact"), Accepted),
        (by_digest("as-other-tag"), of_type("matchRepoDigestOrExact"), Accepted),
        (by_digest("as-repository"), of_type("matchRepoDigestOrExact"), Rejected),
        (by_digest("of-other"), of_type("matchRepoDigestOrExact"), Rejected),
        (latest("as-other-tag"), of_type("matchRepository"), Accepted),
        (latest("as-repository"), of_type("matchRepository"), Accepted),
        (latest("as-other-name"), of_type("matchRepository"), Rejected),
        (
            latest("as-other-name"),
            as_identity(json!({"type": "exactReference", "dockerReference": latest("usual")})),
            Accepted,
        ),
        (
            latest("usual"),
            as_identity(json!({"type": "exactReference", "dockerReference": latest("by-other")})),
            Rejected,
        ),
        (
            latest("usual"),
            as_identity(json!({"type": "exactReference", "dockerReference": address})),
            Rejected,
        ),
        (
            latest("as-other-name"),
            as_identity(json!({"type": "exactRepository", "dockerRepository": format!("{address}/usual")})),
            Accepted,
        ),
        (
            latest("as-other-name"),
            as_identity(json!({"type": "exactRepository", "dockerRepository": format!("{address}/us")})),
            Rejected,
        ),
        (
            latest("as-remote"),
            as_identity(
                json!({"type": "remapIdentity", "prefix": address, "signedPrefix": "registry.example/team"}),
            ),
            Accepted,
        ),
        (
            latest("as-remote"),
            as_identity(
                json!({"type": "remapIdentity", "prefix": address, "signedPrefix": "registry.example"}),
            ),
            Rejected,
        ),
        (
            latest("usual"),
            as_identity(
                json!({"type": "remapIdentity", "prefix": "other.example", "signedPrefix": "x.example"}),
            ),
            Accepted,
        ),
        (
            latest("usual"),
            as_identity(
                json!({"type": "remapIdentity", "prefix": "Bad Prefix", "signedPrefix": "x.example"}),
            ),
            Rejected,
        ),
        (latest("usual"), of_type("matchAnything"), Rejected),
        (latest("promised"), by_log(), Accepted),
        (
            latest("promised"),
            logged(json!({"rekorPublicKeyDatas": [data(&keys.other)?, data(&keys.log)?]})),
            Accepted,
        ),
        (latest("promised"), logged(json!({"rekorPublicKeyPath": keys.other.public})), Rejected),
        (latest("promised"), logged(json!({"rekorPublicKeyPath": keys.rsa.public})), Rejected),
        (latest("usual"), by_log(), Rejected),
        (latest("promised-otherwise"), by_log(), Rejected),
        (latest("promised-key"), by_log(), Rejected),
        (latest("promised-later"), by_log(), Rejected),
        (latest("promised-more"), by_log(), Rejected),
        (latest("promised-elsewhere"), by_log(), Rejected),
        (latest("unsigned"), scoped(json!({latest("unsigned"): anything(), &address: usual()})), Accepted),
        (
            latest("unsigned"),
            scoped(json!({format!("{address}/unsigned"): usual(), &address: anything()})),
            Rejected,
        ),
        (by_digest("unsigned"), scoped(json!({by_digest("unsigned"): anything()})), Accepted),
        (by_digest("unsigned"), scoped(json!({latest("unsigned"): anything()})), Rejected),
        (latest("unsigned"), scoped(json!({"*.0.0.1": anything()})), Accepted),
        (latest("unsigned"), scoped(json!({"*.1": anything()})), Accepted),
        (latest("unsigned"), scoped(json!({"127.0.0.1": anything()})), Rejected),
        (latest("unsigned"), scoped(json!({format!("{address}/un"): anything()})), Rejected),
        (latest("unsigned"), scoped(json!({"": anything()})), Accepted),
        (latest("usual"), scoped(json!({"": usual()})), Accepted),
    ])
}

/// Policies for keyless signatures.
fn keyless(lab: &Lab) -> Result<Vec<(String, Value, Verdict)>> {
    let certificate = |name: &str| lab.room.path().join(format!("{name}.crt"));
    let policy = |authority: Value, issuer: &str, email: &str, log: Value| {
        let mut fulcio = json!({"oidcIssuer": issuer, "subjectEmail": email});
        let mut demand = json!({"type": "sigstoreSigned"});
        for (to, from) in [(&mut fulcio, &authority), (&mut demand, &log)] {
            to.as_object_mut()
                .into_iter()
                .zip(from.as_object())
                .for_each(|(to, from)| to.extend(from.clone()));
        }
        demand["fulcio"] = fulcio;
        json!({"default": [demand]})
    };
    let root = || json!({"caPath": certificate("fulcio")});
    let log = || json!({"rekorPublicKeyPath": lab.keys.log.public});
    let usual = || policy(root(), ISSUER, EMAIL, log());
    let data = signing::base64(&fs::read(certificate("fulcio"))?)?;
    let mut pairs: Vec<_> = [
        ("keyless", Accepted),
        ("keyless-late", Rejected),
        ("keyless-early", Rejected),
        ("keyless-below", Accepted),
        ("keyless-part", Rejected),
        ("keyless-broken-chain", Rejected),
        ("keyless-stranger", Rejected),
        ("keyless-server", Rejected),
        ("keyless-old", Accepted),
        ("keyless-new", Accepted),
        ("keyless-nobody", Rejected),
        ("keyless-two-issuers", Rejected),
        ("keyless-other", Rejected),
        ("keyless-unlogged", Rejected),
        ("keyless-uncertified", Rejected),
        ("usual", Rejected),
        ("promised", Rejected),
    ]
    .map(|(name, verdict)| (lab.name(name), usual(), verdict))
    .into();
    // Each policy names its own root.
    for (root, verdict) in [
        ("expired-root", Rejected),
        ("early-root", Rejected),
        ("dated-root", Accepted),
        ("short-path", Rejected),
        ("long-path", Accepted),
        ("no-authority", Rejected),
        ("server-root", Rejected),
        ("no-certificates", Rejected),
        ("other-names", Rejected),
    ] {
        let authority = json!({"caPath": certificate(root)});
        pairs.push((lab.name(&format!("keyless-{root}")), policy(authority, ISSUER, EMAIL, log()), verdict));
    }
    let name = || lab.name("keyless");
    pairs.extend([
        (name(), policy(json!({"caData": data}), ISSUER, EMAIL, log()), Accepted),
        (name(), policy(json!({"caPath": certificate("stranger")}), ISSUER, EMAIL, log()), Rejected),
        (name(), policy(root(), "https://other.example", EMAIL, log()), Rejected),
        (name(), policy(root(), ISSUER, "other@lab.example", log()), Rejected),
        (name(), policy(root(), ISSUER, EMAIL, json!({})), Rejected),
        (
            name(),
            policy(root(), ISSUER, EMAIL, json!({"rekorPublicKeyPath": lab.keys.other.public})),
            Rejected,
        ),
        (name(), policy(json!({}), ISSUER, EMAIL, log()), Rejected),
        (name(), policy(json!({"caPath": "/nonexistent"}), ISSUER, EMAIL, log()), Rejected),
        (name(), json!({"default": [lab.signed(&lab.keys.usual, json!({}))]}), Accepted),
    ]);
    Ok(pairs)
}

#[test]
fn verdicts_are_those_of_skopeo_or_stricter() -> Result<()> {
    let lab = Lab::new()?;
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut compare = |image: &str, registries_d: &str, policy: &str, expected: Verdict| -> Result<()> {
        count += 1;
        wrong.extend(lab.compare(image, registries_d, policy, expected)?);
        Ok(())
    };
    let usual = json!({"default": [lab.signed(&lab.keys.usual, json!({}))]}).to_string();
    for (repository, expected) in DEFAULT_POLICY_VERDICTS {
        compare(&lab.name(repository), "registries.d", &usual, *expected)?;
    }
    // Without an entry in registries.d no signatures are looked up.
    compare(&lab.name("usual"), "blind", &usual, Rejected)?;
    for (policy, expected) in TEXTS {
        compare(&lab.name("unsigned"), "registries.d", policy, *expected)?;
    }
    for (image, policy, expected) in special(&lab)?.into_iter().chain(keyless(&lab)?) {
        compare(&image, "registries.d", &policy.to_string(), expected)?;
    }
    println!("{count} pairs of a policy and an image");
    ensure!(
        wrong.is_empty(),
        "{} of {count} verdicts are not as expected:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    ensure!(count >= FEWEST, "{count} pairs are too few");
    signatures_are_found_among_the_referrers(&lab)
}

/// skopeo does not look there; cosign writes them with `--registry-referrers-mode=oci-1-1`.
fn signatures_are_found_among_the_referrers(lab: &Lab) -> Result<()> {
    let policy = json!({"default": [lab.signed(&lab.keys.usual, json!({}))]}).to_string();
    let repository = Repository::new(&lab.address(), "unsigned");
    let refused = lab.by_us(&policy, "registries.d", &lab.name("unsigned"))?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is not signed"));
    for (key, accepted) in [(&lab.keys.other, false), (&lab.keys.usual, true)] {
        let signature = Attachment::new(key, &lab.manifest, &lab.name("unsigned"))?;
        repository.refer(&lab.manifest, &[signature])?;
        let verdict = lab.by_us(&policy, "registries.d", &lab.name("unsigned"))?;
        assert_eq!(verdict.status.success(), accepted, "{}", String::from_utf8_lossy(&verdict.stderr));
    }
    Ok(())
}
