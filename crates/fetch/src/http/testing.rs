//! Servers for tests, which answer with given bytes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::thread::JoinHandle;

/// A server that answers one request with these bytes; its address, and the request.
pub(super) fn serve(answer: Vec<u8>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let count = stream.read(&mut request).unwrap();
        // Ignored: the client may have seen enough.
        let _ = stream.write_all(&answer);
        String::from_utf8_lossy(&request[..count]).into_owned()
    });
    (address, served)
}
