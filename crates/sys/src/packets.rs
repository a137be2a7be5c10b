//! Packet sockets (packet(7)): what arrives on an interface, before any other program can take it.

use super::check;
use rustix::fd::{AsFd, AsRawFd as _};
use std::ffi::c_int;
use std::io;

/// A packet of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it in the buffer; the rest was cut off.
    pub length: usize,
    /// It came from outside for this machine; otherwise it is for another one, or is one that this machine sends.
    pub is_incoming: bool,
}

/// Has a packet socket receive the packets of one interface with this protocol (linux/if_ether.h, `ETH_P_*`).
///
/// # Errors
/// When there is no such interface.
pub fn bind_to_packets(socket: impl AsFd, interface: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface as c_int;
    let descriptor = socket.as_fd().as_raw_fd();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the address, which is alive.
    check(unsafe { libc::bind(descriptor, (&raw const address).cast(), length) }).map(drop)
}

/// Has a socket receive only what this program of the classic BPF accepts (socket(7), `SO_ATTACH_FILTER`).
///
/// # Errors
/// When the kernel rejects the program.
pub fn attach_filter(socket: impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, which is alive, and does not change it.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Receives a packet from a packet socket.
///
/// # Errors
/// When none comes within the socket's timeout, or the interface went down.
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most the sizes that are passed, of memory that is alive.
    let length = unsafe {
        libc::recvfrom(
            socket.as_fd().as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let incoming = [libc::PACKET_HOST, libc::PACKET_BROADCAST, libc::PACKET_MULTICAST];
    let is_incoming = incoming.contains(&from.sll_pkttype);
    Ok(Received { length, is_incoming })
}
