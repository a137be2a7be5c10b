//! A proxy in front of a registry that misbehaves: it passes requests on, answers them itself, or breaks connections.

use crate::HOST;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time after which an idle client is disconnected.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request target.
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
    /// Pass on only this number of bytes.
    Cut(usize),
    /// Pass on the answer with one byte changed at this offset.
    Damage(u64),
    /// Pass on the answer to the request without this header.
    PassWithout(&'static str),
    /// Pass on this number of bytes, then send nothing.
    Stall(usize),
    /// Answer with this status, headers and body.
    Answer(&'static str, Vec<(&'static str, String)>, Vec<u8>),
    /// Answer with an endless body of zeros.
    Endless,
    /// Open a tunnel to the target's port on loopback, as a proxy does.
    Tunnel,
}

type Rule = dyn Fn(&Request) -> Action + Send + Sync;

/// A running fault proxy; stopped when dropped.
pub struct FaultProxy {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// A proxy in front of the server `behind` (its address for guests) that does what `rule` returns.
    pub fn before(
        behind: &str,
        rule: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port to serve on")?;
        let address = listener.local_addr()?;
        let (requests, closing) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicBool::new(false)));
        let behind = behind.replace(HOST, "127.0.0.1");
        let rule: Arc<Rule> = Arc::new(rule);
        let acceptor = std::thread::spawn({
            let (requests, closing) = (requests.clone(), closing.clone());
            move || {
                for stream in listener.incoming().flatten() {
                    if closing.load(Ordering::SeqCst) {
                        return;
                    }
                    let (behind, rule, requests) = (behind.clone(), rule.clone(), requests.clone());
                    std::thread::spawn(move || converse(stream, &behind, &*rule, &requests));
                }
            }
        });
        Ok(FaultProxy { address, requests, closing, acceptor: Some(acceptor) })
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

/// Handles one request; the connection is closed after the answer.
fn converse(stream: TcpStream, behind: &str, rule: &Rule, requests: &Mutex<Vec<Request>>) -> Option<()> {
    stream.set_read_timeout(Some(CLIENT_LIMIT)).ok()?;
    let mut client = BufReader::new(stream);
    let head = head(&mut client)?;
    let target = head.split(' ').nth(1)?.to_owned();
    let request = {
        let mut requests = requests.lock().ok()?;
        let before = requests.iter().filter(|other| other.target == target).count();
        requests.push(Request { target, head, before });
        requests.last()?.clone()
    };
    let client = client.get_mut();
    match rule(&request) {
        Action::Pass => pass(&request.head, behind, client, u64::MAX),
        Action::Cut(bytes) => pass(&request.head, behind, client, bytes as u64),
        Action::Damage(at) => damage(&request.head, behind, client, at),
        Action::PassWithout(header) => pass(&without(&request.head, header), behind, client, u64::MAX),
        Action::Stall(bytes) => {
            pass(&request.head, behind, client, bytes as u64)?;
            // Wait until the client closes the connection.
            client.read(&mut [0]).ok().map(drop)
        }
        Action::Endless => endless(client),
        Action::Answer(status, headers, body) => answer(client, status, &headers, &body),
        Action::Tunnel => tunnel(client, &request.target),
    }
}

fn head(client: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (client.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    Some(head)
}

fn pass(head: &str, behind: &str, client: &mut TcpStream, limit: u64) -> Option<()> {
    std::io::copy(&mut ask(head, behind)?.take(limit), client).ok()?;
    Some(())
}

fn damage(head: &str, behind: &str, client: &mut TcpStream, at: u64) -> Option<()> {
    let mut server = ask(head, behind)?;
    std::io::copy(&mut (&mut server).take(at), client).ok()?;
    let mut byte = [0];
    server.read_exact(&mut byte).ok()?;
    client.write_all(&[byte[0] ^ 1]).ok()?;
    std::io::copy(&mut server, client).ok().map(drop)
}

/// Sends the request to the server, which closes the connection after its answer.
fn ask(head: &str, behind: &str) -> Option<TcpStream> {
    let mut server = TcpStream::connect(behind).ok()?;
    let once = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    server.write_all(once.as_bytes()).ok()?;
    Some(server)
}

fn answer(client: &mut TcpStream, status: &str, headers: &[(&str, String)], body: &[u8]) -> Option<()> {
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
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        std::io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(std::net::Shutdown::Write).ok();
    });
    std::io::copy(&mut server, client).ok();
    Some(())
}
