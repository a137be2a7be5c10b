//! Registries, caches, proxies and storage by other makers than docker-registry's. `docs/registries.md` lists them.

use crate::authority::Authority;
use crate::process::{self, LONG};
use crate::registry::{INSECURE_PORTS, Registry};
use crate::server::Server;
use crate::tools::debian_13::Programs;
use crate::{cached, python};
use anyhow::Result;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// `container-registry` of crates.io and its version.
const CONTAINER_REGISTRY: &str = "0.3.1";

/// The Python wheel with drayage for x86-64.
const DRAYAGE: &str =
    "drayage==0.2.9 --hash=sha256:2d7e5f6d97aee29f3647487e1809f2137e3e8e21e13ab412c53528a2fbfdfd82\n";

/// moto's server with what its S3 needs, for the Python 3.11 of Debian 12.
const MOTO: &str = include_str!("moto-requirements.txt");

/// The name and the password for [`container_registry`]; it accepts any.
pub const ANY_CREDENTIALS: (&str, &str) = ("any", "any");

/// The bucket in [`object_storage`].
pub const BUCKET: &str = "blobs";

/// `container-registry` of crates.io. It requires credentials, and names no scheme except at `/v2/`; it has no `HEAD` of
/// manifests, no ranges and no referrers. Its names have two components, and it takes only manifests with a media type.
pub fn container_registry() -> Result<Server> {
    let home = cached("registries", &format!("container-registry-{CONTAINER_REGISTRY}"), |home| {
        let mut install = Command::new("cargo");
        install.args(["install", "--locked", "--debug", "--quiet", "--features", "bin", "--root"]).arg(home);
        install.args(["--version", CONTAINER_REGISTRY, "container-registry", "--target-dir"]);
        process::run(install.arg(home.join("target")), LONG)?;
        Ok(fs::remove_dir_all(home.join("target"))?)
    })?;
    Server::start(INSECURE_PORTS, |port, place| {
        let mut command = Command::new(home.join("bin/container-registry"));
        command.args(["--bind", &format!("127.0.0.1:{port}"), "--storage"]).arg(place.join("data"));
        Ok(command)
    })
}

/// drayage, a pull-through cache: its `NAME` is `NAME` in the registry `behind`. It sends whole blobs, whatever the
/// range.
pub fn drayage(behind: &Registry) -> Result<Server> {
    let home = cached("registries", "drayage-0.2.9", |home| python::install(DRAYAGE, "drayage", home))?;
    let upstream = behind.server().here();
    Server::start(INSECURE_PORTS, |port, place| {
        fs::create_dir(place.join("cache"))?;
        // A name without a registry is Docker Hub's; the others are of the registry in their first component.
        let config = format!(
            "listen = \"127.0.0.1:{port}\"\ncache_dir = \"{}\"\n\
             [upstreams.docker_io]\nregistry = \"http://{upstream}\"\n\
             [upstreams.lab_example]\nregistry = \"http://{upstream}\"\n",
            place.join("cache").display()
        );
        fs::write(place.join("config.toml"), config)?;
        let mut command = Command::new(home.join("bin/drayage"));
        command.args(["serve", "--config"]).arg(place.join("config.toml"));
        Ok(command)
    })
}

/// What nginx does.
#[derive(Debug, Clone, Copy)]
pub enum Nginx<'a> {
    /// A mirror of the registry behind it, which caches blobs.
    Cache,
    /// The TLS end of the registry, for HTTP/2 as well.
    Tls(&'a Authority),
    /// It asks for the registry's [`crate::registry::CREDENTIALS`] itself.
    Password,
    /// The registry's storage: blobs are redirected to it, and it serves the registry's files.
    Storage,
}

/// nginx of Debian 13 in front of the registry `behind`.
pub fn nginx(task: Nginx<'_>, behind: &Registry) -> Result<Server> {
    let programs = Programs::of_debian_13()?;
    Server::start(INSECURE_PORTS, |port, place| {
        fs::write(place.join("htpasswd"), crate::registry::HTPASSWD)?;
        fs::write(place.join("nginx.conf"), nginx_conf(task, port, place, behind))?;
        let mut command = programs.command("usr/sbin/nginx");
        command.arg("-p").arg(place).args(["-e", "stderr", "-c"]).arg(place.join("nginx.conf"));
        Ok(command)
    })
}

fn nginx_conf(task: Nginx<'_>, port: u16, place: &Path, behind: &Registry) -> String {
    let pass = format!("proxy_pass http://{}; proxy_set_header Host $http_host;", behind.server().here());
    let all = format!("location / {{ {pass} }}");
    let (mut tls, mut options) = ("", String::new());
    let locations = match task {
        Nginx::Cache => {
            let caching = "proxy_cache blobs; proxy_cache_valid 200 206 1h; add_header X-Cache $upstream_cache_status;";
            format!("{all} location ~ /blobs/ {{ {pass} {caching} }}")
        }
        Nginx::Tls(authority) => {
            let (certificate, key) = (authority.server_certificate(), authority.server_key());
            tls = " ssl";
            options = format!(
                "http2 on; ssl_certificate {}; ssl_certificate_key {};",
                certificate.display(),
                key.display()
            );
            all
        }
        Nginx::Password => format!("location / {{ auth_basic lab; auth_basic_user_file htpasswd; {pass} }}"),
        Nginx::Storage => format!(
            "{all} location ~ /blobs/sha256:(..)(.*)$ {{ return 307 $scheme://$http_host/files/$1/$1$2/data?signature=x; }}
             location /files/ {{ alias {}/; }}",
            behind.blob_directory().display()
        ),
    };
    format!(
        "daemon off; master_process off; pid pid; events {{}}
         http {{
             access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             proxy_cache_path {}/cache keys_zone=blobs:1m;
             server {{ listen 127.0.0.1:{port}{tls}; {options} {locations} }}
         }}\n",
        place.display()
    )
}

/// What squid does.
#[derive(Debug, Clone, Copy)]
pub enum Squid {
    /// A mirror of the registry behind it, which caches whatever may be.
    Cache,
    /// An HTTP proxy for which every host is the registry behind it; it opens tunnels, and caches too.
    Proxy,
}

/// squid of Debian 13 in front of the registry `behind`.
pub fn squid(task: Squid, behind: &Registry) -> Result<Server> {
    let programs = Programs::of_debian_13()?;
    let upstream = behind.server().here();
    let upstream_port = upstream.rsplit(':').next().unwrap_or_default();
    let accelerated = match task {
        Squid::Cache => " accel vhost",
        Squid::Proxy => "",
    };
    let file = |path: &str| programs.file(path).display().to_string();
    Server::start(INSECURE_PORTS, |port, place| {
        let config = format!(
            "http_port 127.0.0.1:{port}{accelerated}\n\
             cache_peer 127.0.0.1 parent {upstream_port} 0 no-query originserver\nnever_direct allow all\n\
             http_access allow all\ncache_mem 64 MB\nmaximum_object_size_in_memory 32 MB\n\
             access_log none\ncache_log /dev/null\npid_filename none\ncoredump_dir none\npinger_enable off\n\
             unlinkd_program {}\nlogfile_daemon {}\nmime_table {}\nicon_directory {}\nerror_directory {}\n",
            file("usr/lib/squid/unlinkd"),
            file("usr/lib/squid/log_file_daemon"),
            file("usr/share/squid/mime.conf"),
            file("usr/share/squid/icons"),
            file("usr/share/squid-langpack/en"),
        );
        // It leaves root's rights before it reads its files.
        fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
        fs::write(place.join("squid.conf"), config)?;
        let mut command = programs.command("usr/sbin/squid-gnutls");
        command.args(["-N", "-f"]).arg(place.join("squid.conf"));
        Ok(command)
    })
}

/// moto's S3 with the empty bucket [`BUCKET`]. Registries redirect to it with signed URLs.
pub fn object_storage() -> Result<Server> {
    let home = cached("registries", "moto-5.2.5", |home| python::install(MOTO, "moto_server", home))?;
    let server = Server::start(INSECURE_PORTS, |port, _| {
        let mut command = Command::new("python3");
        command.arg(home.join("bin/moto_server")).env("PYTHONPATH", &home);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        Ok(command)
    })?;
    make_bucket(&server)?;
    Ok(server)
}

fn make_bucket(storage: &Server) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(storage.here())?;
    stream.set_read_timeout(Some(process::QUICK))?;
    write!(
        stream,
        "PUT /{BUCKET} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        storage.here()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.contains(" 200 "), "moto does not make a bucket: {answer}");
    Ok(())
}

/// A docker-registry with its blobs in the [`object_storage`] at `endpoint`.
pub fn registry_with_storage(endpoint: &str) -> Result<Registry> {
    Registry::with_storage(&format!(
        "  s3: {{accesskey: lab, secretkey: lab, region: us-east-1, regionendpoint: \"http://{endpoint}\", \
         bucket: {BUCKET}, secure: false}}\n"
    ))
}
