//! Any packet as an IPv6 router's advertisement or a DHCPv6 server's answer: nothing panics, and what is made of it can be
//! configured and written.
//!
//! The first byte says what it is, and whether the fixed fields are put right, which chance does seldom.
#![no_main]

use dhcp::router::Advertisement;
use dhcp::v6::{Answer, Network, Offer, Question, Request};
use dhcp::{Given, Learned, Resolver};
use std::net::Ipv6Addr;
use std::time::Duration;

const HARDWARE_ADDRESS: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// Our identifier, and that of a server.
const IDENTIFIERS: &[u8] = b"\0\x01\0\x0a\0\x03\0\x01\x52\x54\0\x12\x34\x56\0\x02\0\x04abcd";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, packet)) = bytes.split_first() else { return };
    if choice & 0x40 != 0 {
        if let Some(read) = Advertisement::parse(&put_right(choice, &[134, 0], packet)) {
            let Advertisement { name_servers, search, captive_portal, .. } = read;
            judge(&Network { name_servers, search, captive_portal, ..Network::default() });
        }
        return;
    }
    let offer = Offer { server: b"abcd".to_vec(), address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1) };
    let question = match choice & 7 {
        0 => Question::Solicit,
        1 => Question::Request(offer),
        2 => Question::Renew(offer),
        3 => Question::Rebind(offer.address),
        _ => Question::Information,
    };
    let request = Request {
        transaction: [1, 2, 3],
        hardware_address: HARDWARE_ADDRESS,
        question,
        elapsed: Duration::from_secs(choice.into()),
        architecture: 7,
    };
    assert!(request.encode().len() >= 24);
    let head = [&[if choice & 0x20 == 0 { 7 } else { 2 }, 1, 2, 3][..], IDENTIFIERS].concat();
    match request.read_answer(&put_right(choice, &head, packet)) {
        Ok(Answer::Lease(offer, times, network)) => {
            judge_address(offer.address);
            assert!(Duration::from_secs(2) <= times.renew && times.renew <= times.rebind, "{times:?}");
            assert!(times.preferred <= times.valid && times.valid >= 4, "{times:?}");
            judge(&network);
        }
        Ok(Answer::Offer(offer)) => judge_address(offer.address),
        Ok(Answer::Information(network)) => judge(&network),
        Err(why) => assert!(!why.to_string().contains(char::is_control)),
    }
});

fn put_right(choice: u8, head: &[u8], packet: &[u8]) -> Vec<u8> {
    if choice & 0x80 == 0 { [head, packet].concat() } else { packet.to_vec() }
}

fn judge_address(address: Ipv6Addr) {
    assert!(!address.is_unspecified() && !address.is_loopback() && !address.is_multicast(), "{address}");
}

fn judge(network: &Network) {
    network.name_servers.iter().chain(&network.time_servers).for_each(|server| judge_address(*server));
    let urls = network.boot_url.iter().chain(&network.captive_portal);
    assert!(urls.clone().all(|url| url.bytes().all(|byte| byte.is_ascii_graphic())), "{network:?}");
    let files =
        Resolver::new(Given::default(), Learned { interface: "eth0", network: Some(network), lease: None });
    for line in files.resolv_conf.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert!((2..=7).contains(&words.len()) && words.iter().all(|word| !word.is_empty()), "{line:?}");
        assert!(words.concat().bytes().all(|letter| letter.is_ascii_graphic()), "{line:?}");
    }
    assert!(files.resolv_conf.lines().count() <= 4);
}
