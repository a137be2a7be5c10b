//! Decides whether a workflow may run: its signer, its name, its age, and the digests of its images.
//!
//! There are three steps, because no byte of a document is parsed before its signature is verified:
//! [`Candidate::authenticate`], then the caller parses the plan, then [`Authenticated::admit`], and
//! [`Admitted::pins`] for the images.

use super::rules::{Accept, Rules, signer};
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use oci_reference::Digest;
use oci_trust::key::PublicKey;
use oci_trust::pins::{Lock, Pins};
use std::fmt;
use timestamp::Timestamp;
use workflow::Plan;

/// A workflow before any check.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Where it was found, for messages.
    pub origin: &'a str,
    /// The whole document.
    pub bytes: &'a [u8],
    /// The control URL as written; `None` when a workstation checks the workflow.
    pub control_url: Option<&'a str>,
    /// What authenticates it other than its own signature.
    pub provenance: Provenance,
}

/// What authenticates a workflow other than its own signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Nothing.
    Nothing,
    /// The initrd that contains it.
    Initrd,
    /// The policy, which demanded and found a signature of the artifact that contains it.
    Policy,
}

/// Why a workflow is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The trust demands no signature.
    NotDemanded,
    /// It is in the initrd.
    Initrd,
    /// The policy found a signature of the artifact, and an entry of the trust has its repository.
    Policy,
    /// It is signed by this key of the trust.
    Key(PublicKey),
}

impl fmt::Display for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDemanded => out.write_str("not required"),
            Self::Initrd => out.write_str("covered by that of the initrd"),
            Self::Policy => out.write_str("that of the artifact, as the policy requires"),
            Self::Key(key) => write!(out, "by {key}"),
        }
    }
}

/// Returns a file that belongs to a workflow, by its extension: `.sig`, `.lock`, `.lock.sig`. `None` if it does not
/// exist.
pub type Beside<'a> = &'a dyn Fn(&str) -> anyhow::Result<Option<Vec<u8>>>;

/// An authenticated workflow. Only [`Candidate::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct Authenticated {
    origin: String,
    control_url: Option<String>,
    digest: Digest,
    rules: Rules,
    signer: Signer,
}

/// A workflow that may run on this machine. Only [`Authenticated::admit`] makes one.
#[derive(Debug, Clone)]
pub struct Admitted {
    origin: String,
    digest: Digest,
    serial: Option<u64>,
    are_digests_demanded: bool,
    /// The keys, one of which must have signed the lock file; `None` if it need not be signed.
    lock_keys: Option<Vec<PublicKey>>,
}

/// The digests of the images in a bundle.
#[derive(Debug)]
pub struct BundledPins {
    /// The digests.
    pub pins: Pins,
    /// Why the bundle's lock file is not used, if it has one.
    pub unused_lock: Option<anyhow::Error>,
}

impl Candidate<'_> {
    /// Authenticates the document before it is parsed.
    ///
    /// # Errors
    /// When a signature is demanded and missing, or not made by a key for this control URL.
    pub fn authenticate(self, rules: &Rules, beside: Beside<'_>) -> anyhow::Result<Authenticated> {
        let signer = self.signer(rules, beside);
        let signer =
            signer.with_context(|| format!("the trust directory does not allow `{}` to run", self.origin))?;
        Ok(Authenticated {
            origin: self.origin.to_owned(),
            control_url: self.control_url.map(ToOwned::to_owned),
            digest: Digest::of(self.bytes),
            rules: rules.clone(),
            signer,
        })
    }

    fn signer(self, rules: &Rules, beside: Beside<'_>) -> anyhow::Result<Signer> {
        if !rules.demand_signature() {
            return Ok(Signer::NotDemanded);
        }
        match self.provenance {
            Provenance::Initrd => return Ok(Signer::Initrd),
            Provenance::Policy if self.control_url.is_some_and(|url| rules.accepts_artifact(url)) => {
                return Ok(Signer::Policy);
            }
            Provenance::Policy | Provenance::Nothing => {}
        }
        let accepted = rules.accepted(self.control_url);
        if accepted.is_empty() {
            return Err(hinted(
                format!(
                    "no entry of `workflow.accept` matches `{}`",
                    self.control_url.unwrap_or(self.origin)
                ),
                "use a workflow that the trust directory accepts, or add this one to its `iguana.conf`",
            ));
        }
        let keys = rules.keys_of(&accepted)?;
        let signature = beside(".sig").context("it has no signature")?;
        let signature = signature.context("it has no signature").hint(
            "sign it with a key of the trust directory, and put the signature beside it, under its name \
             with `.sig` appended",
        )?;
        Ok(Signer::Key(signer(&keys, self.bytes, &signature)?.clone()))
    }
}

impl Authenticated {
    /// Why the workflow is accepted.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Whether the authentication also covers everything else in the workflow's bundle.
    #[must_use]
    pub fn covers_bundle(&self) -> bool {
        matches!(self.signer, Signer::NotDemanded | Signer::Policy)
    }

    /// Checks that the workflow is for this machine and not too old. `now` is `None` if the clock is known to be
    /// wrong.
    ///
    /// # Errors
    /// When the trust does not accept its name, its `serial` is too low, or its `valid-until` has passed.
    pub fn admit(&self, plan: &Plan, now: Option<Timestamp>) -> anyhow::Result<Admitted> {
        check_valid_until(plan, now).with_context(|| format!("`{}` may not run", self.origin))?;
        let lock_keys = self.lock_keys(plan);
        let lock_keys = lock_keys
            .with_context(|| format!("the trust directory does not allow `{}` to run", self.origin))?;
        Ok(Admitted {
            origin: self.origin.clone(),
            digest: self.digest,
            serial: plan.serial,
            are_digests_demanded: self.rules.demand_digests(),
            lock_keys,
        })
    }

    /// The keys that may sign the lock file, if it has to be signed.
    fn lock_keys(&self, plan: &Plan) -> anyhow::Result<Option<Vec<PublicKey>>> {
        let (is_by_policy, key) = match &self.signer {
            Signer::NotDemanded | Signer::Initrd => return Ok(None),
            Signer::Policy => (true, None),
            Signer::Key(key) => (false, Some(key)),
        };
        let accepted = self.rules.accepted(self.control_url.as_deref());
        let mut matching = named(&accepted, plan)?;
        if let Some(key) = key {
            let mut signed = Vec::new();
            for entry in matching {
                if self.rules.keys_of(&[entry])?.contains(key) {
                    signed.push(entry);
                }
            }
            matching = signed;
        }
        if matching.is_empty() {
            return Err(hinted(
                format!("{} is not accepted with the key that signed it", called(plan)),
                "sign it with a key of its entry in `workflow.accept`",
            ));
        }
        check_serial(&matching, plan)?;
        Ok(if is_by_policy { None } else { Some(self.rules.keys_of(&matching)?) })
    }
}

/// The entries that accept a workflow of this name: those that have it, or else those that accept any. Names are
/// compared byte by byte: case, spaces and Unicode composition make a difference.
fn named<'a>(accepted: &[&'a Accept], plan: &Plan) -> anyhow::Result<Vec<&'a Accept>> {
    let of = |name: Option<&str>| -> Vec<&'a Accept> {
        accepted.iter().filter(|entry| entry.name.as_deref() == name).copied().collect()
    };
    let own = plan.name.as_deref().map_or(Vec::new(), |name| of(Some(name)));
    let found = if own.is_empty() { of(None) } else { own };
    if !found.is_empty() {
        return Ok(found);
    }
    let names = accepted.iter().filter_map(|entry| entry.name.as_ref());
    let names: Vec<_> = names.map(|name| format!("`{}`", name.escape_debug())).collect();
    Err(hinted(
        format!("it is {}, but this machine accepts only {}", called(plan), names.join(", ")),
        "its `name:` must be listed in `workflow.accept`; someone may have replaced the workflow",
    ))
}

fn called(plan: &Plan) -> String {
    let named = |name: &String| format!("the workflow `{}`", name.escape_debug());
    plan.name.as_ref().map_or("a workflow without a `name`".into(), named)
}

/// Refuses an older workflow, which would be a replay.
fn check_serial(matching: &[&Accept], plan: &Plan) -> anyhow::Result<()> {
    let least = matching.iter().map(|entry| entry.min_serial).min().unwrap_or_default();
    if plan.serial.unwrap_or(0) >= least {
        return Ok(());
    }
    let told = plan.serial.map_or("no `serial`".into(), |serial| format!("serial {serial}"));
    Err(hinted(
        format!("{} has {told}, but the trust directory requires at least {least}", called(plan)),
        "serve the newest workflow; someone may have replaced it with an old one",
    ))
}

/// Checks `valid-until`. Without a reliable clock the check fails.
fn check_valid_until(plan: &Plan, now: Option<Timestamp>) -> anyhow::Result<()> {
    let Some(last) = plan.valid_until else { return Ok(()) };
    let Some(now) = now else {
        return Err(hinted(
            format!("{} is valid until {last}, but the clock of this machine is not set", called(plan)),
            "set the clock of the machine: it shows a time before the initrd was built",
        ));
    };
    if now <= last {
        return Ok(());
    }
    Err(hinted(
        format!("{} expired at {last}, and the clock shows {now}", called(plan)),
        "serve a workflow with a later `valid-until`, or correct the clock of the machine",
    ))
}

impl Admitted {
    /// The digests of its images. If the trust demands digests and the workflow does not have all of them, they come
    /// from the lock file beside the workflow.
    ///
    /// # Errors
    /// When an image has no digest, or the lock file is missing, unsigned, or for another workflow.
    pub fn pins(&self, plan: &Plan, beside: Beside<'_>) -> anyhow::Result<Pins> {
        if !self.are_digests_demanded {
            return Ok(Pins::default());
        }
        let bare = Pins::demanded(Lock::default());
        let Err(missing) = bare.check(plan.images()) else { return Ok(bare) };
        let Ok(Some(bytes)) = beside(".lock") else { return Err(missing) };
        let pins = Pins::demanded(self.lock(&bytes, beside)?);
        pins.check(plan.images())?;
        Ok(pins)
    }

    /// The same for the images of a bundle. Its lock file resolves the names even if no digests are demanded. If the
    /// workflow must be signed, an unsigned lock file is ignored.
    ///
    /// # Errors
    /// As [`Admitted::pins`].
    pub fn bundled_pins(&self, plan: &Plan, beside: Beside<'_>) -> anyhow::Result<BundledPins> {
        let lock = if self.are_digests_demanded { None } else { beside(".lock")? };
        let Some(lock) = lock else {
            return Ok(BundledPins { pins: self.pins(plan, beside)?, unused_lock: None });
        };
        if self.lock_keys.is_some() && beside(".lock.sig")?.is_none() {
            let unused = hinted("it has no signature", "sign it and create the bundle again");
            return Ok(BundledPins { pins: Pins::default(), unused_lock: Some(unused) });
        }
        Ok(BundledPins { pins: Pins::offered(self.lock(&lock, beside)?), unused_lock: None })
    }

    /// Parses a lock file of this workflow, after verifying its signature if one is demanded.
    ///
    /// # Errors
    /// When it is not signed as demanded, or is for another workflow.
    pub fn lock(&self, bytes: &[u8], beside: Beside<'_>) -> anyhow::Result<Lock> {
        let place = format!("{}.lock", self.origin);
        let verified = || match &self.lock_keys {
            Some(keys) => {
                let signature = beside(".lock.sig").context("it has no signature")?;
                let signature = signature.context("it has no signature").hint(
                    "sign it with the key of its workflow, and put the signature beside it, under its name \
                     with `.sig` appended",
                )?;
                signer(keys, bytes, &signature).map(drop)
            }
            None => Ok(()),
        };
        verified()
            .with_context(|| format!("the trust directory does not allow `{place}` to choose images"))?;
        let lock = Lock::parse(bytes).with_context(|| format!("cannot read the lock file `{place}`"))?;
        lock.check_workflow(self.digest, self.serial).with_context(|| format!("cannot use `{place}`"))?;
        Ok(lock)
    }
}

#[cfg(test)]
mod tests;
