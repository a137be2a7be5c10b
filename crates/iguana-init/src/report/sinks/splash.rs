//! The splash screen, if there is one: plymouth, as in dracut's initrds.
//!
//! Containers share the host's network namespace, and so its abstract sockets: any container could listen in plymouth's
//! place. Therefore there is only one connection, made before the first container; the peer's identity is checked
//! anyway, and the peer cannot make this program wait.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with, sockopt,
};
use std::fs;
use std::path::Path;

/// The abstract socket on which plymouthd listens.
const SOCKET: &[u8] = b"/org/freedesktop/plymouthd";
/// The request to show a message; one argument follows (plymouth, src/ply-boot-protocol.h).
const MESSAGE: &[u8] = b"M\x02";
/// Bytes of an argument: its length is stored in one byte, and includes the zero at the end.
const LENGTH_LIMIT: usize = 254;
/// Bytes of answers that are discarded before each request. An answer is one byte.
const ANSWERS_LIMIT: usize = 4096;

/// A connection to plymouth.
#[derive(Debug)]
pub(super) struct Splash(OwnedFd);

impl Splash {
    /// Connects to the host's splash screen, if there is one. Call this only before the first container.
    pub(super) fn connect() -> Option<Self> {
        Self::connect_to(SOCKET)
    }

    fn connect_to(name: &[u8]) -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        connect(&socket, &SocketAddrUnix::new_abstract_name(name).ok()?).ok()?;
        let peer = sockopt::socket_peercred(&socket).ok()?;
        let is_of_host = peer.uid.is_root() && shares_namespaces(peer.pid.as_raw_pid());
        is_of_host.then_some(Self(socket))
    }

    /// Shows a line; `false` if the connection is lost.
    pub(super) fn show(&self, line: &str) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.forget_answers() && {
            let request = request(line);
            match send(&self.0, &request, flags) {
                // After a partial request, the next one would be misread.
                Ok(sent) => sent == request.len(),
                Err(error) => error == Errno::AGAIN,
            }
        }
    }

    /// Discards answers: unread, they would fill the connection and block plymouth.
    fn forget_answers(&self) -> bool {
        let mut answers = [0; ANSWERS_LIMIT];
        match recv(&self.0, &mut answers[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => false,
            Ok(_) | Err(Errno::AGAIN) => true,
            Err(_) => false,
        }
    }
}

/// Whether a process is one of the host and not of a container, which has namespaces of its own.
fn shares_namespaces(process: i32) -> bool {
    let namespace =
        |of: &str, name: &str| fs::read_link(Path::new("/proc").join(of).join("ns").join(name)).ok();
    ["mnt", "pid", "user"].iter().all(|name| {
        let own = namespace("self", name);
        own.is_some() && own == namespace(&process.to_string(), name)
    })
}

fn request(line: &str) -> Vec<u8> {
    let line = &line[..line.floor_char_boundary(LENGTH_LIMIT)];
    let length = line.len() as u8 + 1;
    [MESSAGE, &[length], line.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::process::{Command, Stdio};

    #[test]
    fn a_line_has_its_length_before_it() {
        assert_eq!(request("copying"), b"M\x02\x08copying\0");
        assert_eq!(request(&"ä".repeat(200)).len(), 4 + 254);
    }

    #[test]
    fn a_splash_screen_gets_text_and_cannot_block_the_boot() {
        let name = format!("iguana-splash-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let observer = UnixListener::bind_addr(&address).unwrap();
        let splash = Splash::connect_to(name.as_bytes()).unwrap();
        let (mut plymouth, _) = observer.accept().unwrap();
        assert!(splash.show("copying"));
        let mut request = [0; 11];
        plymouth.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"M\x02\x08copying\0");
        // The peer does not read.
        (0..100_000).for_each(|_| assert!(splash.show("more")));
        drop(plymouth);
        assert!(!splash.show("gone"));
    }

    #[test]
    fn a_container_that_imitates_the_splash_screen_gets_nothing() {
        let name = format!("iguana-thief-{}", std::process::id());
        let script = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
            bind($s, pack_sockaddr_un(\"\\0$ARGV[0]\")) or die; listen($s, 5) or die;
            $| = 1; print qq(ready\\n); accept(my $c, $s); sysread($c, my $said, 9); print qq(heard $said);";
        // Like a container with `pid: host`: only its mount namespace is its own.
        let mut thief = Command::new("unshare")
            .args(["--mount", "perl", "-e", script, &name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 6];
        thief.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"ready\n");
        assert!(Splash::connect_to(name.as_bytes()).is_none());
        let mut heard = String::new();
        thief.stdout.as_mut().unwrap().read_to_string(&mut heard).unwrap();
        thief.wait().unwrap();
        assert_eq!(heard, "heard ");
    }
}
