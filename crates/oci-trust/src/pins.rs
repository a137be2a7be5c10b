//! Images by digest: `require-digest` of the trust, and the lock file of a workflow, which has the digests.

use super::json::Json;
use anyhow::{Context as _, ensure};
use format_version::Format;
use hint::{WithHint as _, hinted};
use oci_reference::{Digest, Reference};
use std::collections::BTreeMap;

/// The version of the format that is written and read. Version 1 did not identify the workflow.
const VERSION: u64 = 2;
const FORMAT: Format = Format { document: "the lock file", newest: VERSION };

/// A lock file: the image that each name in a workflow meant when the file was written. It is valid for that workflow
/// only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the workflow.
    workflow: Option<Digest>,
    /// The `serial` of the workflow.
    serial: Option<u64>,
    images: BTreeMap<String, Locked>,
}

/// An image in a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The digest of the index or manifest that the name refers to. Only this digest is checked: an index contains
    /// the digests of all its manifests.
    pub digest: Digest,
    /// The digests of the manifests in it, by `OS/ARCHITECTURE[/VARIANT]`, for people and other programs.
    pub platforms: BTreeMap<String, Digest>,
}

impl Lock {
    /// A lock file without images for a workflow with this content and serial number.
    #[must_use]
    pub fn of(workflow: &[u8], serial: Option<u64>) -> Self {
        Self { workflow: Some(Digest::of(workflow)), serial, images: BTreeMap::new() }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// When the text is not a lock file, or has another version of the format.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        Self::read(text).or_hint("create it again with `iguana lock WORKFLOW`")
    }

    fn read(text: &[u8]) -> anyhow::Result<Self> {
        let mut whole = Json::parse(text)?.object()?;
        // The version comes first: in a newer lock file, unknown keys are not mistakes.
        let version = whole.need("version")?.integer().and_then(|version| Ok(u64::try_from(version)?));
        let version = version.context("`version`")?;
        FORMAT.check(version)?;
        ensure!(version == VERSION, "version `{version}` of the format does not state its workflow");
        let mut of = whole.need_object("workflow")?;
        let workflow = of.need_text("digest")?.parse().context("`workflow`: `digest`")?;
        let serial = of.take("serial").map(|serial| Ok::<_, anyhow::Error>(serial.integer()?.try_into()?));
        let serial = serial.transpose().context("`workflow`: `serial`")?;
        of.end().context("`workflow`")?;
        let mut images = BTreeMap::new();
        for (name, locked) in whole.need_object("images")?.rest() {
            let locked = Self::locked(locked).with_context(|| format!("`{name}`"))?;
            images.insert(name, locked);
        }
        whole.end()?;
        Ok(Self { workflow: Some(workflow), serial, images })
    }

    /// Checks that the lock file was made for a workflow with this digest and serial number.
    ///
    /// # Errors
    /// When it was made for another workflow, or for another version of it.
    pub fn check_workflow(&self, digest: Digest, serial: Option<u64>) -> anyhow::Result<()> {
        if self.workflow == Some(digest) && self.serial == serial {
            return Ok(());
        }
        let number =
            |serial: Option<u64>| serial.map_or("no `serial`".into(), |serial| format!("serial {serial}"));
        let own = self.workflow.map_or("none".into(), |digest| digest.to_string());
        Err(hinted(
            format!(
                "it is for another workflow, `{own}` with {}; this one is `{digest}` with {}",
                number(self.serial),
                number(serial)
            ),
            "create it again for this workflow: `iguana lock WORKFLOW`; someone may have replaced it with \
             an old one",
        ))
    }

    /// Whether both are for the same workflow and have different images for some name.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let is_moved = |(name, locked): (&String, &Locked)| {
            other.images.get(name).is_some_and(|other| other.digest != locked.digest)
        };
        self.workflow == other.workflow && self.images.iter().any(is_moved)
    }

    fn locked(value: Json) -> anyhow::Result<Locked> {
        let mut object = value.object()?;
        let digest = object.need_text("digest")?.parse()?;
        let platforms = object.need_object("platforms")?.rest().into_iter();
        let platforms = platforms.map(|(name, digest)| Ok((name, digest.text()?.parse()?)));
        let platforms = platforms.collect::<anyhow::Result<_>>()?;
        object.end()?;
        Ok(Locked { digest, platforms })
    }

    /// Adds an image.
    pub fn insert(&mut self, name: &Reference, locked: Locked) {
        self.images.insert(name.to_string(), locked);
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether it has no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// The text of the file. The same images make the same text.
impl std::fmt::Display for Lock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let image = |locked: &Locked| {
            let platforms = locked.platforms.iter();
            let platforms: serde_json::Map<_, _> =
                platforms.map(|(name, digest)| (name.clone(), digest.to_string().into())).collect();
            serde_json::json!({"digest": locked.digest.to_string(), "platforms": platforms})
        };
        let images: serde_json::Map<_, _> =
            self.images.iter().map(|(name, locked)| (name.clone(), image(locked))).collect();
        let mut workflow = serde_json::Map::new();
        workflow.extend(self.workflow.map(|digest| ("digest".to_owned(), digest.to_string().into())));
        workflow.extend(self.serial.map(|serial| ("serial".to_owned(), serial.into())));
        write!(out, "{:#}", serde_json::json!({"version": VERSION, "workflow": workflow, "images": images}))
    }
}

/// The digests by which images are pulled.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    are_demanded: bool,
    lock: Lock,
}

impl Pins {
    /// Every image must be named by digest, or be in `lock`.
    #[must_use]
    pub fn demanded(lock: Lock) -> Self {
        Self { are_demanded: true, lock }
    }

    /// Images in `lock` are pulled by their digests there, others by their names.
    #[must_use]
    pub fn offered(lock: Lock) -> Self {
        Self { are_demanded: false, lock }
    }

    /// The name by which an image is pulled.
    ///
    /// # Errors
    /// When a digest is demanded and the image has none.
    pub fn pin(&self, reference: &Reference) -> anyhow::Result<Reference> {
        if !self.are_demanded && !self.lock.images.contains_key(&reference.to_string()) {
            return Ok(reference.clone());
        }
        let Some(named) = reference.named() else {
            return Err(hinted(
                format!("the trust directory requires digests, but `{reference}` cannot have one"),
                "push the image to a registry, and name it by its digest",
            ));
        };
        if named.digest().is_some() {
            return Ok(reference.clone());
        }
        let locked = self.lock.images.get(&reference.to_string()).ok_or_else(|| {
            hinted(
                format!("the trust directory requires digests, but `{reference}` has none"),
                "write it as `NAME@sha256:…`, or pin it: `iguana lock WORKFLOW`, and sign WORKFLOW.lock",
            )
        })?;
        Ok(Reference::Registry(named.with_digest(locked.digest)))
    }

    /// Number of images that a lock file pins.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock.len()
    }

    /// Checks that every image of a plan without expressions in its name can be pinned, before anything runs.
    ///
    /// # Errors
    /// For the first image that cannot be pinned.
    pub fn check<'a>(&self, images: impl IntoIterator<Item = &'a Reference>) -> anyhow::Result<()> {
        images.into_iter().try_for_each(|image| self.pin(image).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_pins_the_names_in_it_and_no_others() {
        let (digest, name) = (Digest::of(b""), "r.example/x:1".parse::<Reference>().unwrap());
        let mut lock = Lock::of(b"jobs: {}", None);
        let platforms = BTreeMap::from([("linux/amd64".to_owned(), Digest::of(b"x"))]);
        lock.insert(&name, Locked { digest, platforms });
        assert_eq!(Lock::parse(lock.to_string().as_bytes()).unwrap(), lock);
        let pins = Pins::demanded(lock);
        assert_eq!(pins.pin(&name).unwrap().to_string(), format!("r.example/x:1@{digest}"));
        let by_digest: Reference = format!("r.example/y@{digest}").parse().unwrap();
        assert_eq!(pins.pin(&by_digest).unwrap(), by_digest);
        let other: Reference = "r.example/x:2".parse().unwrap();
        assert!(pins.pin(&other).unwrap_err().to_string().contains("`r.example/x:2` has none"));
        assert_eq!(Pins::default().pin(&other).unwrap(), other);
    }

    /// Only registries.conf decides what a short name means: by its aliases and blocked registries.
    #[test]
    fn a_short_name_stays_short() {
        let short: Reference = "busybox".parse().unwrap();
        let (digest, mut lock) = (Digest::of(b""), Lock::default());
        lock.insert(&short, Locked { digest, platforms: BTreeMap::new() });
        let pinned = Pins::offered(lock).pin(&short).unwrap();
        let named = pinned.named().unwrap();
        assert_eq!((named.short_name(), named.digest()), (Some("busybox"), Some(digest)));
    }

    #[test]
    fn a_lock_is_valid_for_its_own_workflow_only() {
        let lock = Lock::of(b"jobs: {}", Some(7));
        let read = Lock::parse(lock.to_string().as_bytes()).unwrap();
        assert_eq!(read, lock);
        read.check_workflow(Digest::of(b"jobs: {}"), Some(7)).unwrap();
        for (bytes, serial) in [(&b"jobs: {a}"[..], Some(7)), (b"jobs: {}", Some(8)), (b"jobs: {}", None)] {
            let error = read.check_workflow(Digest::of(bytes), serial).unwrap_err().to_string();
            assert!(error.contains("it is for another workflow") && error.contains("serial 7"), "{error}");
        }
    }

    #[test]
    fn a_newer_lock_file_is_refused_by_its_version_and_not_by_what_is_unknown_in_it() {
        let newer = br#"{"version": 3, "workflow": "sha512:0", "artifacts": []}"#;
        let error = Lock::parse(newer).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("the lock file needs version `3` of its format"), "{text}");
        assert!(text.ends_with("reads only versions up to 2"), "{text}");
        assert!(hint::of(&error).unwrap().contains("a newer initrd"));
    }

    #[test]
    fn malformed_locks_are_refused() {
        let image = r#""r.example/x:1": {"digest": "sha256:0", "platforms": {}}"#;
        let workflow = format!(r#""workflow": {{"digest": "{}"}}"#, Digest::of(b""));
        for (text, expected) in [
            ("{}".to_owned(), "`version` is missing"),
            (r#"{"version": 1, "images": {}}"#.into(), "version `1` of the format does not state"),
            (r#"{"version": -1, "images": {}}"#.into(), "`version`"),
            (r#"{"version": "2", "images": {}}"#.into(), "not a whole number"),
            (r#"{"version": 2, "images": {}}"#.into(), "`workflow` is missing"),
            (r#"{"version": 2, "workflow": {}, "images": {}}"#.into(), "`digest` is missing"),
            (format!(r#"{{"version": 2, {workflow}, "images": {{}}, "more": 1}}"#), "`more`"),
            (format!(r#"{{"version": 2, {workflow}, "images": {{{image}}}}}"#), "not a digest"),
            (
                format!(
                    r#"{{"version": 2, {}, "images": {{}}}}"#,
                    workflow.replace('}', ", \"serial\": -1}")
                ),
                "`serial`",
            ),
            (
                format!(
                    r#"{{"version": 2, {}, "images": {{}}}}"#,
                    workflow.replace('}', ", \"serial\": 1e99}")
                ),
                "`serial`",
            ),
            ("jobs: {}".into(), "expected"),
        ] {
            let error = format!("{:#}", Lock::parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
