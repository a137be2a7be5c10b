//! Hostile name servers and a running system. The system's getaddrinfo(3) parses addresses; Iguana only reads the
//! response code. The tests show that no answer ends the process, and that every wait ends.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test tells how far it is, and what it compared"
)]

use anyhow::{Context as _, Result};
use fetch::http::{Client, DOCUMENT_TIME_LIMIT, Deadline};
use fetch::tls::Roots;
use iguana_lab::name_server::{A, ASKED, FOUND, answer, record};
use iguana_lab::process::{self, QUICK};
use nix::sched::{CloneFlags, unshare};
use retry::Failure;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The answers of a name server to a question, as UDP packets.
type ByUdp = fn(&[u8]) -> Vec<Vec<u8>>;
/// The answer by TCP in bytes; an empty one keeps the connection open without an answer.
type ByTcp = fn(&[u8]) -> Vec<u8>;

/// A boxed [`ByUdp`].
type Answerer = Box<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send>;

/// Time limit for a lookup with the options of [`ask`]: a second for each of two addresses, and a margin.
const LIMIT: Duration = Duration::from_secs(15);

const CUT_OFF: u16 = 0x8380;
const CNAME: u16 = 5;

const MALICIOUS_SERVERS: &[(&str, ByUdp, ByTcp)] = &[
    ("nothing", |_| vec![], no_tcp),
    ("an empty packet", |_| vec![vec![]], no_tcp),
    ("noise", |question| vec![vec![0xff; 512], [&question[..2], &[0xff; 500][..]].concat()], no_tcp),
    ("the question", |question| vec![question.to_vec()], no_tcp),
    (
        "an answer to another question",
        |question| {
            let mut other = answer(question, FOUND, 1, &record(ASKED, A, &[127, 0, 0, 1]));
            other[0] ^= 1;
            vec![other]
        },
        no_tcp,
    ),
    ("records that are not there", |question| vec![answer(question, FOUND, 0xffff, &[])], no_tcp),
    (
        "a name that points to itself",
        |question| {
            let here = question.len().min(255) as u8;
            vec![answer(question, FOUND, 1, &record(&[0xc0, here], A, &[127, 0, 0, 1]))]
        },
        no_tcp,
    ),
    ("an alias of itself", |question| vec![answer(question, FOUND, 1, &record(ASKED, CNAME, ASKED))], no_tcp),
    (
        "aliases in a circle",
        |question| {
            let there = [3, b'x', b'y', b'z', 0];
            let circle = [record(ASKED, CNAME, &there), record(&there, CNAME, ASKED)].concat();
            vec![answer(question, FOUND, 2, &circle)]
        },
        no_tcp,
    ),
    (
        "an address of five bytes",
        |question| vec![answer(question, FOUND, 1, &record(ASKED, A, &[1; 5]))],
        no_tcp,
    ),
    (
        "data longer than the packet",
        |question| {
            let mut long = answer(question, FOUND, 1, &record(ASKED, A, &[127, 0, 0, 1]));
            let length = long.len() - 6;
            long[length] = 0xff;
            vec![long]
        },
        no_tcp,
    ),
    (
        "four thousand addresses",
        |question| vec![answer(question, CUT_OFF, 0, &[])],
        |question| {
            let records = record(ASKED, A, &[127, 0, 0, 1]).repeat(4000);
            let all = answer(question, FOUND, 4000, &records);
            [&(all.len() as u16).to_be_bytes()[..], &all].concat()
        },
    ),
];

fn no_tcp(_: &[u8]) -> Vec<u8> {
    vec![0, 0]
}

/// Moves this thread, and the processes that it starts, into a new network namespace whose name server is on
/// loopback.
fn enter_network(options: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("a network of our own (are we root?)")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("resolv.conf");
    fs::write(&file, format!("nameserver 127.0.0.1\n{options}"))?;
    let mut mount = Command::new("sh");
    let script = "mount --make-rprivate / && mount --bind \"$0\" /etc/resolv.conf && ip link set lo up";
    process::run(mount.args(["-c", script]).arg(&file), QUICK)?;
    Ok(())
}

/// Runs a name server with these answers as long as the network namespace exists.
fn serve(by_udp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static, by_tcp: ByTcp) -> Result<()> {
    let udp = UdpSocket::bind("127.0.0.1:53")?;
    let tcp = TcpListener::bind("127.0.0.1:53")?;
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut question) {
            by_udp(&question[..length]).iter().for_each(|packet| drop(udp.send_to(packet, client)));
        }
    });
    thread::spawn(move || {
        for client in tcp.incoming().flatten() {
            thread::spawn(move || serve_by_tcp(client, by_tcp));
        }
    });
    Ok(())
}

/// Answers questions, each preceded by its length (RFC 1035, section 4.2.2), until the client closes the connection.
fn serve_by_tcp(mut client: TcpStream, by_tcp: ByTcp) {
    let mut length = [0; 2];
    while client.read_exact(&mut length).is_ok() {
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        if client.read_exact(&mut question).is_err() || client.write_all(&by_tcp(&question)).is_err() {
            break;
        }
    }
}

/// Tries to fetch from a server by name; returns the error and the elapsed time.
fn ask() -> Result<(String, Duration)> {
    let start = Instant::now();
    Ok((format!("{:#}", failure()?.error), start.elapsed()))
}

fn failure() -> Result<Failure> {
    let (client, deadline) = (Client::new(&Roots::default()), Deadline::within(DOCUMENT_TIME_LIMIT));
    client.fetch("http://name.example:9/x", deadline).err().context("there is a server")
}

#[test]
fn failures_of_name_servers_are_distinguished_and_transient() -> Result<()> {
    let rcode = |flags| move |question: &[u8]| vec![answer(question, flags, 0, &[])];
    let cases: [(Answerer, &str); 7] = [
        (Box::new(rcode(0x8182)), "DNS server `127.0.0.1` answers `SERVFAIL`"),
        (Box::new(rcode(0x8185)), "DNS server `127.0.0.1` answers `REFUSED`"),
        (Box::new(|_| vec![]), "DNS server `127.0.0.1` does not answer within 1 s"),
        (Box::new(|_| vec![vec![0xff; 512]]), "DNS server `127.0.0.1` sends invalid responses"),
        (Box::new(|question| vec![answer(question, FOUND, 9, &[])]), "has no usable records"),
        (Box::new(rcode(FOUND)), "no such name: DNS has no address for `name.example`"),
        (Box::new(rcode(0x8183)), "no such name: DNS has no address for `name.example`"),
    ];
    for (by_udp, expected) in cases {
        let failure = thread::scope(|scope| {
            let asked = scope.spawn(|| -> Result<Failure> {
                enter_network("options timeout:1 attempts:1\n")?;
                serve(by_udp, no_tcp)?;
                failure()
            });
            asked.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })?;
        let said = format!("{:#}", failure.error);
        assert!(said.contains("http://name.example:9/x") && said.contains(expected), "{expected}: {said}");
        assert_eq!(failure.is_transient(), !expected.starts_with("no such name"), "{said}");
    }
    Ok(())
}

#[test]
fn a_malicious_name_server_makes_a_fetch_fail_in_time() -> Result<()> {
    for (lie, by_udp, by_tcp) in MALICIOUS_SERVERS {
        let (said, took) = thread::scope(|scope| {
            let asked = scope.spawn(|| -> Result<(String, Duration)> {
                enter_network("options timeout:1 attempts:1\n")?;
                serve(*by_udp, *by_tcp)?;
                ask()
            });
            asked.join().expect("no panic")
        })?;
        println!("{lie}: {took:?}: {said}");
        assert!(said.contains("http://name.example:9/x"), "{lie}: {said}");
        assert!(took < LIMIT, "{lie}: {took:?}");
    }
    Ok(())
}

/// glibc has no time limit for a query by TCP.
#[test]
fn a_name_server_that_is_silent_by_tcp_is_given_up() -> Result<()> {
    enter_network("")?;
    serve(|question| vec![answer(question, CUT_OFF, 0, &[])], |_| vec![])?;
    let (said, took) = ask()?;
    assert!(said.ends_with("no response from a DNS server for `name.example` within 30 s"), "{said}");
    assert!((29..35).contains(&took.as_secs()), "{took:?}");
    Ok(())
}
