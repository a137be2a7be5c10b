//! Ends the programs of a container when the host side is gone, whatever its PID 1 is doing. PID 1 waits for each new
//! process until it executes its program, and another program of the container can stop that process (SIGSTOP).

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use std::thread;
use std::time::Duration;

/// Time between two rounds: a killed process may have children that are not known yet.
const ROUND: Duration = Duration::from_millis(100);
/// Bytes of the thread's stack, which every container has.
const STACK: usize = 64 << 10;

/// Calls `kill` again and again once the other end of the socket is closed, in a thread that ends with the process.
///
/// # Errors
/// When the kernel allows no thread.
pub(super) fn begin(socket: OwnedFd, kill: impl Fn() + Send + 'static) -> io::Result<()> {
    let watch = move || {
        wait_for_close(socket);
        loop {
            kill();
            thread::sleep(ROUND);
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(watch).map(drop)
}

fn wait_for_close(socket: impl AsFd) {
    // Without any events: the close is always reported, and requests are for PID 1.
    let mut waited_for = [PollFd::new(&socket, PollFlags::empty())];
    // Ignored: then the container is ended too early.
    let _ = rustix::io::retry_on_intr(|| poll(&mut waited_for, None));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    #[test]
    fn nothing_is_killed_before_the_host_side_is_gone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (killed, is_killed) = channel();
        begin(ours.into(), move || {
            let _ = killed.send(());
        })
        .unwrap();
        theirs.write_all(b"request").unwrap();
        assert!(is_killed.recv_timeout(Duration::from_millis(200)).is_err());
        drop(theirs);
        is_killed.recv_timeout(Duration::from_secs(30)).unwrap();
    }
}
