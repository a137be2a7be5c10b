//! What a seed makes of a pull: by which route it goes, and which faults it meets.

use super::name_faults::NameFault;
use crate::soak::faults::{Fault, OF_CONNECTIONS, OF_REQUESTS, Stage};
use crate::soak::random::Random;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How the pull reaches the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// By http.
    Plain,
    /// By http, with a token.
    Token,
    /// By https.
    Tls,
    /// By a name that a name server knows.
    Name,
    /// The faulty registry is a mirror of one without faults.
    Mirror,
}

const ROUTES: &[Route] =
    &[Route::Plain, Route::Plain, Route::Token, Route::Token, Route::Tls, Route::Name, Route::Mirror];

/// In one of so many pulls there are two faults of requests.
const TWO_FAULTS_IN: u64 = 3;

/// In one of so many pulls the directory has no room for the image; with TLS, the server's authority is unknown.
const NO_ROOM_IN: u64 = 25;
const NO_AUTHORITY_IN: u64 = 8;

/// Time of a pull without faults, on a machine that has much else to do.
const USUAL: Duration = Duration::from_secs(60);

/// The pull of a seed.
pub(super) struct Plan {
    seed: u64,
    pub(super) route: Route,
    pub(super) of_requests: Vec<Fault>,
    pub(super) of_names: Option<NameFault>,
    pub(super) has_no_room: bool,
    pub(super) lacks_authority: bool,
}

impl Plan {
    /// A plain pull.
    pub(super) fn without_faults() -> Plan {
        Plan {
            seed: 0,
            route: Route::Plain,
            of_requests: Vec::new(),
            of_names: None,
            has_no_room: false,
            lacks_authority: false,
        }
    }

    /// The plan of a seed.
    pub(super) fn draw(seed: u64) -> Plan {
        let mut random = Random::from_seed(seed);
        let route = random.pick(ROUTES);
        let plan = Plan { seed, route, ..Plan::without_faults() };
        if random.one_in(NO_ROOM_IN) && route == Route::Plain {
            return Plan { has_no_room: true, ..plan };
        }
        match route {
            Route::Name => Plan { of_names: Some(NameFault::draw(&mut random)), ..plan },
            Route::Tls if random.one_in(NO_AUTHORITY_IN) => Plan { lacks_authority: true, ..plan },
            Route::Tls => Plan {
                of_requests: vec![Fault::among(OF_CONNECTIONS, &[Stage::Connection], &mut random)],
                ..plan
            },
            Route::Plain | Route::Token | Route::Mirror => {
                Plan { of_requests: of_requests(route, &mut random), ..plan }
            }
        }
    }

    /// Where the name server of this pull is: pulls run at the same time.
    pub(super) fn name_server_address(&self) -> Ipv4Addr {
        let [.., high, low] = self.seed.to_be_bytes();
        Ipv4Addr::new(127, 66, high, low)
    }

    /// The names of the faults, with their stages.
    pub(super) fn faults(&self) -> Vec<String> {
        let of_requests =
            self.of_requests.iter().map(|fault| format!("{}: {}", fault.stage.word(), fault.name));
        let of_names = self.of_names.iter().map(|fault| format!("DNS: {}", fault.name()));
        let no_room = self.has_no_room.then(|| "directory: no room".to_owned());
        let no_authority = self.lacks_authority.then(|| "connection: unknown authority".to_owned());
        of_requests.chain(of_names).chain(no_room).chain(no_authority).collect()
    }

    /// One line about the plan, for reports.
    pub(super) fn text(&self) -> String {
        let stays =
            self.of_requests.iter().filter(|fault| fault.stays).map(|fault| fault.name).collect::<Vec<_>>();
        format!("route {:?}, {}; for ever: {}", self.route, self.faults().join(", "), stays.join(", "))
    }

    /// The time within which the pull must have ended.
    pub(super) fn limit(&self) -> Duration {
        let of_requests = self.of_requests.iter().map(|fault| fault.bound);
        let of_names = self.of_names.iter().map(|fault| fault.bound());
        of_requests.chain(of_names).fold(USUAL, |sum, bound| sum + bound)
    }

    /// The words of which a failure must have one; `None` when the pull must succeed.
    pub(super) fn causes(&self) -> Option<Vec<&'static str>> {
        if self.has_no_room {
            return Some(vec!["No space left", "is full"]);
        }
        if self.lacks_authority {
            return Some(vec!["UnknownIssuer"]);
        }
        if let Some(fault) = &self.of_names {
            return fault.may_be_fatal().then(|| fault.words().to_vec());
        }
        let fatal = self.of_requests.iter().filter(|fault| fault.may_be_fatal());
        let words: Vec<&str> = fatal.flat_map(|fault| fault.words).copied().collect();
        (!words.is_empty() && self.route != Route::Mirror).then_some(words)
    }
}

fn of_requests(route: Route, random: &mut Random) -> Vec<Fault> {
    let stages: &[Stage] = match route {
        Route::Token => &[Stage::Token, Stage::Manifest, Stage::Configuration, Stage::Layer],
        _ => &[Stage::Manifest, Stage::Configuration, Stage::Layer],
    };
    let count = if random.one_in(TWO_FAULTS_IN) { 2 } else { 1 };
    (0..count).map(|_| Fault::among(OF_REQUESTS, stages, random)).collect()
}
