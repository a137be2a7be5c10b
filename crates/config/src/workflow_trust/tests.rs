//! Which workflows are accepted by which `iguana.conf`.

use super::*;
use oci_trust::testing::Signer as Key;
use std::collections::HashMap;
use std::path::Path;
use tempfile::TempDir;

/// A trust directory with the keys `a` and `b`.
struct Lab {
    directory: TempDir,
    a: Key,
    b: Key,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { directory: tempfile::tempdir().unwrap(), a: Key::new(), b: Key::new() };
        std::fs::write(lab.directory.path().join("a.pub"), lab.a.pem()).unwrap();
        std::fs::write(lab.directory.path().join("b.pub"), lab.b.pem()).unwrap();
        lab
    }

    fn rules(&self, text: &str) -> Rules {
        Rules::parse(text, self.directory.path()).unwrap()
    }
}

fn text(more: &str) -> String {
    format!("{more}\njobs: {{a: {{container: r.example/x}}}}\n")
}

fn candidate<'a>(bytes: &'a str, url: &'a str) -> Candidate<'a> {
    Candidate {
        origin: url,
        bytes: bytes.as_bytes(),
        control_url: Some(url),
        provenance: Provenance::Nothing,
    }
}

/// Takes all steps of a boot, with these files beside the workflow.
fn decide(
    rules: &Rules,
    found: Candidate<'_>,
    beside: &[(&str, Vec<u8>)],
    now: Option<&str>,
) -> anyhow::Result<Pins> {
    let files: HashMap<&str, &Vec<u8>> = beside.iter().map(|(ending, bytes)| (*ending, bytes)).collect();
    let get = |ending: &str| Ok(files.get(ending).map(|bytes| (*bytes).clone()));
    let authenticated = found.authenticate(rules, &get)?;
    let plan = workflow::check(found.bytes).into_plan(found.origin)?;
    let now = now.map(|now| now.parse().unwrap());
    authenticated.admit(&plan, now)?.pins(&plan, &get)
}

fn told(outcome: anyhow::Result<Pins>) -> String {
    outcome.map_or_else(|error| format!("{error:#}"), |_| "runs".into())
}

const NOW: Option<&str> = Some("2026-11-30T12:00:00Z");
const URL: &str = "https://boot.example/install.yaml";

#[test]
fn a_workflow_signed_for_something_else_does_not_run() {
    let lab = Lab::new();
    let rules = lab.rules("[workflow]\nkeys = ['a.pub']\n[[workflow.accept]]\nname = 'install'\n");
    let decide = |name: &str, key: &Key| {
        let text = text(name);
        let signature = vec![(".sig", key.sign(text.as_bytes()))];
        told(super::tests::decide(&rules, candidate(&text, URL), &signature, NOW))
    };
    assert_eq!(decide("name: install", &lab.a), "runs");
    assert!(decide("name: install", &lab.b).contains("it is not signed by any key of the trust directory"));
    for name in [
        "name: decommission",
        "name: Install",
        "name: 'install '",
        "name: \"install\\u200b\"",
        "name: ınstall",
    ] {
        let told = decide(name, &lab.a);
        assert!(told.contains("but this machine accepts only `install`"), "{name}: {told}");
    }
    assert!(decide("", &lab.a).contains("it is a workflow without a `name`"));
}

#[test]
fn each_name_has_its_keys_and_its_serial() {
    let lab = Lab::new();
    let rules = lab.rules(
        "[[workflow.accept]]\nname = 'install'\nkeys = ['a.pub']\nmin-serial = 7\n\
         [[workflow.accept]]\nname = 'rescue'\nkeys = ['b.pub']\nmin-serial = 2\n",
    );
    for (key, more, expected) in [
        (&lab.a, "name: install\nserial: 7", "runs"),
        (&lab.a, "name: install\nserial: 9007199254740992", "runs"),
        (&lab.a, "name: install\nserial: 6", "has serial 6, but the trust directory requires at least 7"),
        (&lab.a, "name: install", "has no `serial`"),
        (&lab.b, "name: rescue\nserial: 2", "runs"),
        (&lab.b, "name: rescue\nserial: 1", "requires at least 2"),
        (&lab.b, "name: install\nserial: 7", "`install` is not accepted with the key that signed it"),
        (&lab.a, "name: rescue\nserial: 7", "`rescue` is not accepted with the key that signed it"),
    ] {
        let text = text(more);
        let signature = [(".sig", key.sign(text.as_bytes()))];
        let told = told(decide(&rules, candidate(&text, URL), &signature, NOW));
        assert!(told.contains(expected), "{more}: {told}");
    }
}

#[test]
fn a_control_url_has_its_own_entry() {
    let lab = Lab::new();
    let rules = lab.rules(&format!(
        "[workflow]\nkeys = ['a.pub']\n[[workflow.accept]]\nname = 'install'\nfrom = ['{URL}']\n\
         [[workflow.accept]]\nname = 'wipe'\nfrom = ['https://boot.example/wipe.yaml']\n"
    ));
    for (url, name, expected) in [
        (URL, "install", "runs"),
        ("https://boot.example/install.yaml?mac=1", "install", "runs"),
        (URL, "wipe", "but this machine accepts only `install`"),
        ("https://boot.example/wipe.yaml", "wipe", "runs"),
        ("https://boot.example/other.yaml", "install", "no entry of `workflow.accept` matches"),
    ] {
        let text = text(&format!("name: {name}"));
        let signature = [(".sig", lab.a.sign(text.as_bytes()))];
        let told = told(decide(&rules, candidate(&text, url), &signature, NOW));
        assert!(told.contains(expected), "{url} {name}: {told}");
    }
}

#[test]
fn a_key_can_accept_every_workflow_that_it_signed() {
    let lab = Lab::new();
    let rules = lab
        .rules("[[workflow.accept]]\nkeys = ['b.pub']\n[[workflow.accept]]\nname = 'x'\nkeys = ['a.pub']\n");
    for (key, name, expected) in [
        (&lab.b, "name: anything", "runs"),
        (&lab.b, "", "runs"),
        (&lab.a, "name: x", "runs"),
        (&lab.a, "name: anything", "is not accepted with the key that signed it"),
        // The entry with the name takes precedence.
        (&lab.b, "name: x", "`x` is not accepted with the key that signed it"),
    ] {
        let text = text(name);
        let signature = [(".sig", key.sign(text.as_bytes()))];
        assert!(told(decide(&rules, candidate(&text, URL), &signature, NOW)).contains(expected), "{name}");
    }
}

#[test]
fn a_workflow_expires_at_its_date() {
    let none = Rules::default();
    let text = text("valid-until: 2026-11-30");
    for (now, expected) in [
        (Some("2026-11-30T23:59:59Z"), "runs"),
        (Some("2026-12-01T00:00:00Z"), "expired at 2026-11-30T23:59:59Z, and the clock shows 2026-12-01"),
        (None, "the clock of this machine is not set"),
    ] {
        let told = told(decide(&none, candidate(&text, URL), &[], now));
        assert!(told.contains(expected), "{now:?}: {told}");
    }
    let bad = super::tests::text("valid-until: 2026-11-31");
    assert!(told(decide(&none, candidate(&bad, URL), &[], NOW)).contains("is not an RFC 3339 date"));
    let endless = super::tests::text("");
    assert_eq!(told(decide(&none, candidate(&endless, URL), &[], None)), "runs");
}

/// The old lock file with its valid signature, beside the newest workflow with its own.
#[test]
fn a_lock_of_another_version_is_refused() {
    let lab = Lab::new();
    let rules =
        lab.rules("[workflow]\nkeys = ['a.pub']\nrequire-digest = true\n[[workflow.accept]]\nname = 'i'\nmin-serial = 2");
    let (old, new) = (text("name: i\nserial: 1"), text("name: i\nserial: 2"));
    let lock = |text: &str, serial| {
        let mut lock = Lock::of(text.as_bytes(), Some(serial));
        let locked = oci_trust::pins::Locked { digest: Digest::of(b"image"), platforms: Default::default() };
        lock.insert(&"r.example/x".parse().unwrap(), locked);
        lock.to_string().into_bytes()
    };
    let unbound = br#"{"version": 1, "images": {}}"#.to_vec();
    for (lock, key, expected) in [
        (lock(&new, 2), Some(&lab.a), "runs"),
        (lock(&old, 1), Some(&lab.a), "it is for another workflow"),
        (lock(&old, 2), Some(&lab.a), "it is for another workflow"),
        (lock(&new, 1), Some(&lab.a), "with serial 1; this one is"),
        (unbound, Some(&lab.a), "version `1`"),
        (lock(&new, 2), Some(&lab.b), "it is not signed by any key of the trust directory"),
        (lock(&new, 2), None, "it has no signature"),
    ] {
        let mut beside = vec![(".sig", lab.a.sign(new.as_bytes()))];
        beside.extend(key.map(|key| (".lock.sig", key.sign(&lock))));
        beside.push((".lock", lock));
        let told = told(decide(&rules, candidate(&new, URL), &beside, NOW));
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let signature = [(".sig", lab.a.sign(new.as_bytes()))];
    assert!(
        told(decide(&rules, candidate(&new, URL), &signature, NOW))
            .contains("the trust directory requires digests")
    );
}

/// A key for one workflow must not sign the images of another.
#[test]
fn a_lock_must_be_signed_by_a_key_of_its_workflow() {
    let lab = Lab::new();
    let rules = lab.rules(
        "[workflow]\nrequire-digest = true\n[[workflow.accept]]\nname = 'i'\nkeys = ['a.pub']\n\
         [[workflow.accept]]\nname = 'r'\nkeys = ['b.pub']\n",
    );
    let text = text("name: i");
    let mut lock = Lock::of(text.as_bytes(), None);
    let locked = oci_trust::pins::Locked { digest: Digest::of(b"image"), platforms: Default::default() };
    lock.insert(&"r.example/x".parse().unwrap(), locked);
    let lock = lock.to_string().into_bytes();
    for (key, expected) in [(&lab.a, "runs"), (&lab.b, "it is not signed by any key of the trust directory")]
    {
        let beside =
            [(".sig", lab.a.sign(text.as_bytes())), (".lock.sig", key.sign(&lock)), (".lock", lock.clone())];
        assert!(told(decide(&rules, candidate(&text, URL), &beside, NOW)).contains(expected), "{expected}");
    }
}

#[test]
fn an_artifact_is_accepted_where_an_entry_names_its_repository() {
    let lab = Lab::new();
    let named =
        "[[workflow.accept]]\nname = 'install'\nmin-serial = 3\nfrom = ['oci://r.example/flows/install']\n";
    let keyed = "[workflow]\nkeys = ['a.pub']\n[[workflow.accept]]\nname = 'install'\n";
    let signed = |url: &'static str| {
        move |bytes: &'static str| Candidate { provenance: Provenance::Policy, ..candidate(bytes, url) }
    };
    let ours = signed("oci://r.example/flows/install:1");
    let vendor = signed("oci://r.example/vendor/tool:1");
    const INSTALL: &str = "name: install\nserial: 3\njobs: {a: {container: r.example/x}}\n";
    const OLD: &str = "name: install\nserial: 2\njobs: {a: {container: r.example/x}}\n";
    const WIPE: &str = "name: wipe\nserial: 3\njobs: {a: {container: r.example/x}}\n";
    for (rules, found, expected) in [
        (named, ours(INSTALL), "runs"),
        (named, ours(OLD), "requires at least 3"),
        (named, ours(WIPE), "but this machine accepts only `install`"),
        (named, Candidate { provenance: Provenance::Nothing, ..ours(INSTALL) }, "it has no signature"),
        (named, vendor(INSTALL), "no entry of `workflow.accept` matches"),
        // A key for images must not sign workflows.
        (keyed, vendor(INSTALL), "it has no signature"),
    ] {
        let told = told(decide(&lab.rules(rules), found, &[], NOW));
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn the_bundled_workflow_needs_no_signature_nor_does_any_without_trust() {
    let lab = Lab::new();
    let rules = lab.rules("[workflow]\nkeys = ['a.pub']\n[[workflow.accept]]\nname = 'install'\n");
    let text = text("name: other");
    let bundled =
        Candidate { provenance: Provenance::Initrd, ..candidate(&text, "/etc/iguana/control.yaml") };
    assert_eq!(told(decide(&rules, bundled, &[], NOW)), "runs");
    assert_eq!(told(decide(&Rules::default(), candidate(&text, URL), &[], None)), "runs");
    let none = Rules::from_directory(Path::new("/nonexistent")).unwrap();
    assert_eq!(told(decide(&none, candidate(&text, URL), &[], None)), "runs");
}
