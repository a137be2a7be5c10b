//! Debian's docker-registry on loopback. It is stopped when the value is dropped.

use crate::authority::Authority;
use crate::image::{Image, Maker, Recipe};
use crate::process::{self, QUICK};
use crate::scratch_directory;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Ports that the lab's `registries.conf` marks as insecure. Registries without TLS listen on these, so that one
/// initrd serves every scenario. The number of ports limits how many registries can run at once.
pub const INSECURE_PORTS: Range<u16> = 35500..35516;

/// Ports that are not in any `registries.conf`.
const OTHER_PORTS: Range<u16> = 35516..35580;

/// The port of the registry that the lab's `registries.conf` uses as the location of other registries' images.
pub const REPLACEMENT_PORT: u16 = 35499;

/// The registries that it replaces, with the repository prefixes of their images.
pub const REPLACED_REGISTRIES: &[(&str, &str)] =
    &[("registry.opensuse.org", "opensuse"), ("registry.example", "example")];

/// The name and the password for [`Registry::demanding_a_password`].
pub const CREDENTIALS: (&str, &str) = ("installer", "open sesame");

/// Both in the format of `htpasswd -B`.
pub(crate) const HTPASSWD: &str = "installer:$2y$05$8KBDuC5MOQKtWPjWDUZRQu9rD5R2E4qqvGFlMGndrpKD1r2RX70Ly\n";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    certificate: Option<PathBuf>,
    demands_a_password: bool,
}

/// Options of a new registry.
#[derive(Debug, Default)]
struct RegistryOptions<'a> {
    authority: Option<&'a Authority>,
    demands_a_password: bool,
    demands_a_certificate: bool,
    /// Lines of its configuration for another storage than its directory.
    storage: Option<&'a str>,
}

impl Registry {
    /// A registry with plain HTTP on a port that the lab's `registries.conf` marks as insecure.
    pub fn plain() -> Result<Registry> {
        Registry::start(INSECURE_PORTS, &RegistryOptions::default())
    }

    /// A registry with plain HTTP on a port that is not in any `registries.conf`.
    pub fn plain_unlisted() -> Result<Registry> {
        Registry::start(OTHER_PORTS, &RegistryOptions::default())
    }

    /// A registry with HTTPS and the server certificate of `authority`.
    pub fn tls(authority: &Authority) -> Result<Registry> {
        Registry::start(
            OTHER_PORTS,
            &RegistryOptions { authority: Some(authority), ..RegistryOptions::default() },
        )
    }

    /// As [`Registry::tls`], with client certificates of the same authority required.
    pub fn requiring_a_certificate(authority: &Authority) -> Result<Registry> {
        let wish = RegistryOptions {
            authority: Some(authority),
            demands_a_certificate: true,
            ..RegistryOptions::default()
        };
        let registry = Registry::start(OTHER_PORTS, &wish)?;
        fs::create_dir(registry.server.home().join("certs"))?;
        authority.certify_client(&registry.server.home().join("certs"))?;
        Ok(registry)
    }

    /// As [`Registry::plain`], with the [`CREDENTIALS`] required.
    pub fn demanding_a_password() -> Result<Registry> {
        Registry::start(
            INSECURE_PORTS,
            &RegistryOptions { demands_a_password: true, ..RegistryOptions::default() },
        )
    }

    /// As [`Registry::plain`], with its blobs in another storage: lines of the section `storage` of its configuration.
    pub fn with_storage(lines: &str) -> Result<Registry> {
        Registry::start(
            INSECURE_PORTS,
            &RegistryOptions { storage: Some(lines), ..RegistryOptions::default() },
        )
    }

    /// A registry that replaces those in [`REPLACED_REGISTRIES`], so that workflows with their names run unchanged.
    pub fn replacing_others() -> Result<Registry> {
        Registry::start(REPLACEMENT_PORT..REPLACEMENT_PORT + 1, &RegistryOptions::default())
    }

    fn start(ports: Range<u16>, wish: &RegistryOptions<'_>) -> Result<Registry> {
        let server = Server::start(ports, |port, home| {
            fs::write(home.join("config.yml"), config(port, home, wish))?;
            fs::write(home.join("htpasswd"), HTPASSWD)?;
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(home.join("config.yml")).env("OTEL_TRACES_EXPORTER", "none");
            // Its S3 client cannot load one, and fails.
            command.env_remove("AWS_CA_BUNDLE");
            Ok(command)
        })?;
        let certificate = wish.authority.map(Authority::certificate);
        Ok(Registry { server, certificate, demands_a_password: wish.demands_a_password })
    }

    /// Its log, for error messages.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Its server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Its `host:port` for guests.
    pub fn address(&self) -> String {
        self.server.address()
    }

    fn here(&self) -> String {
        self.server.here()
    }

    /// Pushes `image` as `name`; returns the reference for guests.
    pub fn push(&self, image: &Image, name: &str) -> Result<String> {
        self.copy(image, name, &[])
    }

    /// Makes the image and pushes it.
    pub fn push_recipe(&self, recipe: Recipe, name: &str) -> Result<String> {
        self.push(&recipe.make(Maker::Spec)?, name)
    }

    /// As `push`, with every layer recompressed with zstd. Not in one copy: skopeo would find the layers in the registry as
    /// they were pushed before, and use these.
    pub fn push_as_zstd(&self, image: &Image, name: &str) -> Result<String> {
        let room = scratch_directory("zstd")?;
        let packed = format!("oci:{}:latest", room.path().join("image").display());
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "-q", "--dest-compress-format", "zstd", "--format", "oci"]);
        skopeo.arg(format!("oci:{}:latest", image.layout().display()));
        process::run(skopeo.arg(&packed), LIMIT_OF_A_PUSH)?;
        let reference = self.copy_from(&packed, name, &["--preserve-digests"])?;
        let types = self.layer_types(name)?;
        ensure!(
            types.iter().all(|it| it.ends_with("+zstd")),
            "`{name}` was pushed with the layers {types:?}"
        );
        Ok(reference)
    }

    /// The media types of the layers of an image that was pushed, which their first bytes confirm.
    pub fn layer_types(&self, name: &str) -> Result<Vec<String>> {
        let manifest = self.manifest(name)?;
        let layers = manifest["layers"].as_array().context("it is not the manifest of one image")?;
        layers.iter().map(|layer| self.layer_type(layer)).collect()
    }

    fn layer_type(&self, layer: &serde_json::Value) -> Result<String> {
        let stated = layer["mediaType"].as_str().context("a layer has no media type")?;
        let digest = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        let digest = digest.context("a layer has no digest")?;
        let path = self.blob_directory().join(&digest[..2]).join(digest).join("data");
        let mut beginning = [0; 4];
        fs::File::open(path)?.read_exact(&mut beginning)?;
        // RFC 1952, section 2.3.1, and RFC 8878, section 3.1.1.
        let is = match beginning {
            [0x1f, 0x8b, ..] => "gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
            _ => "tar",
        };
        ensure!(stated.ends_with(is), "a layer of the type `{stated}` is {is}");
        Ok(stated.to_owned())
    }

    /// The manifest or index of an image that was pushed.
    pub fn manifest(&self, name: &str) -> Result<serde_json::Value> {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "inspect", "--raw"]);
        self.trust(&mut skopeo, "")?;
        let manifest = process::run(skopeo.arg(format!("docker://{}/{name}:latest", self.here())), QUICK)?;
        Ok(serde_json::from_str(&manifest)?)
    }

    /// As `push`, with a manifest and configuration in Docker's format.
    pub fn push_as_docker(&self, image: &Image, name: &str) -> Result<String> {
        self.copy(image, name, &["--format", "v2s2"])
    }

    /// As `push`, with all images of an index in the layout, for every architecture.
    pub fn push_all(&self, image: &Image, name: &str) -> Result<String> {
        self.copy(image, name, &["--all"])
    }

    fn copy(&self, image: &Image, name: &str, options: &[&str]) -> Result<String> {
        self.copy_from(&format!("oci:{}:latest", image.layout().display()), name, options)
    }

    fn copy_from(&self, source: &str, name: &str, options: &[&str]) -> Result<String> {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "-q"]).args(options);
        self.trust(&mut skopeo, "dest-")?;
        skopeo.arg(source);
        process::run(skopeo.arg(format!("docker://{}/{name}:latest", self.here())), LIMIT_OF_A_PUSH)?;
        Ok(format!("{}/{name}", self.address()))
    }

    /// Adds the options by which skopeo trusts this registry and logs in.
    fn trust(&self, skopeo: &mut Command, side: &str) -> Result<()> {
        match &self.certificate {
            Some(file) => skopeo.arg(format!("--{side}cert-dir")).arg(self.trusting(file)?),
            None => skopeo.arg(format!("--{side}tls-verify=false")),
        };
        if self.demands_a_password {
            skopeo.args([format!("--{side}creds"), format!("{}:{}", CREDENTIALS.0, CREDENTIALS.1)]);
        }
        Ok(())
    }

    /// A directory in the format of containers-certs.d(5) that trusts `ca`, with a client certificate if one is
    /// required.
    fn trusting(&self, ca: &Path) -> Result<PathBuf> {
        let directory = self.server.home().join("certs");
        fs::create_dir_all(&directory)?;
        fs::copy(ca, directory.join("ca.crt"))?;
        Ok(directory)
    }

    /// The directory of its blobs: each is in `XX/XX…/data`, where `XX…` is its digest.
    pub fn blob_directory(&self) -> PathBuf {
        self.server.home().join("data/docker/registry/v2/blobs/sha256")
    }

    /// The files of all blobs, largest first: layers come before configurations and manifests.
    pub fn blobs(&self) -> Result<Vec<PathBuf>> {
        let directory = self.blob_directory();
        let listed =
            process::run(Command::new("find").arg(directory).args(["-name", "data", "-size", "+0"]), QUICK)?;
        let mut files: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.metadata().map_or(0, |data| data.len())));
        Ok(files)
    }
}

/// Time limit for a push of the largest image on two busy cores.
const LIMIT_OF_A_PUSH: Duration = Duration::from_secs(300);

fn config(port: u16, home: &Path, wish: &RegistryOptions<'_>) -> String {
    let home = home.display();
    let auth = format!("auth: {{htpasswd: {{realm: lab, path: {home}/htpasswd}}}}\n");
    let auth = if wish.demands_a_password { auth.as_str() } else { "" };
    let own = format!("  filesystem: {{rootdirectory: {home}/data}}\n");
    let storage = wish.storage.unwrap_or(&own);
    let tls = wish.authority.map(|authority| {
        let (certificate, key) = (authority.server_certificate(), authority.server_key());
        let clients = authority.certificate();
        let clients = format!(", clientcas: [{}]", clients.display());
        let clients = if wish.demands_a_certificate { clients.as_str() } else { "" };
        format!("  tls: {{certificate: {}, key: {}{clients}}}\n", certificate.display(), key.display())
    });
    format!(
        "version: 0.1\n\
         log: {{level: warn}}\n\
         {auth}\
         storage:\n\
         {storage}\
         http:\n\
         \x20 addr: 127.0.0.1:{port}\n\
         \x20 secret: lab\n\
         {}",
        tls.unwrap_or_default()
    )
}
