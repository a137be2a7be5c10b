//! How a DHCP client talks to servers: it sends from its port, and receives what arrives on the interface.
//!
//! Containers share the machine's network. One that binds the client's port, too, gets the answers in its place, and it can
//! send to the machine from the machine's own address. So the client reads the packets of the interface itself, as other
//! DHCP clients do: no other program can take them, and what this machine sends to itself is not among them.

use super::interfaces::Interface;
use anyhow::Context as _;
use dhcp::Datagram;
use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Bytes of the longest headers before a message: IPv4's with options (RFC 791, section 3.1), and UDP's.
const LONGEST_HEADERS: usize = 60 + 8;
/// Bytes of the longest message that is received.
const LONGEST: usize = dhcp::LARGEST_MESSAGE + 1;
/// The filter's answers: the whole packet, and nothing.
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// The version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// A client's port on one interface.
pub(super) struct Channel {
    sending: UdpSocket,
    packets: OwnedFd,
    port: u16,
}

impl Channel {
    /// Takes this UDP port of an interface.
    ///
    /// # Errors
    /// When there is no such interface any more, or the kernel has no packet sockets.
    pub(super) fn open(interface: &Interface, version: Version, port: u16) -> anyhow::Result<Self> {
        let sending = open_udp(&interface.name, version, port)
            .with_context(|| format!("cannot open a socket on `{}`", interface.name))?;
        let packets = open_packets(interface.index, version, port)
            .with_context(|| format!("cannot open a packet socket on `{}`", interface.name))?;
        Ok(Self { sending, packets, port })
    }

    pub(super) fn send(&self, message: &[u8], to: SocketAddr) -> io::Result<()> {
        self.sending.send_to(message, to).map(drop)
    }

    /// Passes what arrives within `wait` to `read`; `None` for a packet that is no message to this port.
    pub(super) fn receive<T>(
        &self,
        wait: Duration,
        read: impl FnOnce(SocketAddr, &[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        // One byte more than allowed, to detect messages that are too large.
        let mut buffer = [0; LONGEST_HEADERS + LONGEST];
        set_socket_timeout(&self.packets, Timeout::Recv, Some(wait))?;
        let received = sys::receive_packet(&self.packets, &mut buffer)?;
        if !received.is_incoming {
            return Ok(None);
        }
        let packet = buffer.get(..received.length).unwrap_or_default();
        let datagram = Datagram::parse(packet).filter(|datagram| datagram.port == self.port);
        Ok(datagram.and_then(|datagram| read(datagram.from, datagram.payload)))
    }
}

fn open_udp(interface: &str, version: Version, port: u16) -> io::Result<UdpSocket> {
    let (family, anywhere): (_, IpAddr) = match version {
        Version::V4 => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        Version::V6 => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // An installer's own DHCP client may use the port, too.
    set_socket_reuseaddr(&socket, true)?;
    if version == Version::V6 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sys::bind_to_interface(&socket, interface)?;
    // A container may keep the port to itself. Servers answer to the client's port, wherever the question came from.
    match rustix::net::bind(&socket, &SocketAddr::new(anywhere, port)) {
        Err(Errno::ADDRINUSE) => rustix::net::bind(&socket, &SocketAddr::new(anywhere, 0))?,
        bound => bound?,
    }
    let socket = UdpSocket::from(socket);
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// It receives nothing before it has its filter.
fn open_packets(interface: u32, version: Version, port: u16) -> io::Result<OwnedFd> {
    let (protocol, filter) = match version {
        Version::V4 => (libc::ETH_P_IP, ipv4_to(port)),
        Version::V6 => (libc::ETH_P_IPV6, ipv6_to(port)),
    };
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::attach_filter(&socket, &filter)?;
    sys::bind_to_packets(&socket, interface, protocol as u16)?;
    Ok(socket)
}

/// Unfragmented UDP over IPv4 to a port. Without it, the packets of a download would fill the socket.
fn ipv4_to(port: u16) -> Vec<libc::sock_filter> {
    vec![
        instruction(BPF_LD | BPF_B | BPF_ABS, 9, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, libc::IPPROTO_UDP as u32, 0, 6),
        instruction(BPF_LD | BPF_H | BPF_ABS, 6, 0, 0),
        instruction(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 4, 0),
        instruction(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
        instruction(BPF_LD | BPF_H | BPF_IND, 2, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, port.into(), 0, 1),
        instruction(BPF_RET | BPF_K, ALL, 0, 0),
        instruction(BPF_RET | BPF_K, NOTHING, 0, 0),
    ]
}

/// UDP over IPv6, without extension headers, to a port.
fn ipv6_to(port: u16) -> Vec<libc::sock_filter> {
    vec![
        instruction(BPF_LD | BPF_B | BPF_ABS, 6, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, libc::IPPROTO_UDP as u32, 0, 3),
        instruction(BPF_LD | BPF_H | BPF_ABS, 42, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, port.into(), 0, 1),
        instruction(BPF_RET | BPF_K, ALL, 0, 0),
        instruction(BPF_RET | BPF_K, NOTHING, 0, 0),
    ]
}

/// An instruction of the classic BPF (Documentation/networking/filter.rst): the code, its number, and how many instructions
/// a jump skips if the condition is true and if it is false.
fn instruction(code: u32, number: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k: number }
}

#[cfg(test)]
mod tests {
    use super::super::segment::{Segment, run};
    use super::*;
    use std::fs;
    use std::net::SocketAddrV6;
    use std::time::Instant;

    /// What a container can do whose network is the machine's: bind the same port, and send from the server's.
    #[test]
    fn no_program_of_this_machine_takes_or_forges_an_answer() {
        for (version, machine, server, everybody) in [
            (Version::V4, "10.9.0.5", "10.9.0.2", "255.255.255.255"),
            (Version::V6, "fe80::5", "fe80::2", "ff02::1"),
        ] {
            let Some(segment) = Segment::enter() else { return };
            run("ip link set v0 up");
            let prefix = if version == Version::V4 { 24 } else { 64 };
            let is_ready = if version == Version::V4 { "" } else { " nodad" };
            run(&format!("ip address add {machine}/{prefix} dev v0{is_ready}"));
            segment.run(&format!("ip address add {server}/{prefix} dev v1{is_ready}"));
            let interface = segment.interface();
            let channel = Channel::open(&interface, version, 68).unwrap();
            let thief = open_udp("v0", version, 68).unwrap();
            // Nobody else can bind the port after that, but packets come without it.
            set_socket_reuseaddr(&thief, false).unwrap();
            drop(channel);
            let channel = Channel::open(&interface, version, 68).unwrap();
            let forger = open_udp("v0", version, 67).unwrap();
            for to in [machine, everybody] {
                let to = match to.parse().unwrap() {
                    IpAddr::V4(to) => (to, 68).into(),
                    IpAddr::V6(to) => SocketAddr::V6(SocketAddrV6::new(to, 68, 0, interface.index)),
                };
                forger.send_to(b"forged", to).unwrap();
            }
            let script = segment.home().join("answer");
            let zone = if version == Version::V4 { "" } else { "%v1" };
            fs::write(&script, format!("printf answer > /dev/udp/{machine}{zone}/68\n")).unwrap();
            segment.run(&format!("bash {}", script.display()));
            let begin = Instant::now();
            let received = loop {
                assert!(begin.elapsed() < Duration::from_secs(10), "the answer does not arrive");
                let text = |_, message: &[u8]| Some(String::from_utf8(message.to_vec()).unwrap());
                if let Some(text) = channel.receive(Duration::from_secs(5), text).unwrap() {
                    break text;
                }
            };
            assert_eq!(received, "answer");
            drop(thief);
        }
    }
}
