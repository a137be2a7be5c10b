//! The protocol between the host side and the PID 1 of a container: one line of JSON per message, over a stream socket.
//! A descriptor is sent with the first byte of its message.

use super::plan::{Ipc, Mount};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::PathBuf;

/// Bytes received at once; most requests for a step are smaller.
const BLOCK: usize = 16 << 10;
/// Descriptors that one read can return: a read ends with the message that brought one.
const DESCRIPTORS_AT_ONCE: usize = 1;

/// A request to the zygote for a copy. The socket for the copy's requests comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SpawnRequest {
    /// The copy stays in the host's PID namespace; otherwise it is PID 1 of its own.
    pub(super) pid_host: bool,
    /// The directory of the cgroup v2 in which it starts.
    pub(super) cgroup: Option<PathBuf>,
}

/// The first message to a copy: the root to build. Answered by [`ProgramReply::Ready`] or [`ProgramReply::Refused`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The lowest first.
    pub(super) layers: Vec<PathBuf>,
    pub(super) ipc: Ipc,
    pub(super) scratch: PathBuf,
    pub(super) mounts: Vec<Mount>,
    /// Links in it are resolved inside it.
    pub(super) new_root: PathBuf,
    /// Directories in which links on the path of a volume, and of its target, are refused.
    pub(super) writable_by_others: Vec<PathBuf>,
    /// The image's working directory: created before the root may become read-only.
    pub(super) directory: String,
    pub(super) read_only: bool,
    pub(super) privileged: bool,
    pub(super) handover: bool,
    /// For an init system: the directory of the cgroup that becomes the root of its cgroup namespace.
    pub(super) cgroup_of_init: Option<PathBuf>,
    /// PID 1 is not killed when the container's own memory limit is reached.
    pub(super) spare_init: bool,
}

/// All later messages to PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ProgramRequest {
    /// Starts a program. A descriptor comes with it: the program's standard output and error. Answered by
    /// [`ProgramReply::Started`] or [`ProgramReply::NotStarted`].
    Run(Execution),
    /// Sends a signal to the program's whole process group.
    Signal { id: u64, signal: i32 },
    /// Answered by [`ProgramReply::Pong`].
    Ping,
}

/// One program, with all choices resolved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Execution {
    /// Chosen by the host side.
    pub(super) id: u64,
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) directory: String,
    pub(super) user: String,
    /// The descriptor is a terminal, and becomes the controlling terminal.
    pub(super) has_terminal: bool,
    /// It is the container's init system.
    pub(super) is_init: bool,
}

/// The replies of PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ProgramReply {
    /// The root is built.
    Ready,
    /// The root cannot be built.
    Refused(Refusal),
    /// The program runs.
    Started {
        id: u64,
    },
    NotStarted {
        id: u64,
        refusal: Refusal,
    },
    /// The program has ended; a status of 128 and more stands for a signal, as in shells.
    ProgramExit {
        id: u64,
        status: u8,
    },
    /// The container's init system has called reboot(2), which the kernel reports as its end by this signal.
    Rebooted {
        id: u64,
        signal: i32,
    },
    /// PID 1 handles requests.
    Pong,
}

/// Why a root was not built or a program not started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    chain: Vec<String>,
    hint: Option<String>,
}

impl Refusal {
    pub(super) fn of(error: &anyhow::Error) -> Self {
        Self {
            chain: error.chain().map(ToString::to_string).collect(),
            hint: hint::of(error).map(Into::into),
        }
    }

    pub(super) fn into_error(self) -> anyhow::Error {
        let mut causes = self.chain.into_iter().rev();
        let innermost = anyhow::Error::msg(causes.next().unwrap_or_default());
        let error = causes.fold(innermost, |error, context| error.context(context));
        match self.hint {
            Some(hint) => hint::attach(error, hint),
            None => error,
        }
    }
}

/// Sends one message, and a descriptor with it.
///
/// # Errors
/// When the peer is gone, or does not read within the socket's write timeout; a part may be sent.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    // JSON contains no line break, so it can end a message.
    let line = serde_json::to_string(message)? + "\n";
    let mut rest = line.as_bytes();
    let descriptor: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptor.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptor));
    }
    while !rest.is_empty() {
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&socket, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL)
        })?;
        rest = &rest[sent..];
        ancillary.clear();
    }
    Ok(())
}

/// Sends one short message without waiting.
///
/// # Errors
/// When the peer is gone, or has not read earlier messages.
pub(super) fn send_at_once(socket: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(message)? + "\n";
    // The kernel queues a message of less than a page whole or not at all.
    rustix::net::send(socket, line.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// The received bytes and descriptors that are not taken yet.
#[derive(Debug)]
pub(super) struct Inbox {
    socket: OwnedFd,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Inbox {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, bytes: Vec::new(), descriptors: VecDeque::new() }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Waits for the next bytes; `false` when the peer is gone.
    pub(super) fn receive(&mut self) -> io::Result<bool> {
        let mut block = [0; BLOCK];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let blocks = &mut [IoSliceMut::new(&mut block)];
            recvmsg(&self.socket, blocks, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend_from_slice(&block[..received.bytes]);
        Ok(received.bytes > 0)
    }

    /// The oldest message, if it is complete.
    pub(super) fn next<M: DeserializeOwned>(&mut self) -> Option<serde_json::Result<M>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Some(serde_json::from_slice(&line))
    }

    /// Waits for the next message.
    pub(super) fn wait_for_next<M: DeserializeOwned>(&mut self) -> io::Result<M> {
        loop {
            if let Some(message) = self.next() {
                return Ok(message?);
            }
            if !self.receive()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The descriptor that came with the message that was taken last.
    pub(super) fn descriptor(&mut self) -> io::Result<OwnedFd> {
        self.descriptors.pop_front().ok_or_else(|| io::Error::other("the request has no file descriptor"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::net::UnixStream;
    use std::thread;

    #[test]
    fn a_refusal_is_transmitted_with_chain_and_hint() {
        let error = hint::attach(anyhow::anyhow!("inner").context("outer"), "do this");
        let text = serde_json::to_string(&Refusal::of(&error)).unwrap();
        let error = serde_json::from_str::<Refusal>(&text).unwrap().into_error();
        assert_eq!(format!("{error:#}"), "outer: inner");
        assert_eq!(hint::of(&error), Some("do this"));
    }

    #[test]
    fn long_messages_arrive_whole_each_with_its_own_descriptor() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // Longer than a socket buffer, with line breaks inside.
        let long = "a line\n".repeat(100_000);
        let messages: Vec<String> = vec![long, "second".into(), "third".into()];
        let to_send = messages.clone();
        let sender = thread::spawn(move || {
            for (message, path) in to_send.iter().zip(["/dev/null", "/dev/zero", "/dev/full"]) {
                let file = File::open(path).unwrap();
                send(&ours, message, Some(file.as_fd())).unwrap();
            }
        });
        let mut inbox = Inbox::new(theirs.into());
        let mut devices = Vec::new();
        let mut received = Vec::new();
        while inbox.receive().unwrap() {
            while let Some(message) = inbox.next::<String>() {
                received.push(message.unwrap());
                let descriptor = inbox.descriptor().unwrap();
                devices.push(rustix::fs::minor(rustix::fs::fstat(&descriptor).unwrap().st_rdev));
            }
        }
        sender.join().unwrap();
        assert_eq!(received, messages);
        // Documentation/admin-guide/devices.txt: null, zero, full.
        assert_eq!(devices, [3, 5, 7]);
        assert!(inbox.descriptor().is_err());
    }
}
