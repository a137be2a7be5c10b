//! A proxy in front of a registry that misbehaves: it passes requests on, answers them itself, or breaks connections.

mod impairment;

pub use impairment::Impairment;

use crate::HOST;
use crate::registries::port::Port;
use crate::registry::INSECURE_PORTS;
use anyhow::{Context, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time after which an idle client is disconnected.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request target; empty for a connection that is not read ([`FaultProxy::of_connections`]).
    pub target: String,
    /// The request line and headers.
    pub head: String,
    /// Number of earlier requests for this target.
    pub before: usize,
}

impl Request {
    /// Whether the head contains this text, ignoring case.
    pub fn says(&self, words: &str) -> bool {
        self.head.to_lowercase().contains(&words.to_lowercase())
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Pass on the server's answer.
    Pass,
    /// Pass on the answer over an impaired network.
    Impaired(Impairment),
    /// Pass on the answer to the request without this header.
    PassWithout(&'static str),
    /// Pass on the answer with this value of a header.
    Lie(&'static str, String),
    /// Answer with this status, headers and body.
    Answer(&'static str, Vec<(&'static str, String)>, Vec<u8>),
    /// Answer with these bytes.
    Raw(Vec<u8>),
    /// Answer with an endless body of zeros.
    Endless,
    /// Do what a proxy does, on loopback: open a tunnel for `CONNECT`, and forward a request for an `http:` URL.
    Tunnel,
}

type Rule = dyn Fn(&Request) -> Action + Send + Sync;

/// A running fault proxy; stopped when dropped.
pub struct FaultProxy {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
    _port: Option<Port>,
}

/// What the proxy reads of a connection.
#[derive(Clone, Copy)]
enum Reads {
    /// One request.
    Request,
    /// Nothing: the bytes are passed on as they come.
    Nothing,
}

impl FaultProxy {
    /// A proxy in front of the server `behind` (its address for guests) that does what `rule` returns.
    pub fn before(
        behind: &str,
        rule: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port to serve on")?;
        FaultProxy::start(listener, None, behind, Reads::Request, Arc::new(rule))
    }

    /// A proxy that passes on whole connections, of TLS for example. Its rule may choose [`Action::Pass`],
    /// [`Action::Impaired`] and [`Action::Raw`] for each; offsets count from the first byte of the server.
    pub fn of_connections(
        behind: &str,
        rule: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port to serve on")?;
        FaultProxy::start(listener, None, behind, Reads::Nothing, Arc::new(rule))
    }

    /// As [`FaultProxy::before`], on a port that the initrds of the lab take for an insecure registry's.
    pub fn for_guests(
        behind: &str,
        rule: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Result<FaultProxy> {
        let port = Port::free(INSECURE_PORTS)?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))?;
        FaultProxy::start(listener, Some(port), behind, Reads::Request, Arc::new(rule))
    }

    fn start(
        listener: TcpListener,
        port: Option<Port>,
        behind: &str,
        reads: Reads,
        rule: Arc<Rule>,
    ) -> Result<FaultProxy> {
        let address = listener.local_addr()?;
        let (requests, closing) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicBool::new(false)));
        let behind = behind.replace(HOST, "127.0.0.1");
        let acceptor = std::thread::spawn({
            let (requests, closing) = (requests.clone(), closing.clone());
            move || {
                for stream in listener.incoming().flatten() {
                    if closing.load(Ordering::SeqCst) {
                        return;
                    }
                    let (behind, rule, requests) = (behind.clone(), rule.clone(), requests.clone());
                    std::thread::spawn(move || converse(stream, reads, &behind, &*rule, &requests));
                }
            }
        });
        Ok(FaultProxy { address, requests, closing, acceptor: Some(acceptor), _port: port })
    }

    /// Its `host:port` on this host.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().map(|requests| requests.clone()).unwrap_or_default()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

/// Handles one request, or one connection; the connection is closed after the answer.
fn converse(
    stream: TcpStream,
    reads: Reads,
    behind: &str,
    rule: &Rule,
    requests: &Mutex<Vec<Request>>,
) -> Option<()> {
    stream.set_read_timeout(Some(CLIENT_LIMIT)).ok()?;
    let mut client = BufReader::new(stream);
    let (head, target) = match reads {
        Reads::Nothing => Default::default(),
        Reads::Request => {
            let head = read_head(&mut client)?;
            let target = head.split(' ').nth(1)?.to_owned();
            (head, target)
        }
    };
    let request = {
        let mut requests = requests.lock().ok()?;
        let before = requests.iter().filter(|other| other.target == target).count();
        requests.push(Request { target, head, before });
        requests.last()?.clone()
    };
    let (action, client) = (rule(&request), client.get_mut());
    match reads {
        Reads::Nothing => splice(action, behind, client),
        Reads::Request => answer(action, &request, behind, client),
    }
}

fn answer(action: Action, request: &Request, behind: &str, client: &mut TcpStream) -> Option<()> {
    let head = &request.head;
    match action {
        Action::Pass => io::copy(&mut ask(head, behind)?, client).ok().map(drop),
        Action::Impaired(impairment) => {
            let mut server = BufReader::new(ask(head, behind)?);
            let head = read_head(&mut server)?;
            impairment.carry(head.as_bytes(), server, client).ok()
        }
        Action::PassWithout(header) => {
            io::copy(&mut ask(&without(head, header), behind)?, client).ok().map(drop)
        }
        Action::Lie(header, value) => {
            let mut server = BufReader::new(ask(head, behind)?);
            let head = without(&read_head(&mut server)?, header);
            let head = head.replacen("\r\n", &format!("\r\n{header}: {value}\r\n"), 1);
            io::copy(&mut head.as_bytes().chain(server), client).ok().map(drop)
        }
        Action::Endless => endless(client),
        Action::Raw(bytes) => client.write_all(&bytes).ok(),
        Action::Answer(status, headers, body) => send(client, status, &headers, &body),
        Action::Tunnel => match request.target.strip_prefix("http://") {
            Some(target) => forward(client, head, target),
            None => tunnel(client, &request.target),
        },
    }
}

/// Forwards a request for a URL, of which `target` is the part after `http://`, in origin form (RFC 9112, 3.2.1).
fn forward(client: &mut TcpStream, head: &str, target: &str) -> Option<()> {
    let (authority, path) = target.split_at(target.find('/')?);
    let head = head.replacen(&format!("http://{target}"), path, 1);
    io::copy(&mut ask(&head, &authority.replace(HOST, "127.0.0.1"))?, client).ok().map(drop)
}

/// Passes on a connection in both directions.
fn splice(action: Action, behind: &str, client: &mut TcpStream) -> Option<()> {
    let mut server = TcpStream::connect(behind).ok()?;
    let relay = relay(client, &server)?;
    match action {
        Action::Impaired(impairment) => impairment.carry(&[], &mut server, client).ok(),
        Action::Raw(bytes) => client.write_all(&bytes).ok(),
        _ => io::copy(&mut server, client).ok().map(drop),
    };
    // The relay holds the connection, too, and would keep it open.
    client.shutdown(Shutdown::Read).ok()?;
    relay.join().ok()
}

/// Passes on what the client sends, on a thread of its own.
fn relay(client: &TcpStream, server: &TcpStream) -> Option<JoinHandle<()>> {
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    Some(std::thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Write).ok();
    }))
}

fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (stream.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    Some(head)
}

/// Sends the request to the server, which closes the connection after its answer.
fn ask(head: &str, behind: &str) -> Option<TcpStream> {
    let mut server = TcpStream::connect(behind).ok()?;
    let once = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    server.write_all(once.as_bytes()).ok()?;
    Some(server)
}

fn send(client: &mut TcpStream, status: &str, headers: &[(&str, String)], body: &[u8]) -> Option<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    client.write_all(&[head.as_bytes(), body].concat()).ok()
}

fn without(head: &str, header: &str) -> String {
    let is_other = |line: &&str| !line.to_lowercase().starts_with(&format!("{}:", header.to_lowercase()));
    head.split_inclusive("\r\n").filter(is_other).collect()
}

/// Sends until the client closes the connection, at most a gigabyte.
fn endless(client: &mut TcpStream) -> Option<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").ok()?;
    (0..1024).try_for_each(|_| client.write_all(&[0; 1 << 20]).ok())
}

fn tunnel(client: &mut TcpStream, target: &str) -> Option<()> {
    let port: u16 = target.rsplit(':').next()?.parse().ok()?;
    let mut server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
    // It ends when the client closes the connection.
    let _relay = relay(client, &server)?;
    io::copy(&mut server, client).ok().map(drop)
}
