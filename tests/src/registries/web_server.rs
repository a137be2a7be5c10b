//! A web server on loopback with the content of a scenario. It can also be told to misbehave.

use crate::HOST;
use crate::authority::Authority;
use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time after which an idle client is disconnected; longer than any client waits for an answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(300);

/// A running server; stopped when dropped.
pub struct WebServer {
    address: SocketAddr,
    scheme: &'static str,
    pages: Pages,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

type Pages = Arc<Mutex<HashMap<String, Answer>>>;

#[derive(Clone)]
enum Answer {
    Page(Vec<u8>),
    Silence,
}

impl WebServer {
    /// Serves http.
    pub fn plain() -> Result<WebServer> {
        WebServer::start(None)
    }

    /// Serves https, with the certificate that `authority` vouches for.
    pub fn tls(authority: &Authority) -> Result<WebServer> {
        let chain =
            CertificateDer::pem_file_iter(authority.server_certificate())?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(authority.server_key())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        WebServer::start(Some(Arc::new(config)))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Result<WebServer> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port to serve on")?;
        let address = listener.local_addr()?;
        let pages = Pages::default();
        let closing = Arc::new(AtomicBool::new(false));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let acceptor = std::thread::spawn({
            let (pages, closing) = (pages.clone(), closing.clone());
            move || accept(&listener, tls.as_ref(), &pages, &closing)
        });
        Ok(WebServer { address, scheme, pages, closing, acceptor: Some(acceptor) })
    }

    /// Serves `text` at `path`; returns the URL for guests.
    pub fn serve(&self, path: &str, text: impl Into<Vec<u8>>) -> String {
        self.answer(path, Answer::Page(text.into()))
    }

    /// Accepts requests for `path` and never answers; returns its URL.
    pub fn silence(&self, path: &str) -> String {
        self.answer(path, Answer::Silence)
    }

    /// The URL of `path`, served or not.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{HOST}:{}{path}", self.scheme, self.address.port())
    }

    fn answer(&self, path: &str, answer: Answer) -> String {
        if let Ok(mut pages) = self.pages.lock() {
            pages.insert(path.to_owned(), answer);
        }
        self.url(path)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, pages: &Pages, closing: &AtomicBool) {
    for stream in listener.incoming().flatten() {
        if closing.load(Ordering::SeqCst) {
            return;
        }
        stream.set_read_timeout(Some(CLIENT_LIMIT)).ok();
        let (tls, pages) = (tls.cloned(), pages.clone());
        std::thread::spawn(move || match tls {
            Some(config) => ServerConnection::new(config).map_or((), |session| {
                converse(StreamOwned::new(session, stream), &pages);
            }),
            None => converse(stream, &pages),
        });
    }
}

fn converse(stream: impl Read + Write, pages: &Pages) {
    let mut stream = BufReader::new(stream);
    let Some(path) = requested_path(&mut stream) else { return };
    let answer = pages.lock().ok().and_then(|pages| pages.get(&path).cloned());
    let (status, body) = match answer {
        Some(Answer::Silence) => return until_closed(stream),
        Some(Answer::Page(body)) => ("200 OK", body),
        None => ("404 Not Found", b"no such page\n".to_vec()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let stream = stream.get_mut();
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body))
        .and_then(|()| stream.flush())
        .ok();
}

fn until_closed(mut stream: impl Read) {
    std::io::copy(&mut stream, &mut std::io::sink()).ok();
}

/// The path in the request line, after the whole head was read.
fn requested_path(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (stream.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    head.split(' ').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(web_server: &WebServer, path: &str) -> String {
        let mut stream = TcpStream::connect(web_server.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pages_are_served_and_others_are_not_found() {
        let web_server = WebServer::plain().unwrap();
        assert!(web_server.serve("/a", "hello").ends_with("/a"));
        assert!(get(&web_server, "/a").ends_with("\r\n\r\nhello"));
        assert!(get(&web_server, "/b").starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn silence_accepts_the_request_and_never_responds() {
        let web_server = WebServer::plain().unwrap();
        web_server.silence("/quiet");
        let mut stream = TcpStream::connect(web_server.address).unwrap();
        stream.write_all(b"GET /quiet HTTP/1.1\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
