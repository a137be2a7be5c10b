use super::*;
use crate::report::Level;
use dhcp::LARGEST_MESSAGE;
use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};

/// Message types in answers built with [`head`].
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// How long a client may take to get a lease that is offered at once.
const SOON: Duration = Duration::from_secs(8);

/// The fixed fields of the answer to `question`, with an address (RFC 2131, section 2).
fn head(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut answer = question[..240].to_vec();
    answer[0] = 2;
    answer[16..20].copy_from_slice(&address);
    answer
}

/// A complete answer: the type, a lease of four seconds (real leases last at least two minutes), and more options.
fn answer(question: &[u8], address: [u8; 4], kind: u8, options: &[u8]) -> Vec<u8> {
    [&head(question, address)[..], &[53, 1, kind, 51, 4, 0, 0, 0, 4], options, &[255]].concat()
}

fn is_discover(question: &[u8]) -> bool {
    question[242] == 1
}

/// The answer of a correct server.
fn honest(question: &[u8]) -> Vec<u8> {
    answer(question, [10, 0, 2, 15], if is_discover(question) { OFFER } else { ACK }, &[])
}

/// The leases that a client gets in a network whose server answers each request with `serve`. `None` unless run as
/// root, because only root can create a network namespace.
fn leases_from(
    serve: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    take: impl Fn(&Lease) -> Taken + Send + 'static,
) -> Option<Receiver<(Lease, Instant)>> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    super::super::netlink::Netlink::open().unwrap().set_up(1).unwrap();
    let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).unwrap();
    sys::bind_to_interface(&server, "lo").unwrap();
    server.set_broadcast(true).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; LARGEST_MESSAGE];
        while let Ok(count) = server.recv(&mut buffer) {
            for answer in serve(&buffer[..count]) {
                // A message larger than the interface's MTU may be refused.
                let _ = server.send_to(&answer, (Ipv4Addr::BROADCAST, CLIENT_PORT));
            }
        }
    });
    Some(ask_on_loopback(take))
}

fn ask_on_loopback(take: impl Fn(&Lease) -> Taken + Send + 'static) -> Receiver<(Lease, Instant)> {
    let interface = Interface { index: 1, name: "lo".into(), hardware_address: [2; 6], has_carrier: true };
    let (sender, receiver) = channel();
    thread::spawn(move || {
        hold_lease(&interface, &Report::to_caller(Level::Error), |lease| {
            let taken = take(&lease);
            match sender.send((lease, Instant::now())) {
                Ok(()) => taken,
                Err(_) => Taken::NotWanted,
            }
        })
    });
    receiver
}

fn next(leases: &Receiver<(Lease, Instant)>) -> (Lease, Instant) {
    leases.recv_timeout(SOON).expect("no lease in time")
}

#[test]
fn a_lease_is_renewed_before_it_ends() {
    let Some(leases) = leases_from(|question| vec![honest(question)], |_| Taken::Kept) else { return };
    let leases = [next(&leases), next(&leases), next(&leases)];
    assert!(leases.iter().all(|(lease, _)| lease.address == Ipv4Addr::new(10, 0, 2, 15)), "{leases:?}");
    let between = leases[2].1 - leases[1].1;
    assert!((1.5..3.5).contains(&between.as_secs_f32()), "renewed after {between:?} instead of 2 s");
}

#[test]
fn malicious_answers_do_not_prevent_a_good_one() {
    let serve = |question: &[u8]| {
        // Few enough for the socket's buffer. If a flood overflowed it, the client would ask again.
        let with_length = |length: u8| {
            let mut answer = honest(question);
            answer[2] = length;
            answer
        };
        let mut answers: Vec<Vec<u8>> = [0, 1, 5, 7, 16, 17, 128, 255].map(with_length).to_vec();
        let good = honest(question);
        answers.extend((0..good.len() - 1).step_by(7).map(|length| good[..length].to_vec()));
        answers.push(answer(question, [127, 0, 0, 1], good[242], &[]));
        answers.push(answer(question, [10, 0, 2, 66], good[242], &[6, 250]));
        answers.push([&good[..], &[0; 8000]].concat());
        answers.push(good);
        answers
    };
    let Some(leases) = leases_from(serve, |_| Taken::Kept) else { return };
    let begin = Instant::now();
    let (first, _) = next(&leases);
    assert_eq!(first.address, Ipv4Addr::new(10, 0, 2, 15));
    assert!(begin.elapsed() < SOON / 2, "{:?}", begin.elapsed());
    assert_eq!(next(&leases).0.address, Ipv4Addr::new(10, 0, 2, 15), "after a renewal");
}

#[test]
fn an_address_that_the_kernel_refuses_is_requested_again() {
    let questions = std::sync::atomic::AtomicU8::new(0);
    let serve = move |question: &[u8]| {
        // Offer another address for each DISCOVER.
        let number =
            questions.fetch_add(u8::from(is_discover(question)), std::sync::atomic::Ordering::Relaxed);
        let last = number + u8::from(is_discover(question));
        vec![answer(question, [10, 0, 2, last], if is_discover(question) { OFFER } else { ACK }, &[])]
    };
    let refuse_the_first = |lease: &Lease| match lease.address.octets() {
        [.., 1] => Taken::Refused,
        _ => Taken::Kept,
    };
    let Some(leases) = leases_from(serve, refuse_the_first) else { return };
    let addresses = [next(&leases).0, next(&leases).0].map(|lease| lease.address.octets()[3]);
    assert_eq!(addresses, [1, 2]);
}

#[test]
fn a_server_that_declines_everything_is_asked_with_pauses() {
    let (asked, questions) = channel();
    let serve = move |question: &[u8]| {
        let _ = asked.send(());
        // A NAK needs a server identifier.
        let offers_and_refuses = if is_discover(question) { OFFER } else { NAK };
        vec![answer(question, [10, 0, 2, 15], offers_and_refuses, &[54, 4, 10, 0, 2, 2])]
    };
    let Some(leases) = leases_from(serve, |_| Taken::Kept) else { return };
    assert!(leases.recv_timeout(Duration::from_secs(4)).is_err());
    let count = questions.try_iter().count();
    assert!((4..=12).contains(&count), "{count} questions in 4 s");
}

/// A server that needs five seconds for each message: relays and servers that probe addresses do.
#[test]
fn a_server_slower_than_the_retransmissions_gives_a_lease() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    super::super::netlink::Netlink::open().unwrap().set_up(1).unwrap();
    let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).unwrap();
    sys::bind_to_interface(&server, "lo").unwrap();
    server.set_broadcast(true).unwrap();
    let (asked, questions) = channel();
    thread::spawn(move || {
        let mut buffer = [0; LARGEST_MESSAGE];
        while let Ok(count) = server.recv(&mut buffer) {
            let (question, server) = (buffer[..count].to_vec(), server.try_clone().unwrap());
            asked.send(question.clone()).unwrap();
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(5));
                server.send_to(&honest(&question), (Ipv4Addr::BROADCAST, CLIENT_PORT)).unwrap();
            });
        }
    });
    let begin = Instant::now();
    let leases = ask_on_loopback(|_| Taken::Kept);
    leases.recv_timeout(Duration::from_secs(20)).expect("no lease from a slow server");
    assert!(begin.elapsed() < Duration::from_secs(14), "{:?}", begin.elapsed());
    let questions: Vec<_> = questions.try_iter().collect();
    let transactions: HashSet<&[u8]> = questions.iter().map(|question| &question[4..8]).collect();
    assert_eq!(transactions.len(), 1, "{transactions:?}");
    let seconds: Vec<u8> = questions.iter().map(|question| question[9]).collect();
    assert!(seconds.is_sorted() && seconds[0] == 0 && seconds.last() > Some(&3), "{seconds:?}");
    assert!((4..=8).contains(&questions.len()), "{} questions", questions.len());
}
