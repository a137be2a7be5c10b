use super::super::netlink::Netlink;
use super::super::segment::{Segment, run};
use super::*;
use crate::report::Level;

/// How long the first configuration may take on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(10);

/// What the interface gets, one after the other, and when it came up.
fn followed(segment: &Segment, report: &Report) -> (Receiver<Ipv6>, Instant) {
    let interface = segment.interface();
    prepare(&interface);
    Netlink::open().unwrap().set_up(interface.index).unwrap();
    let (sender, receiver) = channel();
    let report = report.clone();
    thread::spawn(move || {
        follow(&interface, &report, |found| sender.send(found).is_ok());
    });
    (receiver, Instant::now())
}

fn first(segment: &Segment, limit: Duration) -> Ipv6 {
    let (found, begin) = followed(segment, &Report::to_caller(Level::Error));
    let first = found.recv_timeout(SOON).unwrap_or_else(|_| panic!("nothing came:\n{}", segment.log()));
    assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
    first
}

#[test]
fn a_router_with_stateless_configuration_is_enough() {
    let Some(mut segment) = Segment::enter() else { return };
    segment.address("2001:db8:1::1/64");
    let config = segment.home().join("radvd.conf");
    fs::write(
        &config,
        "interface v1 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix 2001:db8:1::/64 {};\n\
         RDNSS 2001:db8:1::53 {}; DNSSL lab.example {}; };",
    )
    .unwrap();
    segment.run("sysctl -q net.ipv6.conf.v1.forwarding=1");
    segment.start(&format!(
        "radvd --nodaemon --logmethod=stderr --pidfile={} --config={}",
        segment.home().join("pid").display(),
        config.display()
    ));
    segment.await_log("started");
    let first = first(&segment, SOON / 2);
    assert!(first.address.starts_with("2001:db8:1:") && first.address.ends_with("/64"), "{first:?}");
    assert!(first.from.starts_with("router fe80::"), "{first:?}");
    assert_eq!(first.network.name_servers, ["2001:db8:1::53".parse::<Ipv6Addr>().unwrap()]);
    assert_eq!(first.network.search, ["lab.example"]);
    assert!(run("ip -6 route show default").contains("dev v0"));
}

#[test]
fn an_address_is_requested_when_the_router_says_so() {
    let Some(mut segment) = Segment::enter() else { return };
    segment.address("2001:db8:2::1/64");
    segment.dnsmasq(
        "--enable-ra --dhcp-range=2001:db8:2::50,2001:db8:2::50,64,2m --dhcp-option=option6:dns-server,[2001:db8:2::53] \
         --dhcp-option=option6:bootfile-url,http://[2001:db8:2::1]/a.yaml --dhcp-option=option6:ntp-server,[2001:db8:2::1]",
    );
    segment.await_log("router advertisement on");
    let first = first(&segment, SOON);
    assert_eq!(first.address, "2001:db8:2::50/128");
    assert!(first.from.starts_with("a DHCPv6 server by router fe80::"), "{first:?}");
    assert!(first.network.name_servers.contains(&"2001:db8:2::53".parse().unwrap()), "{first:?}");
    assert_eq!(first.network.boot_url.as_deref(), Some("http://[2001:db8:2::1]/a.yaml"));
    assert_eq!(first.network.time_servers, ["2001:db8:2::1".parse::<Ipv6Addr>().unwrap()]);
    let lifetime = run("ip -6 address show dev v0 to 2001:db8:2::50");
    assert!(lifetime.contains("valid_lft 1") || lifetime.contains("valid_lft 9"), "{lifetime}");
}

#[test]
fn a_server_supplies_what_the_router_does_not() {
    let Some(mut segment) = Segment::enter() else { return };
    segment.address("2001:db8:3::1/64");
    segment.dnsmasq(
        "--enable-ra --dhcp-range=2001:db8:3::,ra-stateless --dhcp-option=option6:bootfile-url,http://[2001:db8:3::1]/b.yaml",
    );
    segment.await_log("router advertisement on");
    let first = first(&segment, SOON);
    assert!(first.address.starts_with("2001:db8:3:") && first.address.ends_with("/64"), "{first:?}");
    assert_eq!(first.network.boot_url.as_deref(), Some("http://[2001:db8:3::1]/b.yaml"));
}

#[test]
fn an_address_that_another_machine_has_is_not_used() {
    let Some(mut segment) = Segment::enter() else { return };
    segment.address("2001:db8:4::1/64");
    // The kernel makes the last 64 bits from the hardware address (RFC 4291, appendix A).
    let [a, b, c, d, e, f] = segment.interface().hardware_address;
    let taken = format!("2001:db8:4::{:x}{b:02x}:{c:x}ff:fe{d:02x}:{e:x}{f:02x}", a ^ 2);
    segment.address(&format!("{taken}/64"));
    segment.dnsmasq("--enable-ra --dhcp-range=2001:db8:4::,ra-only");
    segment.await_log("router advertisement on");
    let log = segment.home().join("report");
    let _found = followed(&segment, &Report::to_log(&log));
    let begin = Instant::now();
    while !fs::read_to_string(&log).unwrap_or_default().contains("another machine may have it") {
        assert!(begin.elapsed() < 2 * SOON, "{}\n{}", run("ip -6 address show dev v0"), segment.log());
        thread::sleep(POLL_INTERVAL);
    }
    assert_eq!(addresses::of(segment.interface().index, State::Usable), None);
}
