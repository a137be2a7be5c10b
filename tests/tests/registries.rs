//! Registries, caches, proxies and storage by other makers: an image in each is pulled, bundled, and pulled over a
//! connection that breaks. `docs/registries.md` lists them.

use anyhow::Result;
use iguana_lab::authority::Authority;
use iguana_lab::bundle::ANYTHING;
use iguana_lab::fault_proxy::{Action, FaultProxy, Impairment};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::other_makers::{self, ANY_CREDENTIALS, Nginx, Squid};
use iguana_lab::process::{self, LONG};
use iguana_lab::puller::{fails, insecure, says, text};
use iguana_lab::registry::{CREDENTIALS, Registry};
use iguana_lab::{HOST, program, scratch_directory, tree};
use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Bytes of a layer that needs more than one read.
const LAYER_BYTES: usize = 3 << 20;

/// What is said of a connection that broke.
const BROKE: &[&str] = &["the connection was lost after", "retrying in"];

/// An image with a large layer, and the listing of its tree.
struct Tool {
    image: Image,
    tree: String,
}

impl Tool {
    fn new() -> Result<Tool> {
        let mut random = vec![0; LAYER_BYTES];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
        let recipe = Recipe::busybox()?.file("/random", 0o644, random)?.file("/bin/.wh.ls", 0o644, "")?;
        let image = recipe.make(Maker::Spec)?;
        let tree = tree::unpacked_by_umoci(&image, scratch_directory("registries")?.path())?;
        Ok(Tool { image, tree })
    }

    /// A docker-registry with it.
    fn registry(&self) -> Result<Registry> {
        let registry = Registry::plain()?;
        registry.push(&self.image, "lab.example/tool")?;
        Ok(registry)
    }
}

/// The name of the image in every registry.
const NAME: &str = "lab.example/tool";

/// A workstation that uses one registry.
struct Client {
    room: TempDir,
    address: String,
    environment: Vec<(&'static str, String)>,
}

impl Client {
    /// Of the registry without TLS at `address`.
    fn of(address: &str) -> Result<Client> {
        let client = Client::of_tls(address)?;
        client.file("trust/registries.conf", insecure(address))?;
        Ok(client)
    }

    /// Of the registry with TLS at `address`.
    fn of_tls(address: &str) -> Result<Client> {
        let room = scratch_directory("registries")?;
        let client = Client { room, address: address.to_owned(), environment: Vec::new() };
        client.file("trust/policy.json", ANYTHING)?;
        Ok(client)
    }

    /// With a login at the registry.
    fn login(self, (name, password): (&str, &str)) -> Result<Client> {
        let mut login = Command::new("sh");
        login.args(["-c", "printf '%s:%s' \"$1\" \"$2\" | base64 -w0", "sh", name, password]);
        let login = process::run(&mut login, LONG)?;
        self.file(
            "auth.json",
            format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{login}\"}}}}}}", self.address),
        )?;
        let file = self.room.path().join("auth.json").display().to_string();
        Ok(self.with("REGISTRY_AUTH_FILE", file))
    }

    fn with(mut self, variable: &'static str, value: String) -> Client {
        self.environment.push((variable, value));
        self
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.room.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        Ok(fs::write(path, content)?)
    }

    fn iguana(&self, words: &[&str]) -> Result<Output> {
        let mut iguana = Command::new("timeout");
        iguana.arg("120").arg(program("iguana")).args(words).args(["--trust", "trust"]);
        iguana.envs(self.environment.iter().map(|(key, value)| (key, value)));
        Ok(iguana.current_dir(self.room.path()).output()?)
    }

    fn pull(&self) -> Result<Output> {
        self.iguana(&["pull", &format!("{}/{NAME}", self.address), "root"])
    }

    /// Pulls the image; asserts its tree and these words.
    fn pulls(&self, tool: &Tool, words: &[&str]) -> Result<()> {
        says(&self.pull()?, 0, words);
        assert!(tree::listing(&self.room.path().join("root"))? == tool.tree, "another tree");
        Ok(())
    }

    /// Bundles the image, which has no signature.
    fn bundles(&self) -> Result<()> {
        let workflow = format!("jobs: {{own: {{container: '{}/{NAME}'}}}}\n", self.address);
        self.file("workflow.yaml", workflow)?;
        says(&self.iguana(&["bundle", "workflow.yaml", "--output", "bundle.tar"])?, 0, &[]);
        let verified = Command::new(program("iguana"))
            .args(["bundle", "verify", "bundle.tar"])
            .current_dir(self.room.path())
            .output()?;
        says(&verified, 0, &[]);
        Ok(())
    }
}

/// A proxy that breaks the first transfer of each blob in the middle of the large layer.
fn breaking(address: &str) -> Result<FaultProxy> {
    FaultProxy::before(address, |request| {
        let is_of_blob = request.target.contains("/blobs/") || request.target.contains("/files/");
        match request.before {
            0 if is_of_blob => Action::Impaired(Impairment::Cut(LAYER_BYTES / 2)),
            _ => Action::Pass,
        }
    })
}

/// The `Range` headers after the break.
fn ranges(fault_proxy: &FaultProxy) -> usize {
    fault_proxy.requests().iter().filter(|request| request.says("\r\nrange: bytes=")).count()
}

/// Asserts that the image is pulled and bundled from the registry without TLS at `address`, and pulled over a connection
/// that breaks, with a request for the rest.
fn serves(tool: &Tool, address: &str) -> Result<()> {
    let client = Client::of(address)?;
    client.pulls(tool, &[])?;
    client.bundles()?;
    let fault_proxy = breaking(address)?;
    Client::of(&fault_proxy.address())?.pulls(tool, BROKE)?;
    assert!(ranges(&fault_proxy) > 0, "nothing was resumed");
    Ok(())
}

#[test]
#[ignore = "long"]
fn container_registry_serves_what_it_was_pushed() -> Result<()> {
    let (tool, server) = (Tool::new()?, other_makers::container_registry()?);
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds"]);
    skopeo.arg(format!("{}:{}", ANY_CREDENTIALS.0, ANY_CREDENTIALS.1));
    skopeo.arg(format!("oci:{}:latest", tool.image.layout().display()));
    process::run(skopeo.arg(format!("docker://{}/{NAME}:latest", server.here())), LONG)?;
    let refused = ["401 Unauthorized", "the image does not exist or requires a login"];
    fails(&Client::of(&server.here())?.pull()?, &refused);
    let client = Client::of(&server.here())?.login(ANY_CREDENTIALS)?;
    client.pulls(&tool, &[])?;
    client.bundles()?;
    let fault_proxy = breaking(&server.here())?;
    // It has no ranges: the layer is sent again from its beginning.
    Client::of(&fault_proxy.address())?.login(ANY_CREDENTIALS)?.pulls(&tool, BROKE)
}

#[test]
fn drayage_serves_as_a_pull_through_cache() -> Result<()> {
    let tool = Tool::new()?;
    let registry = Registry::plain()?;
    registry.push(&tool.image, "tool")?;
    let server = other_makers::drayage(&registry)?;
    let fault_proxy = breaking(&server.here())?;
    Client::of(&fault_proxy.address())?.pulls(&tool, BROKE)?;
    // A bundle has the manifest as the tag gives it: by its digest it has another type (below).
    Client::of(&server.here())?.bundles()?;
    drop(registry);
    // From what it keeps.
    Client::of(&server.here())?.pulls(&tool, &[])
}

/// distribution-spec, "Pulling manifests": "If the manifest has a mediaType field, clients SHOULD reject unless the
/// mediaType field's value matches the type specified by the Content-Type header." drayage gives every manifest that it
/// is asked for by its digest Docker's type. podman and skopeo refuse it, too.
#[test]
fn a_manifest_that_drayage_gives_another_type_is_refused_as_by_skopeo() -> Result<()> {
    let tool = Tool::new()?;
    let registry = Registry::plain()?;
    registry.push(&tool.image, "tool")?;
    let server = other_makers::drayage(&registry)?;
    let index = fs::read_to_string(tool.image.layout().join("index.json"))?;
    let digest = index.split("sha256:").nth(1).and_then(|rest| rest.get(..64)).unwrap_or_default();
    let client = Client::of(&server.here())?;
    let image = format!("{}/{NAME}@sha256:{digest}", server.here());
    let refused = client.iguana(&["pull", &image, "root"])?;
    fails(&refused, &["the manifest is ambiguous: its `mediaType` is", "its `Content-Type` says"]);
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false", &format!("docker://{image}")]);
    let refused =
        process::end(skopeo.arg(format!("dir:{}", client.room.path().join("copy").display())), LONG)?;
    assert!(refused.errors.contains("unsupported docker v2s2 media type"), "{}", refused.errors);
    Ok(())
}

#[test]
fn nginx_serves_as_a_caching_mirror() -> Result<()> {
    let tool = Tool::new()?;
    let registry = tool.registry()?;
    let server = other_makers::nginx(Nginx::Cache, &registry)?;
    serves(&tool, &server.here())
}

#[test]
fn nginx_serves_a_registry_with_tls_and_http_2_on_offer() -> Result<()> {
    let tool = Tool::new()?;
    let (registry, authority) = (tool.registry()?, Authority::named("lab")?);
    let server = other_makers::nginx(Nginx::Tls(&authority), &registry)?;
    let client = |address: &str| -> Result<Client> {
        let client = Client::of_tls(address)?;
        client.file(&format!("trust/certs.d/{address}/ca.crt"), fs::read(authority.certificate())?)?;
        Ok(client)
    };
    client(&server.here())?.pulls(&tool, &[])?;
    client(&server.here())?.bundles()?;
    // Which connection carries the large layer is not known: each is cut before it has carried all of that.
    let cut = Action::Impaired(Impairment::Cut(LAYER_BYTES / 4 * 3));
    let fault_proxy = FaultProxy::of_connections(&server.here(), move |_| cut.clone())?;
    client(&fault_proxy.address())?.pulls(&tool, BROKE)
}

#[test]
fn nginx_asks_for_a_password_in_front_of_a_registry() -> Result<()> {
    let tool = Tool::new()?;
    let registry = tool.registry()?;
    let server = other_makers::nginx(Nginx::Password, &registry)?;
    fails(&Client::of(&server.here())?.pull()?, &["requires a name and a password"]);
    let client = Client::of(&server.here())?.login(CREDENTIALS)?;
    client.pulls(&tool, &[])?;
    client.bundles()?;
    let wrong = Client::of(&server.here())?.login((CREDENTIALS.0, "wrong"))?.pull()?;
    fails(&wrong, &["401", "check the login"]);
    assert!(!text(&wrong).contains("wrong"));
    Ok(())
}

#[test]
fn nginx_serves_as_the_storage_that_blobs_are_redirected_to() -> Result<()> {
    let tool = Tool::new()?;
    let registry = tool.registry()?;
    let server = other_makers::nginx(Nginx::Storage, &registry)?;
    serves(&tool, &server.here())
}

#[test]
fn squid_serves_as_a_caching_mirror() -> Result<()> {
    let tool = Tool::new()?;
    let registry = tool.registry()?;
    let server = other_makers::squid(Squid::Cache, &registry)?;
    serves(&tool, &server.here())
}

/// Loopback is never requested through a proxy, so the registry has its name for guests.
#[test]
fn squid_forwards_requests_without_tls_to_a_registry() -> Result<()> {
    let tool = Tool::new()?;
    let registry = tool.registry()?;
    let server = other_makers::squid(Squid::Proxy, &registry)?;
    let through = |proxy: &str| -> Result<Client> {
        Ok(Client::of(&registry.address())?.with("HTTP_PROXY", format!("http://{proxy}")))
    };
    through(&server.here())?.pulls(&tool, &[])?;
    through(&server.here())?.bundles()?;
    let fault_proxy = breaking(&server.here())?;
    through(&fault_proxy.address())?.pulls(&tool, BROKE)?;
    assert!(ranges(&fault_proxy) > 0, "nothing was resumed");
    let asked = fault_proxy.requests();
    assert!(asked.iter().all(|request| request.target.starts_with(&format!("http://{HOST}:"))), "{asked:?}");
    Ok(())
}

#[test]
fn squid_opens_tunnels_to_a_registry_with_tls() -> Result<()> {
    let (tool, authority) = (Tool::new()?, Authority::named("lab")?);
    let registry = Registry::tls(&authority)?;
    registry.push(&tool.image, NAME)?;
    let server = other_makers::squid(Squid::Proxy, &registry)?;
    let client =
        Client::of_tls(&registry.address())?.with("HTTPS_PROXY", format!("http://{}", server.here()));
    client
        .file(&format!("trust/certs.d/{}/ca.crt", registry.address()), fs::read(authority.certificate())?)?;
    client.pulls(&tool, &[])?;
    client.bundles()
}

/// The registry redirects to signed URLs of the storage, which is at another address.
#[test]
fn a_registry_redirects_to_the_s3_of_moto() -> Result<()> {
    let (tool, storage) = (Tool::new()?, other_makers::object_storage()?);
    let is_breaking = Arc::new(AtomicBool::new(false));
    let breaks = is_breaking.clone();
    let fault_proxy = FaultProxy::of_connections(&storage.here(), move |_| {
        if breaks.load(Ordering::SeqCst) {
            return Action::Impaired(Impairment::Cut(LAYER_BYTES / 2));
        }
        Action::Pass
    })?;
    let registry = other_makers::registry_with_storage(&fault_proxy.address())?;
    registry.push(&tool.image, NAME)?;
    let client = Client::of(&registry.server().here())?;
    client.pulls(&tool, &[])?;
    client.bundles()?;
    is_breaking.store(true, Ordering::SeqCst);
    Client::of(&registry.server().here())?.pulls(&tool, BROKE)
}
