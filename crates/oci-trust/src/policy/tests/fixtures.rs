//! Keys, certificates and signatures in `signature/fixtures` of containers/image, made by cosign and skopeo.
#![cfg_attr(not(feature = "keyless"), allow(dead_code, reason = "keyless signatures need them"))]

use super::super::*;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use std::collections::HashMap;

/// `cosign.pub`.
pub(super) const COSIGN: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFNLqFhf4fiN6o/glAuYnq2jYUeL0
vRuLu/z39pmbVwS9ff5AYnlwaP9sxREajdLY9ynM6G1sy6AAmb7Z63TsLg==
-----END PUBLIC KEY-----
";

/// `cosign2.pub`.
pub(super) const COSIGN_2: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwOkOF9xpfG8ghueIhnZ66ooujwt1
+ReV3HupgKnGFYnEh3Hh1YTg5L6kN1Yakkt5WltRoav8/R3hpCtUO3Rldw==
-----END PUBLIC KEY-----
";

/// `rekor.pub`.
pub(super) const REKOR: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr
kBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==
-----END PUBLIC KEY-----
";

/// The certificate in `dir-img-cosign-fulcio-rekor-valid`.
pub(super) const LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIICnjCCAiWgAwIBAgIUYzeG1TB0CKogFvhlIlOq2pqC3DwwCgYIKoZIzj0EAwMw
NzEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MR4wHAYDVQQDExVzaWdzdG9yZS1pbnRl
cm1lZGlhdGUwHhcNMjMwMTIwMjA1MTMxWhcNMjMwMTIwMjEwMTMxWjAAMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAEhA1MDOWU8CzxEu2IL6wiSul7BKirPc3o35Kf
RE2JnLFJss0j92RR4gZH3U1wzCvfyT874Tzcjyn3VimwRyyc5KOCAUQwggFAMA4G
A1UdDwEB/wQEAwIHgDATBgNVHSUEDDAKBggrBgEFBQcDAzAdBgNVHQ4EFgQUgWK2
tkwNVG1lI7Bx4uF1ySdVDXYwHwYDVR0jBBgwFoAU39Ppz1YkEZb5qNjpKFWixi4Y
ZD8wHQYDVR0RAQH/BBMwEYEPbWl0ckByZWRoYXQuY29tMCwGCisGAQQBg78wAQEE
Hmh0dHBzOi8vZ2l0aHViLmNvbS9sb2dpbi9vYXV0aDCBiwYKKwYBBAHWeQIEAgR9
BHsAeQB3AN09MGrGxxEyYxkeHJlnNwKiSl643jyt/4eKcoAvKe6OAAABhdDzaa4A
AAQDAEgwRgIhALYnUigwtzQMdMmXJo/eNd0ASeo/6FT8nmasJAJ79c6zAiEAx+Uw
/hZCF48oQmRJ5vsnft/3EB+znBMV3u7aIv9CMPAwCgYIKoZIzj0EAwMDZwAwZAIw
ObTb/BQxgJV/mICZ0+4JFQt3EOkeQOpTcLgzrFaN9NGw2kL/jUXRqojTVl0IHcVc
AjAg0a69dx1Jl7moGUnY7zXKRTWudavxOGWVZw1VpcSVjdts2X6JA5v1lcr4942E
vJY=
-----END CERTIFICATE-----
";

/// The intermediate certificate in `dir-img-cosign-fulcio-rekor-valid`.
pub(super) const INTERMEDIATE: &str = "\
-----BEGIN CERTIFICATE-----
MIICGjCCAaGgAwIBAgIUALnViVfnU0brJasmRkHrn/UnfaQwCgYIKoZIzj0EAwMw
KjEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MREwDwYDVQQDEwhzaWdzdG9yZTAeFw0y
MjA0MTMyMDA2MTVaFw0zMTEwMDUxMzU2NThaMDcxFTATBgNVBAoTDHNpZ3N0b3Jl
LmRldjEeMBwGA1UEAxMVc2lnc3RvcmUtaW50ZXJtZWRpYXRlMHYwEAYHKoZIzj0C
AQYFK4EEACIDYgAE8RVS/ysH+NOvuDZyPIZtilgUF9NlarYpAd9HP1vBBH1U5CV7
7LSS7s0ZiH4nE7Hv7ptS6LvvR/STk798LVgMzLlJ4HeIfF3tHSaexLcYpSASr1kS
0N/RgBJz/9jWCiXno3sweTAOBgNVHQ8BAf8EBAMCAQYwEwYDVR0lBAwwCgYIKwYB
BQUHAwMwEgYDVR0TAQH/BAgwBgEB/wIBADAdBgNVHQ4EFgQU39Ppz1YkEZb5qNjp
KFWixi4YZD8wHwYDVR0jBBgwFoAUWMAeX5FFpWapesyQoZMi0CrFxfowCgYIKoZI
zj0EAwMDZwAwZAIwPCsQK4DYiZYDPIaDi5HFKnfxXx6ASSVmERfsynYBiX2X6SJR
nZU84/9DZdnFvvxmAjBOt6QpBlc4J/0DxvkTCqpclvziL6BCCPnjdlIB3Pu3BxsP
mygUY7Ii2zbdCdliiow=
-----END CERTIFICATE-----
";

/// `fulcio_v1.crt.pem`.
pub(super) const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIB9zCCAXygAwIBAgIUALZNAPFdxHPwjeDloDwyYChAO/4wCgYIKoZIzj0EAwMw
KjEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MREwDwYDVQQDEwhzaWdzdG9yZTAeFw0y
MTEwMDcxMzU2NTlaFw0zMTEwMDUxMzU2NThaMCoxFTATBgNVBAoTDHNpZ3N0b3Jl
LmRldjERMA8GA1UEAxMIc2lnc3RvcmUwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAAT7
XeFT4rb3PQGwS4IajtLk3/OlnpgangaBclYpsYBr5i+4ynB07ceb3LP0OIOZdxex
X69c5iVuyJRQ+Hz05yi+UF3uBWAlHpiS5sh0+H2GHE7SXrk1EC5m1Tr19L9gg92j
YzBhMA4GA1UdDwEB/wQEAwIBBjAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBRY
wB5fkUWlZql6zJChkyLQKsXF+jAfBgNVHSMEGDAWgBRYwB5fkUWlZql6zJChkyLQ
KsXF+jAKBggqhkjOPQQDAwNpADBmAjEAj1nHeXZp+13NWBNa+EDsDP8G1WWg1tCM
WP/WHPqpaVo0jhsweNFZgSs0eE7wYI4qAjEA2WB9ot98sIkoF3vZYdd3/VtWB5b9
TNMea7Ix/stJ5TfcLLeABLE4BNJOsQ4vnBHJ
-----END CERTIFICATE-----
";

/// The signature in `dir-img-cosign-valid/signature-1`.
const SIMPLE: &str =
    "MEYCIQDmtamqYPjMg81nqeBhptrPls44aA/r7PwLmspINJY4MwIhANKRpqe2E9UCBtGFdPoz/8jAbaQm4uP4h+IpwKTE6ClR";
/// The signature in `dir-img-cosign-valid-2/signature-2`.
const SECOND: &str =
    "MEQCID1ChQZ8l7JeDTEFJ2F9BXAQSVlnp5P8q+l4UJrZnTHqAiB2aeJdrdFVSKgfxt5xidTHIx/QCg6H+g8AXwu1G3d5oQ==";
/// The signature in `unknown-cosign-key.signature`.
const UNKNOWN: &str =
    "MEQCIH9Tuia53Kf88YlZ5GJY6vTykz3q69SW7Z2+ZUaWJXCYAiBL3pO+RsiJLHywzdbpQmMSjrzACeDs6MhT5P8GQw2jAw==";
/// The signature in `dir-img-cosign-valid-with-tag/signature-1`.
const TAGGED: &str =
    "MEUCIAhoI92AgO+sWjr6N+QjEDQE9Wwg1oaDDcaJIlALUqRlAiEA9+iphb/7b5T13Wy7KnlXMUM17uYTgEkUl97pu3GD/5M=";
/// The signature in `dir-img-cosign-key-rekor-valid/signature-1`.
const LOGGED: &str =
    "MEUCIQClOJvH+5f5Gr+FLd1c+NS/a+TJQ+BDDoJcnlD0FKqI3AIgPVcMB5yb/JdtohCSzrxATJX6UcyWO+uAWO8Q7CNGnRQ=";
const LOGGED_PROMISE: &str =
    "MEYCIQCtP1W8YAJxuSNaiWKlVlJoDkXAoTgjZDlZ48ObheV5kgIhAItJ3MB9nU8qc+lf/IGazOQ/VgldK6MOX+I2YMPOMZOs";
/// The signature in `dir-img-cosign-fulcio-rekor-valid/signature-1`.
const KEYLESS: &str =
    "MEQCIBszrlQdfkiSZnZtmelemGa9iePG30Rggc0w/DL0D5N/AiAMBxC2KeZYXkk80WDb+f0/MDkbFxd1N6W1hE67O7pmng==";
const KEYLESS_PROMISE: &str =
    "MEUCIQCyXhl6r7bg0IreJ91cZbEp7mzAwYdTUhU+irzlQs/pDQIgCA/VPgbTLtDcnSh2P/Ci+HnmVJ1ouwGhLLzBeGyz4vo=";
/// The log that recorded both signatures.
const LOG: &str = "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d";

/// The digest of the manifest in `dir-img-cosign-valid`, and of that in the directories with entries of a log.
pub(super) const SAMPLE: &str = "sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00";
pub(super) const LOGGED_IMAGE: &str =
    "sha256:0489474da8ea22426ece86ace6c1c0026ab2fd3cdfbbd62b7e94650266c37d9a";

fn payload(name: &str, manifest: &str, optional: &str) -> Vec<u8> {
    let identity = format!(r#""identity":{{"docker-reference":"{name}"}}"#);
    let image = format!(r#""image":{{"docker-manifest-digest":"{manifest}"}}"#);
    let kind = r#""type":"cosign container image signature""#;
    format!(r#"{{"critical":{{{identity},{image},{kind}}},"optional":{optional}}}"#).into_bytes()
}

fn signature(payload: Vec<u8>, signature: &str) -> Signature {
    let annotations = HashMap::from([("dev.cosignproject.cosign/signature".into(), signature.into())]);
    Signature { payload, annotations }
}

fn simple(text: &str) -> Signature {
    signature(payload("192.168.64.2:5000/cosign-signed-single-sample", SAMPLE, "null"), text)
}

/// `dir-img-cosign-valid/signature-1`.
pub(super) fn sample() -> Signature {
    simple(SIMPLE)
}

/// `dir-img-cosign-valid-2/signature-2`.
pub(super) fn second() -> Signature {
    simple(SECOND)
}

/// `unknown-cosign-key.signature`.
pub(super) fn by_unknown() -> Signature {
    simple(UNKNOWN)
}

/// `dir-img-cosign-valid-with-tag/signature-1`.
pub(super) fn tagged() -> Signature {
    let optional = r#"{"creator":"containers/image 5.21.2-dev","timestamp":1657296609}"#;
    signature(payload("192.168.64.2:5000/skopeo-signed:tag", SAMPLE, optional), TAGGED)
}

/// An entry of the log, which covers each byte of it.
fn logged(mut signed: Signature, text: &str, promise: &str, key: &str, time: u64, index: u64) -> Signature {
    let hash = Digest::of(&signed.payload).to_string().replace("sha256:", "");
    let key = BASE64_STANDARD.encode(key);
    let data = format!(r#""data":{{"hash":{{"algorithm":"sha256","value":"{hash}"}}}}"#);
    let signature = format!(r#""signature":{{"content":"{text}","publicKey":{{"content":"{key}"}}}}"#);
    let body = format!(r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{{data},{signature}}}}}"#);
    let entry = json!({"SignedEntryTimestamp": promise, "Payload": {"body": BASE64_STANDARD.encode(body),
        "integratedTime": time, "logIndex": index, "logID": LOG}});
    signed.annotations.insert(BUNDLE.into(), entry.to_string());
    signed
}

pub(super) const BUNDLE: &str = "dev.sigstore.cosign/bundle";
pub(super) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub(super) const CHAIN: &str = "dev.sigstore.cosign/chain";

/// `dir-img-cosign-key-rekor-valid/signature-1`.
pub(super) fn in_log() -> Signature {
    let signed = signature(payload("192.168.64.2:5000/cosign-signed/key-1", LOGGED_IMAGE, "null"), LOGGED);
    logged(signed, LOGGED, LOGGED_PROMISE, COSIGN_2, 1_674_251_859, 11_608_800)
}

/// `dir-img-cosign-fulcio-rekor-valid/signature-1`.
pub(super) fn keyless() -> Signature {
    let name = "192.168.64.2:5000/cosign-signed/fulcio-rekor-1";
    let mut signed = signature(payload(name, LOGGED_IMAGE, "null"), KEYLESS);
    signed.annotations.insert(CERTIFICATE.into(), LEAF.into());
    signed.annotations.insert(CHAIN.into(), format!("{INTERMEDIATE}{ROOT}"));
    logged(signed, KEYLESS, KEYLESS_PROMISE, LEAF, 1_674_247_893, 11_605_770)
}
