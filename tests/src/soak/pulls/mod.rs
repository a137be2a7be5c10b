//! A campaign of pulls on this host: the shipped `iguana pull`, real registries, and a network that a seed makes faulty.
//!
//! A pull succeeds with the right tree, or it fails and names an injected cause, within that fault's bound, and leaves
//! nothing in its directory. It never says nothing for longer than [`SILENCE_LIMIT`].

mod judge;
mod name_faults;
mod plan;

use crate::authority::Authority;
use crate::fault_proxy::{Action, FaultProxy, Request};
use crate::image::{Image, Maker, Recipe};
use crate::name_server::{self, NameServer};
use crate::puller::{here, insecure, mirror};
use crate::registry::Registry;
use crate::soak::faults::Stage;
use crate::soak::watched::{Watched, watch};
use crate::soak::{LARGEST_LAYER, Outcome, configuration};
use crate::{program, scratch_directory, tree};
use anyhow::{Context, Result, ensure};
use plan::{Plan, Route};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Pulls at the same time: nearly all of their time is spent waiting.
pub const AT_ONCE: usize = 24;

/// The name of the image in both registries.
const IMAGE: &str = "soak";

/// The name of the registry where a name server is part of the run.
const HOST_NAME: &str = "registry.soak.example";

/// Bytes of a directory that cannot hold the image.
const TOO_FEW_BYTES: &str = "size=256k";

/// Runs the pull with `$1` as resolv.conf, or in a directory without room, in a mount namespace of its own. The
/// directory `$2` must be empty after a failure; it vanishes with the namespace.
const WITH_NAME_SERVER: &str = r#"mount --bind "$1" /etc/resolv.conf; shift 2; exec "$@""#;
const WITHOUT_ROOM: &str = r#"
mount -t tmpfs -o "$1" tmpfs "$2" || exit 99
left=$2
shift 2
"$@"
status=$?
[ -z "$(ls -A "$left")" ] || { echo "something is left in the directory"; exit 98; }
exit $status"#;

/// What all pulls of a campaign share.
pub struct PullCampaign {
    plain: Registry,
    tls: Registry,
    authority: Authority,
    /// Gives a token to everybody.
    tokens: FaultProxy,
    /// The digest of the image's configuration.
    configuration: String,
    /// The tree of the image, and what is printed for it.
    listing: String,
    digest: String,
    home: TempDir,
}

impl PullCampaign {
    /// Starts the registries, and pulls the image once without a fault.
    pub fn start() -> Result<PullCampaign> {
        let (authority, image) = (Authority::named("lab")?, image()?);
        let (plain, tls) = (Registry::plain()?, Registry::tls(&authority)?);
        plain.push(&image, IMAGE)?;
        tls.push(&image, IMAGE)?;
        let tokens = FaultProxy::before("", |_| {
            Action::Answer("200 OK", Vec::new(), br#"{"token": "for-the-soak"}"#.to_vec())
        })?;
        let home = scratch_directory("soak")?;
        let configuration = configuration(&image)?;
        let mut campaign = PullCampaign {
            plain,
            tls,
            authority,
            tokens,
            configuration,
            listing: String::new(),
            digest: String::new(),
            home,
        };
        let room = campaign.room("reference")?;
        let reference = campaign.pull(&Plan::without_faults(), &room)?;
        ensure!(reference.status == Some(0), "a pull without a fault fails:\n{}", reference.text);
        let digest = reference.text.lines().find(|line| line.starts_with("sha256:"));
        campaign.digest = digest.context("no digest is printed")?.to_owned();
        campaign.listing = tree::listing(&room.join("root"))?;
        Ok(campaign)
    }

    /// The pull of a seed.
    pub fn run(&self, seed: u64) -> Result<Outcome> {
        let plan = Plan::draw(seed);
        let room = self.room(&format!("pull-{seed}"))?;
        let watched = self.pull(&plan, &room).with_context(|| format!("the pull of the seed {seed}"))?;
        let broken = judge::broken(&plan, &watched, &self.found(&room)?, (&self.listing, &self.digest));
        let broken = broken.map(|what| format!("{what}\n{}\n{}", plan.text(), watched.text));
        fs::remove_dir_all(&room)?;
        Ok(Outcome { seed, faults: plan.faults(), broken, silence: watched.silence })
    }

    fn room(&self, name: &str) -> Result<PathBuf> {
        let room = self.home.path().join(name);
        fs::create_dir_all(room.join("root"))?;
        Ok(room)
    }

    /// The tree after a pull; an empty directory gives an empty text.
    fn found(&self, room: &Path) -> Result<String> {
        let root = room.join("root");
        if fs::read_dir(&root)?.next().is_none() {
            return Ok(String::new());
        }
        tree::listing(&root)
    }

    /// Pulls the image as the plan says.
    fn pull(&self, plan: &Plan, room: &Path) -> Result<Watched> {
        let proxy = self.proxy(plan)?;
        let port = proxy.address().rsplit(':').next().unwrap_or_default().to_owned();
        let (registry, registries) = match plan.route {
            Route::Plain | Route::Token | Route::Tls => (proxy.address(), insecure(&proxy.address())),
            Route::Name => {
                let name = format!("{HOST_NAME}:{port}");
                (name.clone(), insecure(&name))
            }
            Route::Mirror => {
                let registry = here(&self.plain);
                (registry.clone(), insecure(&registry) + &mirror(&proxy.address()))
            }
        };
        let file = room.join("registries.conf");
        fs::write(&file, if plan.route == Route::Tls { String::new() } else { registries })?;
        let _name_server = self.name_server(plan, room)?;
        let mut command = self.surroundings(plan, room);
        command.arg(program("iguana")).args(["pull", &format!("{registry}/{IMAGE}")]).arg(room.join("root"));
        command.arg("--registries").arg(file);
        if !plan.lacks_authority {
            command.arg("--ca").arg(self.authority.certificate());
        }
        watch(&mut command, plan.limit())
    }

    /// The beginning of the command line: what makes the faults of this host.
    fn surroundings(&self, plan: &Plan, room: &Path) -> Command {
        let script = match plan {
            Plan { has_no_room: true, .. } => format!("set -- {TOO_FEW_BYTES} \"$@\"\n{WITHOUT_ROOM}"),
            Plan { route: Route::Name, .. } => {
                format!("set -- {} \"$@\"\n{WITH_NAME_SERVER}", room.join("resolv.conf").display())
            }
            _ => return Command::new("env"),
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(room.join("root"));
        command
    }

    fn name_server(&self, plan: &Plan, room: &Path) -> Result<Option<NameServer>> {
        if plan.route != Route::Name {
            return Ok(None);
        }
        let address = plan.name_server_address();
        fs::write(room.join("resolv.conf"), format!("nameserver {address}\n"))?;
        let fault = plan.of_names;
        let rule = move |since, question: &[u8]| match fault {
            Some(fault) if fault.is_on(since) => fault.reply(question),
            _ => Some(name_server::loopback(question)),
        };
        Ok(Some(NameServer::start(address, rule)?))
    }

    /// The proxy between the pull and the registry, with the faults of the plan. It demands a token on that route.
    fn proxy(&self, plan: &Plan) -> Result<RunningProxy> {
        let configuration = self.configuration.clone();
        let faults = plan.of_requests.clone();
        let act = move |request: &Request| {
            let stage = Stage::of(request, &configuration);
            let mut of_stage = faults.iter().filter(|fault| fault.stage == stage);
            of_stage.find_map(|fault| fault.action(request.before)).unwrap_or(Action::Pass)
        };
        match plan.route {
            Route::Tls => Ok(RunningProxy {
                proxy: FaultProxy::of_connections(&self.tls.address(), act)?,
                _tokens: None,
            }),
            Route::Token => {
                let tokens = FaultProxy::before(&self.tokens.address(), act.clone())?;
                let challenge = format!("Bearer realm=\"http://{}/token\",service=\"lab\"", tokens.address());
                let proxy = FaultProxy::before(&self.plain.address(), move |request| {
                    if request.says("authorization: bearer for-the-soak") {
                        return act(request);
                    }
                    let challenge = vec![("WWW-Authenticate", challenge.clone())];
                    Action::Answer("401 Unauthorized", challenge, Vec::new())
                })?;
                Ok(RunningProxy { proxy, _tokens: Some(tokens) })
            }
            _ => Ok(RunningProxy { proxy: FaultProxy::before(&self.plain.address(), act)?, _tokens: None }),
        }
    }
}

/// The proxies of one pull.
struct RunningProxy {
    proxy: FaultProxy,
    _tokens: Option<FaultProxy>,
}

impl RunningProxy {
    fn address(&self) -> String {
        self.proxy.address()
    }
}

/// An image with a large layer, one that hides a file of it, and a link.
fn image() -> Result<Image> {
    let mut random = vec![0; LARGEST_LAYER];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
    Recipe::empty()?
        .file("/data/random", 0o640, random)?
        .file("/data/.wh.nothing", 0o644, "")?
        .file("/etc/motd", 0o644, "the soak\n")?
        .link("/etc/issue", "motd")?
        .make(Maker::Spec)
}
