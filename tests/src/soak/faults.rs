//! The faults of requests: what each does, whether a pull or a boot gets over it, and how a message names it.

use crate::fault_proxy::{Action, Impairment, Request};
use crate::soak::random::Random;
use Severity::{Harmless, Permanent, Transient};
use std::time::Duration;

/// What a pull does about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It succeeds, however long the fault lasts.
    Harmless,
    /// It succeeds after so many such failures of one request.
    Transient(usize),
    /// It fails at the first one.
    Permanent,
}

/// The request that a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    ControlFile,
    Token,
    Manifest,
    Configuration,
    Layer,
    /// Whole connections.
    Connection,
}

impl Stage {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::ControlFile => "control file",
            Self::Token => "token",
            Self::Manifest => "manifest",
            Self::Configuration => "configuration",
            Self::Layer => "layer",
            Self::Connection => "connection",
        }
    }

    /// The stage of a request; `configuration` is the digest of the image's.
    pub(super) fn of(request: &Request, configuration: &str) -> Stage {
        match &request.target {
            target if target.is_empty() => Self::Connection,
            target if target.contains("workflow.yaml") => Self::ControlFile,
            target if target.contains("/manifests/") => Self::Manifest,
            target if target.contains(configuration) => Self::Configuration,
            target if target.contains("/blobs/") => Self::Layer,
            _ => Self::Token,
        }
    }

    /// Bytes of the largest answer in this stage, roughly.
    fn bytes(self) -> usize {
        match self {
            Self::ControlFile | Self::Token => 200,
            Self::Manifest | Self::Configuration => 1200,
            Self::Layer => super::LARGEST_LAYER,
            Self::Connection => 4000,
        }
    }
}

/// A kind of fault.
pub(super) struct Kind {
    name: &'static str,
    severity: Severity,
    stages: &'static [Stage],
    /// A message about it has one of these.
    words: &'static [&'static str],
    /// Seconds after which the pull has failed if the fault stays.
    bound: u64,
    /// What happens to one request; of several, to the first, the second and so on.
    make: fn(&mut Random, usize) -> Vec<Action>,
}

/// A fault with its stage.
#[derive(Clone)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) stage: Stage,
    actions: Vec<Action>,
    /// Whether the last action goes on for ever.
    pub(super) stays: bool,
    severity: Severity,
    pub(super) words: &'static [&'static str],
    pub(super) bound: Duration,
}

impl Fault {
    /// A fault of this kind in `stage`.
    fn draw(kind: &Kind, stage: Stage, random: &mut Random) -> Fault {
        let mut actions = (kind.make)(random, stage.bytes());
        let stays = match kind.severity {
            Harmless | Permanent => true,
            Transient(_) => kind.bound > 0 && random.one_in(STAYING_IN),
        };
        if let (Transient(most), [action]) = (kind.severity, &actions[..]) {
            actions = vec![action.clone(); random.length(1, most)];
        }
        let bound = Duration::from_secs(kind.bound);
        Fault { name: kind.name, stage, actions, stays, severity: kind.severity, words: kind.words, bound }
    }

    /// A fault of one of `kinds` in one of `stages`.
    pub(super) fn among(kinds: &[Kind], stages: &[Stage], random: &mut Random) -> Fault {
        let stage = random.pick(stages);
        let of_stage: Vec<&Kind> = kinds.iter().filter(|kind| kind.stages.contains(&stage)).collect();
        let kind = random.pick(&of_stage);
        Fault::draw(kind, stage, random)
    }

    /// What happens to the request number `before` of its target, counted from 0.
    pub(super) fn action(&self, before: usize) -> Option<Action> {
        let last = self.actions.last().filter(|_| self.stays);
        self.actions.get(before).or(last).cloned()
    }

    /// Whether a pull may fail because of it.
    pub(super) fn may_be_fatal(&self) -> bool {
        match self.severity {
            Harmless => false,
            Transient(_) => self.stays,
            Permanent => true,
        }
    }
}

/// A transient fault stays for ever in one of so many cases: each of these takes many seconds.
const STAYING_IN: u64 = 6;

const BROKEN: &[&str] = &[
    "connection was lost",
    "cut off",
    "reset",
    "closed",
    "is not HTTP",
    "expected eof",
    "unexpected end",
    "disconnected",
];
const DAMAGED: &[&str] = &["arrived damaged"];
const DOCUMENTS: &[Stage] = &[Stage::Manifest, Stage::Configuration];
const STAGES: &[Stage] = &[Stage::Manifest, Stage::Configuration, Stage::Layer];
const ALL_STAGES: &[Stage] =
    &[Stage::ControlFile, Stage::Token, Stage::Manifest, Stage::Configuration, Stage::Layer];

/// Bytes of a head, roughly: connections break also in there.
const HEAD: usize = 500;

const fn kind(
    name: &'static str,
    severity: Severity,
    stages: &'static [Stage],
    words: &'static [&'static str],
    bound: u64,
    make: fn(&mut Random, usize) -> Vec<Action>,
) -> Kind {
    Kind { name, severity, stages, words, bound, make }
}

/// Faults of single requests.
pub(super) const OF_REQUESTS: &[Kind] = &[
    kind("delay", Harmless, ALL_STAGES, &[], 60, |random, _| {
        one(Impairment::Delay(Duration::from_millis(random.between(100, 4000))))
    }),
    kind("jitter", Harmless, ALL_STAGES, &[], 60, |random, _| {
        one(Impairment::Jitter(Duration::from_millis(random.between(10, 200))))
    }),
    kind("rate", Harmless, ALL_STAGES, &[], 60, |random, _| {
        one(Impairment::Rate(random.length(100_000, 1_000_000)))
    }),
    kind("cut", Transient(2), ALL_STAGES, BROKEN, 60, |random, bytes| {
        one(Impairment::Cut(random.length(0, bytes + HEAD)))
    }),
    kind("reset", Transient(2), ALL_STAGES, BROKEN, 60, |random, bytes| {
        one(Impairment::Reset(random.length(0, bytes + HEAD)))
    }),
    kind("half-close", Transient(2), ALL_STAGES, BROKEN, 60, |random, bytes| {
        one(Impairment::HalfClose(random.length(0, bytes + HEAD)))
    }),
    kind(
        "stall",
        Transient(1),
        ALL_STAGES,
        &["no data received for 30 s", "no response within 30 s"],
        220,
        |random, bytes| one(Impairment::Stall(random.length(0, bytes + HEAD))),
    ),
    kind("damage", Transient(1), STAGES, DAMAGED, 60, |random, bytes| {
        one(Impairment::Damage(random.length(0, bytes)))
    }),
    kind("duplicate", Transient(1), STAGES, DAMAGED, 60, |random, bytes| {
        one(Impairment::Duplicate(random.length(0, bytes / 2)))
    }),
    kind(
        "length too small",
        Transient(1),
        STAGES,
        &["arrived damaged", "connection was lost"],
        60,
        |random, _| vec![Action::Lie("content-length", random.between(1, 100).to_string())],
    ),
    kind("length too large", Transient(1), STAGES, BROKEN, 60, |random, _| {
        vec![Action::Lie("content-length", random.between(1_000_000, 1 << 40).to_string())]
    }),
    kind(
        "out of order",
        Transient(2),
        ALL_STAGES,
        &["responded with `408", "responded with `50"],
        60,
        |random, _| {
            let out_of_order =
                ["408 Request Timeout", "500 Internal", "502 Bad Gateway", "504 Gateway Timeout"];
            vec![status(random.pick(&out_of_order))]
        },
    ),
    kind("overloaded", Transient(2), ALL_STAGES, &[], 0, |random, _| {
        let status = random.pick(&["429 Too Many Requests", "503 Service Unavailable"]);
        let after = random.one_in(2).then(|| ("Retry-After", random.between(0, 3).to_string()));
        vec![Action::Answer(status, after.into_iter().collect(), Vec::new())]
    }),
    kind("put off", Permanent, ALL_STAGES, &["asks to retry after"], 60, |random, _| {
        let status = random.pick(&["429 Too Many Requests", "503 Service Unavailable"]);
        let after = random.between(700, 1_000_000).to_string();
        vec![Action::Answer(status, vec![("Retry-After", after)], Vec::new())]
    }),
    kind("refused", Permanent, ALL_STAGES, &["responded with `4", "has no `"], 60, |random, _| {
        let refusals =
            ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone", "451 No"];
        vec![status(random.pick(&refusals))]
    }),
    kind("not HTTP", Transient(2), ALL_STAGES, &["is not HTTP"], 60, |random, _| {
        let length = random.length(20, 2000);
        vec![Action::Raw((0..length).map(|_| random.between(128, 255) as u8).collect())]
    }),
    kind("login page", Permanent, &[Stage::Manifest], &["not a manifest", "manifest", "JSON"], 60, |_, _| {
        let html = vec![("Content-Type", "text/html".to_owned())];
        vec![Action::Answer("200 OK", html, b"<html><p>Please log in".to_vec())]
    }),
    kind("no token", Permanent, &[Stage::Token], &["did not return a token"], 60, |_, _| {
        vec![Action::Answer("200 OK", Vec::new(), b"{}".to_vec())]
    }),
    kind("endless", Permanent, DOCUMENTS, &["exceeds the limit of "], 60, |_, _| vec![Action::Endless]),
    kind("redirect in a circle", Permanent, STAGES, &["too many redirects"], 60, |_, _| {
        vec![Action::Answer("302 Found", vec![("Location", "?again".to_owned())], Vec::new())]
    }),
    kind("redirect to nowhere", Transient(2), STAGES, &["refused"], 60, |_, _| {
        let nowhere = "http://127.0.0.1:1/x".to_owned();
        vec![Action::Answer("307 Temporary", vec![("Location", nowhere)], Vec::new())]
    }),
    kind("no ranges", Harmless, &[Stage::Layer], &[], 60, |random, bytes| {
        vec![cut_in(random, bytes), Action::PassWithout("range")]
    }),
    kind("range too late", Permanent, &[Stage::Layer], &["response begins at byte"], 60, |random, bytes| {
        vec![
            cut_in(random, bytes),
            Action::Lie("content-range", format!("bytes {}-{}/{}", bytes * 2, bytes * 3, bytes * 3)),
        ]
    }),
    kind("range refused", Permanent, &[Stage::Layer], &["responded with `416"], 60, |random, bytes| {
        vec![cut_in(random, bytes), status("416 Range Not Satisfiable")]
    }),
];

/// Faults of connections with TLS.
pub(super) const OF_CONNECTIONS: &[Kind] = &[
    kind("delay", Harmless, CONNECTION, &[], 60, |random, _| {
        one(Impairment::Delay(Duration::from_millis(random.between(100, 4000))))
    }),
    kind("cut", Transient(2), CONNECTION, BROKEN, 60, |random, bytes| {
        one(Impairment::Cut(random.length(0, bytes)))
    }),
    kind("reset", Transient(2), CONNECTION, BROKEN, 60, |random, bytes| {
        one(Impairment::Reset(random.length(0, bytes)))
    }),
    kind("half-close", Transient(2), CONNECTION, BROKEN, 60, |random, bytes| {
        one(Impairment::HalfClose(random.length(0, bytes)))
    }),
    kind(
        "stall",
        Transient(1),
        CONNECTION,
        &["no data received for 30 s", "no response within 30 s", "no connection within 15 s"],
        220,
        |random, bytes| one(Impairment::Stall(random.length(0, bytes))),
    ),
    kind("damage", Transient(2), CONNECTION, TLS, 60, |random, bytes| {
        one(Impairment::Damage(random.length(0, bytes)))
    }),
    kind("duplicate", Transient(2), CONNECTION, TLS, 60, |random, bytes| {
        one(Impairment::Duplicate(random.length(0, bytes / 2)))
    }),
    kind("no TLS", Permanent, CONNECTION, &["does not speak TLS"], 60, |_, _| {
        vec![Action::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\nwhat is this?".to_vec())]
    }),
];

const CONNECTION: &[Stage] = &[Stage::Connection];
const TLS: &[&str] = &["decrypt", "TLS", "corrupt", "is not HTTP", "connection was lost"];

fn one(impairment: Impairment) -> Vec<Action> {
    vec![Action::Impaired(impairment)]
}

fn status(status: &'static str) -> Action {
    Action::Answer(status, Vec::new(), Vec::new())
}

/// A cut in the middle, so that the layer is asked for from there on.
fn cut_in(random: &mut Random, bytes: usize) -> Action {
    Action::Impaired(Impairment::Cut(random.length(bytes / 4, bytes / 2)))
}
