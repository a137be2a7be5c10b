//! Images with all kinds of signatures, and their registry.

use super::*;

impl Lab {
    pub(super) fn new() -> Result<Lab> {
        packages::ensure(packages::SCENARIOS)?;
        let (registry, skopeo) = (Registry::plain_unlisted()?, Skopeo::of_debian_13()?);
        let room = scratch_directory("verdicts")?;
        let keys = Keys::make(room.path(), &skopeo)?;
        let address = here(&registry);
        let files = [
            ("registries.d/lab.yaml", format!("docker:\n  {address}:\n    use-sigstore-attachments: true\n")),
            ("blind/none.yaml", String::new()),
            ("registries.conf", format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n")),
        ];
        for (path, text) in files {
            let path = room.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(room.path()))?;
            fs::write(path, text)?;
        }
        let image = Recipe::empty()?.make(Maker::Spec)?;
        registry.push(&image, "unsigned")?;
        let source = Repository::new(&address, "unsigned");
        let manifest = signing::digest(&source.manifest("latest")?)?;
        let lab = Lab { registry, skopeo, room, manifest, keys };
        lab.sign_by_skopeo(image.layout())?;
        lab.sign_by_hand(&image)?;
        Ok(lab)
    }

    pub(super) fn address(&self) -> String {
        here(&self.registry)
    }

    pub(super) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}:latest", self.address())
    }

    pub(super) fn sign_by_skopeo(&self, layout: &Path) -> Result<()> {
        let room = self.room.path();
        let mut command = self.skopeo.command();
        command.arg("--insecure-policy").arg("--registries.d").arg(room.join("registries.d"));
        command.args(["copy", "-q", "--dest-tls-verify=false", "--sign-by-sigstore-private-key"]);
        command.arg(room.join("skopeo.private")).arg("--sign-passphrase-file").arg(room.join("passphrase"));
        command
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{}", self.name("by-skopeo")));
        process::run(&mut command, QUICK).map(drop)
    }

    /// Repositories with the same image and different signatures.
    pub(super) fn sign_by_hand(&self, image: &iguana_lab::image::Image) -> Result<()> {
        let (keys, digest) = (&self.keys, self.manifest.as_str());
        let good = |repository: &str, key: &Key| Attachment::new(key, digest, &self.name(repository));
        let of = |payload: Value| Attachment::of(&keys.usual, &payload.to_string());
        let payload = |repository: &str| signing::payload(digest, &self.name(repository));
        let with = |repository: &str, pointer: &str, value: Value| {
            let mut payload = payload(repository);
            if let Some(place) = payload.pointer_mut(pointer) {
                *place = value;
            }
            of(payload)
        };
        let raw = |repository: &str| payload(repository).to_string();
        let other_image = signing::digest(b"another image")?;
        let base64 = |bytes: &[u8]| signing::base64(bytes).map(Some);
        let promised = |repository: &str| good(repository, &keys.usual)?.promised(&keys.log, &keys.usual);
        let bundle = |attachment: Attachment, from: &str, to: &str| {
            let text = attachment.annotations[BUNDLE].as_str().unwrap_or_default().replace(from, to);
            attachment.annotated(BUNDLE, Some(text))
        };
        let kinds: Vec<(&str, Vec<Attachment>)> = vec![
            ("usual", vec![good("usual", &keys.usual)?]),
            ("p384", vec![good("p384", &keys.p384)?]),
            ("p521", vec![good("p521", &keys.p521)?]),
            ("rsa", vec![good("rsa", &keys.rsa)?]),
            ("small-rsa", vec![good("small-rsa", &keys.small_rsa)?]),
            ("ed25519", vec![good("ed25519", &keys.ed25519)?]),
            ("by-other", vec![good("by-other", &keys.other)?]),
            ("beside-other", vec![good("beside-other", &keys.other)?, good("beside-other", &keys.usual)?]),
            ("of-other", vec![Attachment::new(&keys.usual, &other_image, &self.name("of-other"))?]),
            (
                "as-other-tag",
                vec![Attachment::new(
                    &keys.usual,
                    digest,
                    &self.name("as-other-tag").replace("latest", "old"),
                )?],
            ),
            ("as-other-name", vec![good("usual", &keys.usual)?]),
            (
                "as-repository",
                vec![Attachment::new(
                    &keys.usual,
                    digest,
                    self.name("as-repository").trim_end_matches(":latest"),
                )?],
            ),
            (
                "as-digest",
                vec![Attachment::new(
                    &keys.usual,
                    digest,
                    &format!("{}/as-digest@{digest}", self.address()),
                )?],
            ),
            ("as-nonsense", vec![Attachment::new(&keys.usual, digest, "No Name")?]),
            (
                "as-remote",
                vec![Attachment::new(&keys.usual, digest, "registry.example/team/as-remote:latest")?],
            ),
            ("no-signature", vec![good("no-signature", &keys.usual)?.annotated(SIGNATURE, None)]),
            ("no-base64", vec![good("no-base64", &keys.usual)?.annotated(SIGNATURE, Some("%%%".into()))]),
            (
                "empty-signature",
                vec![good("empty-signature", &keys.usual)?.annotated(SIGNATURE, Some(String::new()))],
            ),
            (
                "truncated",
                vec![
                    good("truncated", &keys.usual)?
                        .annotated(SIGNATURE, base64(&keys.usual.sign(raw("truncated").as_bytes())?[..40])?),
                ],
            ),
            (
                "of-other-bytes",
                vec![
                    good("of-other-bytes", &keys.usual)?
                        .annotated(SIGNATURE, base64(&keys.usual.sign(b"other")?)?),
                ],
            ),
            ("no-json", vec![Attachment::of(&keys.usual, "hello")?]),
            ("truncated-payload", vec![Attachment::of(&keys.usual, &raw("truncated-payload")[..60])?]),
            (
                "other-purpose",
                vec![with("other-purpose", "/critical/type", json!("atomic container signature"))?],
            ),
            (
                "creator",
                vec![with("creator", "/optional", json!({"creator": "me", "timestamp": 7, "more": [1]}))?],
            ),
            ("bad-creator", vec![with("bad-creator", "/optional", json!({"creator": 7}))?]),
            ("bad-timestamp", vec![with("bad-timestamp", "/optional", json!({"timestamp": 1.5}))?]),
            (
                "more-critical",
                vec![with(
                    "more-critical",
                    "/critical/image",
                    json!({"docker-manifest-digest": digest, "x": 1}),
                )?],
            ),
            ("more", vec![Attachment::of(&keys.usual, &raw("more").replacen('{', "{\"more\": 1, ", 1))?]),
            (
                "twice",
                vec![Attachment::of(
                    &keys.usual,
                    &raw("twice").replace("\"type\":", &format!("\"type\": \"{PURPOSE}\", \"type\":")),
                )?],
            ),
            (
                "no-optional",
                vec![Attachment::of(
                    &keys.usual,
                    &json!({"critical": payload("no-optional")["critical"]}).to_string(),
                )?],
            ),
            (
                "no-digest",
                vec![with("no-digest", "/critical/image", json!({"docker-manifest-digest": "latest"}))?],
            ),
            (
                "other-type",
                vec![Attachment { media_type: "text/plain".into(), ..good("other-type", &keys.usual)? }],
            ),
            (
                "beside-malformed",
                vec![Attachment::of(&keys.usual, "hello")?, good("beside-malformed", &keys.usual)?],
            ),
            (
                "beside-attestation",
                vec![
                    Attachment {
                        media_type: "application/vnd.dsse.envelope.v1+json".into(),
                        ..good("beside-attestation", &keys.usual)?
                    },
                    good("beside-attestation", &keys.usual)?,
                ],
            ),
            ("promised", vec![promised("promised")?]),
            (
                "promised-otherwise",
                vec![good("promised-otherwise", &keys.usual)?.promised(&keys.other, &keys.usual)?],
            ),
            ("promised-key", vec![good("promised-key", &keys.usual)?.promised(&keys.log, &keys.other)?]),
            ("promised-later", vec![bundle(promised("promised-later")?, "1700000000", "1800000000")]),
            (
                "promised-more",
                vec![bundle(
                    promised("promised-more")?,
                    "{\"SignedEntryTimestamp\"",
                    "{\"more\":1,\"SignedEntryTimestamp\"",
                )],
            ),
            (
                "promised-elsewhere",
                vec![good("promised-elsewhere", &keys.usual)?.annotated(
                    BUNDLE,
                    promised("promised")?.annotations[BUNDLE].as_str().map(str::to_owned),
                )],
            ),
        ];
        for (name, attachments) in kinds.into_iter().chain(self.keyless()?) {
            self.registry.push(image, name)?;
            Repository::new(&self.address(), name).attach(digest, &attachments)?;
        }
        self.make_indexes(image)
    }

    /// Signatures whose keys are in short-lived certificates.
    pub(super) fn keyless(&self) -> Result<Vec<(&'static str, Vec<Attachment>)>> {
        let (keys, room) = (&self.keys, self.room.path());
        let root = Authority::root(room, "fulcio")?;
        let (below, stranger) = (root.below("below")?, Authority::root(room, "stranger")?);
        // Certificates made after this are valid for a day.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 60;
        let usual =
            Subject { email: EMAIL, issuer: Some(ISSUER), issuer_as_der: Some(ISSUER), usage: "codeSigning" };
        let certified = |name: &str, by: &Authority, subject: Subject, time: u64| -> Result<Attachment> {
            let certificate = by.certify(&keys.usual.private, &subject)?;
            let signed = Attachment::new(&keys.usual, &self.manifest, &self.name(name))?;
            Ok(signed.promised_at(&keys.log, &certificate, time)?.annotated(CERTIFICATE, Some(certificate)))
        };
        let good = |name: &str| certified(name, &root, usual, now);
        let unusual = |name: &str| {
            let (_, extensions, years) = UNUSUAL_ROOTS
                .iter()
                .find(|(known, ..)| *known == name)
                .with_context(|| format!("there is no `{name}`"))?;
            Authority::unusual(room, name, extensions, *years)
        };
        let below_unusual = |name: &str, root: &str| -> Result<Attachment> {
            let root = unusual(root)?;
            let below = root.below(&format!("below-{name}"))?;
            let chain = fs::read_to_string(below.certificate())? + &fs::read_to_string(root.certificate())?;
            Ok(certified(name, &below, usual, now)?.annotated(CHAIN, Some(chain)))
        };
        let part = fs::read_to_string(below.certificate())?;
        let chain = part.clone() + &fs::read_to_string(root.certificate())?;
        let other = root.certify(&keys.usual.private, &usual)?;
        Ok(vec![
            ("keyless", vec![good("keyless")?]),
            ("keyless-late", vec![certified("keyless-late", &root, usual, now + 90_000)?]),
            ("keyless-early", vec![certified("keyless-early", &root, usual, 1_700_000_000)?]),
            (
                "keyless-below",
                vec![certified("keyless-below", &below, usual, now)?.annotated(CHAIN, Some(chain))],
            ),
            (
                "keyless-part",
                vec![certified("keyless-part", &below, usual, now)?.annotated(CHAIN, Some(part))],
            ),
            ("keyless-broken-chain", vec![certified("keyless-broken-chain", &below, usual, now)?]),
            ("keyless-stranger", vec![certified("keyless-stranger", &stranger, usual, now)?]),
            (
                "keyless-server",
                vec![certified("keyless-server", &root, Subject { usage: "serverAuth", ..usual }, now)?],
            ),
            (
                "keyless-old",
                vec![certified("keyless-old", &root, Subject { issuer_as_der: None, ..usual }, now)?],
            ),
            ("keyless-new", vec![certified("keyless-new", &root, Subject { issuer: None, ..usual }, now)?]),
            (
                "keyless-nobody",
                vec![certified(
                    "keyless-nobody",
                    &root,
                    Subject { issuer: None, issuer_as_der: None, ..usual },
                    now,
                )?],
            ),
            (
                "keyless-two-issuers",
                vec![certified(
                    "keyless-two-issuers",
                    &root,
                    Subject { issuer: Some("https://other.example"), ..usual },
                    now,
                )?],
            ),
            (
                "keyless-expired-root",
                vec![certified("keyless-expired-root", &unusual("expired-root")?, usual, now)?],
            ),
            (
                "keyless-early-root",
                vec![certified("keyless-early-root", &unusual("early-root")?, usual, now)?],
            ),
            (
                "keyless-dated-root",
                vec![certified("keyless-dated-root", &unusual("dated-root")?, usual, now)?],
            ),
            ("keyless-short-path", vec![below_unusual("keyless-short-path", "short-path")?]),
            ("keyless-long-path", vec![below_unusual("keyless-long-path", "long-path")?]),
            (
                "keyless-no-authority",
                vec![certified("keyless-no-authority", &unusual("no-authority")?, usual, now)?],
            ),
            (
                "keyless-server-root",
                vec![certified("keyless-server-root", &unusual("server-root")?, usual, now)?],
            ),
            (
                "keyless-no-certificates",
                vec![certified("keyless-no-certificates", &unusual("no-certificates")?, usual, now)?],
            ),
            (
                "keyless-other-names",
                vec![certified("keyless-other-names", &unusual("other-names")?, usual, now)?],
            ),
            ("keyless-other", vec![good("keyless-other")?.annotated(CERTIFICATE, Some(other))]),
            ("keyless-unlogged", vec![good("keyless-unlogged")?.annotated(BUNDLE, None)]),
            ("keyless-uncertified", vec![good("keyless-uncertified")?.annotated(CERTIFICATE, None)]),
        ])
    }

    /// Images of several architectures, of which either the index or a manifest is signed.
    pub(super) fn make_indexes(&self, image: &iguana_lab::image::Image) -> Result<()> {
        for name in ["index-only", "manifest-only", "index-and-manifest"] {
            self.registry.push(image, name)?;
            let repository = Repository::new(&self.address(), name);
            let size = repository.manifest(&self.manifest)?.len();
            let one = |architecture: &str, digest: &str| {
                json!({"mediaType": MANIFEST, "digest": digest, "size": size,
                    "platform": {"os": "linux", "architecture": architecture}})
            };
            let kind = "application/vnd.oci.image.index.v1+json";
            let list = [one("s390x", &self.manifest), one("amd64", &self.manifest)];
            let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": list}).to_string();
            repository.put_manifest("latest", kind, index.as_bytes())?;
            for digest in [signing::digest(index.as_bytes())?, self.manifest.clone()] {
                let of_index = digest != self.manifest;
                if (of_index && name != "manifest-only") || (!of_index && name != "index-only") {
                    let signature = Attachment::new(&self.keys.usual, &digest, &self.name(name))?;
                    repository.attach(&digest, &[signature])?;
                }
            }
        }
        Ok(())
    }

    /// The requirement `sigstoreSigned` with a key and additional fields.
    pub(super) fn signed(&self, key: &Key, more: Value) -> Value {
        let mut demand = json!({"type": "sigstoreSigned", "keyPath": key.public});
        if let (Some(demand), Some(more)) = (demand.as_object_mut(), more.as_object()) {
            demand.extend(more.clone());
        }
        demand
    }

    pub(super) fn by_skopeo(&self, policy: &str, registries_d: &str, image: &str) -> Result<Output> {
        let room = self.room.path();
        fs::write(room.join("policy.json"), policy)?;
        let target = room.join("copy");
        let _ = fs::remove_dir_all(&target);
        self.skopeo.judge(&room.join("policy.json"), &room.join(registries_d), image, &target)
    }

    pub(super) fn by_us(&self, policy: &str, registries_d: &str, image: &str) -> Result<Output> {
        let trust = scratch_directory("verdicts")?;
        fs::write(trust.path().join("policy.json"), policy)?;
        fs::copy(self.room.path().join("registries.conf"), trust.path().join("registries.conf"))?;
        // A link would lead out of the trust directory, which is refused.
        copy_files(&self.room.path().join(registries_d), &trust.path().join("registries.d"))?;
        let mut command = Command::new(program("iguana"));
        command.args(["trust", "explain", image, "--trust"]).arg(trust.path());
        command.output().context("`iguana` cannot be started")
    }

    /// Compares the two decisions about an image; returns what is wrong.
    pub(super) fn compare(
        &self,
        image: &str,
        registries_d: &str,
        policy: &str,
        expected: Verdict,
    ) -> Result<Option<String>> {
        let (theirs, ours) =
            (self.by_skopeo(policy, registries_d, image)?, self.by_us(policy, registries_d, image)?);
        let fits = (theirs.status.success() == (expected != Rejected))
            && (ours.status.success() == (expected == Accepted));
        let text = |output: &Output| {
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        };
        let told = format!(
            "{image}: expected {expected:?}\n{policy}\nskopeo: {}\niguana: {}",
            text(&theirs),
            text(&ours)
        );
        // A program that could not decide has not rejected the image.
        let is_told = ours.status.success()
            || ["policy rejects", "policy.json`\n  why: "].iter().any(|words| text(&ours).contains(words));
        Ok((!fits || !is_told).then_some(told))
    }
}

/// Copies the files of a directory.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
