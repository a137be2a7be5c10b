//! Any packet as the answer of a DHCP server: nothing panics, and what is made of it can be configured and written.
//!
//! The first byte says what was asked, and whether the fixed fields are put right, which chance does seldom.
#![no_main]

use dhcp::{Answer, Datagram, Given, Learned, Lease, MachineKind, Question, Request, Resolver};
use std::net::Ipv4Addr;
use std::time::Duration;

const TRANSACTION: u32 = 0x1234_5678;
const HARDWARE_ADDRESS: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// Bytes before the options (RFC 2131, section 2, with the cookie).
const FIXED: usize = 240;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(Datagram::parse(bytes).is_none_or(|found| found.payload.len() + 28 <= bytes.len()));
    let Some((&choice, packet)) = bytes.split_first() else { return };
    let mut packet = packet.to_vec();
    if choice & 0x80 == 0 {
        put_right(&mut packet);
    }
    let address = Ipv4Addr::new(10, 0, 2, 15);
    let server = (choice & 4 == 0).then_some(Ipv4Addr::new(10, 0, 2, 2));
    let question = match choice & 3 {
        0 => Question::Renew { address, server },
        1 => Question::Select { address, server },
        _ => Question::Discover,
    };
    let request = Request {
        transaction: TRANSACTION,
        hardware_address: HARDWARE_ADDRESS,
        question,
        seconds: choice.into(),
        machine: MachineKind::default(),
    };
    assert!(request.encode().len() >= 300);
    if let Ok(Answer::Lease(lease)) = request.read_answer(&packet) {
        judge(&lease);
    }
});

fn put_right(packet: &mut Vec<u8>) {
    packet.resize(packet.len().max(FIXED), 0);
    packet[..3].copy_from_slice(&[2, 1, 6]);
    packet[4..8].copy_from_slice(&TRANSACTION.to_be_bytes());
    packet[28..34].copy_from_slice(&HARDWARE_ADDRESS);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
}

fn judge(lease: &Lease) {
    let is_machine = |address: Ipv4Addr| {
        !address.is_unspecified()
            && !address.is_loopback()
            && !address.is_multicast()
            && !address.is_broadcast()
    };
    assert!(is_machine(lease.address) && (1..=32).contains(&lease.prefix), "{lease}");
    assert!(lease.server.is_none_or(is_machine) && lease.name_servers.iter().copied().all(is_machine));
    assert!(lease.time_servers.iter().copied().all(is_machine) && lease.mtu.is_none_or(|mtu| mtu >= 576));
    let urls = lease.boot_url.iter().chain(&lease.captive_portal);
    assert!(urls.clone().all(|url| url.bytes().all(|byte| byte.is_ascii_graphic())), "{lease:?}");
    assert!(lease.routes.len() <= 64 && lease.name_servers.len() <= 8 && lease.ignored.len() <= 16);
    for route in &lease.routes {
        assert!(route.prefix <= 32 && route.gateway.is_none_or(is_machine), "{route}");
        let behind_mask = u32::MAX.checked_shr(route.prefix.into()).unwrap_or(0);
        assert_eq!(u32::from(route.network) & behind_mask, 0, "{route}");
    }
    assert!(
        Duration::from_secs(2) <= lease.renew && lease.renew <= lease.rebind && lease.rebind <= lease.end
    );
    assert!(lease.ignored.iter().all(|note| !note.contains(char::is_control)), "{:?}", lease.ignored);
    let files = Resolver::new(Given::default(), Learned { lease: Some(lease), ..Learned::default() });
    assert!((1..=64).contains(&files.host_name.len()));
    for line in files.resolv_conf.lines().chain(files.hosts.lines()) {
        let words: Vec<&str> = line.split(' ').collect();
        assert!((2..=7).contains(&words.len()) && words.iter().all(|word| !word.is_empty()), "{line:?}");
        assert!(words.concat().bytes().all(|letter| letter.is_ascii_graphic()), "{line:?}");
    }
    assert!(files.resolv_conf.lines().count() <= 4 && files.hosts.lines().count() <= 3);
}
