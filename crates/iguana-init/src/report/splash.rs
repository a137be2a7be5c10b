//! The splash screen, where there is one: plymouth, as in dracut's initrds.

use std::io::{self, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};

/// Where plymouthd listens, in the abstract namespace.
const SOCKET: &str = "/org/freedesktop/plymouthd";
/// Its request to show a message; one argument follows (plymouth, src/ply-boot-protocol.h).
const MESSAGE: &[u8] = b"M\x02";
/// Bytes of an argument: its length is one byte, the zero at its end included.
const LENGTH_LIMIT: usize = 254;

/// Shows a line. Without a splash screen there is nobody to be told.
pub(super) fn show(line: &str) {
    let _ = tell(line);
}

fn tell(line: &str) -> io::Result<()> {
    let mut plymouth = UnixStream::connect_addr(&SocketAddr::from_abstract_name(SOCKET)?)?;
    plymouth.set_nonblocking(true)?;
    plymouth.write_all(&request(line))
}

fn request(line: &str) -> Vec<u8> {
    let line = &line[..line.floor_char_boundary(LENGTH_LIMIT)];
    let length = line.len() as u8 + 1;
    [MESSAGE, &[length], line.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_length_before_it() {
        assert_eq!(request("copying"), b"M\x02\x08copying\0");
        assert_eq!(request(&"ä".repeat(200)).len(), 4 + 254);
    }
}
