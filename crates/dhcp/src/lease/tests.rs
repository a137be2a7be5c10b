use super::*;

const ADDRESS: [u8; 4] = [10, 0, 2, 15];

/// The lease with these options, given as codes and bytes.
fn lease(options: &[(u8, &[u8])]) -> Lease {
    given(ADDRESS, options).unwrap()
}

fn given(address: [u8; 4], list: &[(u8, &[u8])]) -> Result<Lease, String> {
    let mut options = Options::default();
    for (code, value) in list {
        for part in value.chunks(255) {
            options.add(&[&[*code, part.len() as u8], part].concat()).unwrap();
        }
    }
    Lease::new(address.into(), Ipv4Addr::UNSPECIFIED, &[], &options)
}

fn times(lease: &Lease) -> [u64; 3] {
    [lease.renew, lease.rebind, lease.end].map(|time| time.as_secs())
}

#[test]
fn a_lease_has_the_options_of_the_server() {
    let lease = lease(&[
        (options::SUBNET_MASK, &[255, 255, 254, 0]),
        (options::ROUTER, &[10, 0, 2, 2]),
        (options::SERVER_IDENTIFIER, &[10, 0, 2, 3]),
        (options::LEASE_TIME, &800_u32.to_be_bytes()),
        (options::HOST_NAME, b"one"),
        (options::NAME_SERVERS, &[10, 0, 2, 3, 10, 0, 2, 4]),
    ]);
    assert_eq!(lease.to_string(), "10.0.2.15/23");
    assert_eq!(lease.routes.iter().map(Route::to_string).collect::<Vec<_>>(), ["0.0.0.0/0 via 10.0.2.2"]);
    assert_eq!((lease.host_name.as_deref(), lease.name_servers.len()), (Some("one"), 2));
    assert_eq!(lease.server, Some([10, 0, 2, 3].into()));
    assert_eq!(times(&lease), [400, 700, 800]);
    assert!(lease.ignored.is_empty(), "{:?}", lease.ignored);
}

#[test]
fn an_address_that_no_machine_can_have_is_refused() {
    for (address, why) in [
        ([0, 0, 0, 0], "is reserved"),
        ([0, 1, 2, 3], "is reserved"),
        ([127, 0, 0, 1], "is a loopback address"),
        ([224, 0, 0, 1], "is a multicast address"),
        ([255, 255, 255, 255], "is the broadcast address"),
        ([10, 0, 2, 255], "is its network's broadcast address"),
    ] {
        let refused = given(address, &[]).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn lease_times_are_in_order_whatever_a_server_sends() {
    let of = |end: Option<u32>, renew: Option<u32>, rebind: Option<u32>| {
        let all =
            [(options::LEASE_TIME, end), (options::RENEWAL_TIME, renew), (options::REBINDING_TIME, rebind)];
        let bytes: Vec<_> =
            all.iter().filter_map(|(code, time)| Some((*code, (*time)?.to_be_bytes()))).collect();
        times(&lease(&bytes.iter().map(|(code, time)| (*code, &time[..])).collect::<Vec<_>>()))
    };
    let day = u64::from(DEFAULT_LEASE);
    assert_eq!(of(None, None, None), [day / 2, day - day / 8, day]);
    assert_eq!(of(Some(u32::MAX), None, None)[2], day);
    assert_eq!(of(Some(0), Some(0), Some(0)), [2, 4, 4]);
    assert_eq!(of(Some(1), Some(1), Some(1)), [2, 4, 4]);
    assert_eq!(of(Some(100), Some(1), Some(2)), [2, 2, 100]);
    assert_eq!(of(Some(100), Some(60), Some(30)), [60, 88, 100]);
    assert_eq!(of(Some(100), Some(95), None), [95, 95, 100]);
    assert_eq!(of(Some(100), Some(u32::MAX), Some(u32::MAX)), [50, 88, 100]);
    let most = u32::MAX - 1;
    assert_eq!(of(Some(most), None, None)[2], most.into());
}

#[test]
fn unusable_options_are_omitted() {
    let lease = lease(&[
        (options::SUBNET_MASK, &[255, 0, 255, 0]),
        (options::SERVER_IDENTIFIER, &[127, 0, 0, 1]),
        (options::ROUTER, &[10, 0, 2]),
        (options::NAME_SERVERS, &[0, 0, 0, 0, 10, 0, 2, 3, 224, 0, 0, 1]),
        (options::HOST_NAME, b"a\nnameserver 6.6.6.6"),
        (options::DOMAIN_NAME, b"lab.example\nnameserver 6.6.6.6"),
    ]);
    assert_eq!((lease.prefix, lease.server, &*lease.routes), (24, None, &[][..]));
    assert_eq!((&lease.host_name, &*lease.search), (&None, &[][..]));
    assert_eq!(lease.name_servers, [Ipv4Addr::from([10, 0, 2, 3])]);
    assert_eq!(lease.ignored.len(), 6, "{:?}", lease.ignored);
    assert!(lease.ignored.iter().all(|note| !note.contains('\n')), "{:?}", lease.ignored);
}

#[test]
fn a_host_name_that_is_too_long_does_not_end_the_lease() {
    let label = "a".repeat(63);
    assert_eq!(lease(&[(options::HOST_NAME, format!("{label}.example").as_bytes())]).host_name, Some(label));
    let none = lease(&[(options::HOST_NAME, "a".repeat(65).as_bytes())]);
    assert_eq!((none.host_name, none.ignored.len()), (None, 1));
}

#[test]
fn lists_have_a_limit() {
    let servers: Vec<u8> = (0..300_u16).flat_map(|n| [10, 0, (n >> 8) as u8, n as u8]).collect();
    let routes: Vec<u8> = (0..200).flat_map(|n| [24, 192, 168, n, 10, 0, 2, 2]).collect();
    let lease = lease(&[(options::NAME_SERVERS, &servers), (options::CLASSLESS_ROUTES, &routes)]);
    assert_eq!((lease.name_servers.len(), lease.routes.len()), (SERVERS_AT_MOST, ROUTES_AT_MOST));
    assert_eq!(lease.ignored.len(), 2, "{:?}", lease.ignored);
}

#[test]
fn classless_routes_take_the_place_of_the_router() {
    let of = |bytes: &[u8]| {
        let lease = lease(&[(options::ROUTER, &[10, 0, 2, 2]), (options::CLASSLESS_ROUTES, bytes)]);
        let routes: Vec<String> = lease.routes.iter().map(Route::to_string).collect();
        (routes.join(", "), lease.ignored.len())
    };
    // Bits beyond the prefix are ignored.
    let good = of(&[20, 10, 9, 255, 10, 0, 2, 3, 0, 10, 0, 2, 4, 32, 10, 0, 2, 1, 0, 0, 0, 0]);
    assert_eq!(good, ("10.9.240.0/20 via 10.0.2.3, 0.0.0.0/0 via 10.0.2.4, 10.0.2.1/32".into(), 0));
    let router = ("0.0.0.0/0 via 10.0.2.2".to_owned(), 1);
    // A prefix of 33 bits; then routes that are cut off in the network and in the gateway.
    assert_eq!(of(&[33, 10, 0, 0, 0, 0, 10, 0, 2, 3]), router);
    assert_eq!(of(&[255, 1]), router);
    assert_eq!(of(&[24, 10, 0]), router);
    assert_eq!(of(&[0, 10, 0, 2]), router);
    // To loopback and multicast; through loopback and broadcast.
    let nowhere = [8, 127, 10, 0, 2, 3, 4, 224, 10, 0, 2, 3, 0, 127, 0, 0, 1, 0, 255, 255, 255, 255];
    assert_eq!(of(&nowhere), (String::new(), 1));
}

#[test]
fn further_options_of_a_server_are_read() {
    let lease = lease(&[
        (options::DOMAIN_NAME, b"lab.example"),
        (options::INTERFACE_MTU, &[5, 140]),
        (options::TIME_SERVERS, &[10, 0, 2, 3]),
        (options::SEARCH_LIST, b"\x01a\x07example\x00\x01b\xc0\x02"),
        (options::CAPTIVE_PORTAL, b"https://portal.example/api"),
        (options::BOOT_FILE, b"https://boot.example/a.yaml"),
    ]);
    assert_eq!(lease.mtu, Some(1420));
    assert_eq!(lease.time_servers, [Ipv4Addr::from([10, 0, 2, 3])]);
    assert_eq!(lease.search, ["a.example", "b.example"]);
    assert_eq!(lease.captive_portal.as_deref(), Some("https://portal.example/api"));
    assert_eq!(lease.boot_url.as_deref(), Some("https://boot.example/a.yaml"));
}

#[test]
fn an_invalid_search_list_or_packet_size_leaves_the_rest() {
    let lease = lease(&[
        (options::DOMAIN_NAME, b"lab.example"),
        (options::INTERFACE_MTU, &[0, 68]),
        (options::SEARCH_LIST, b"\xc0\x00"),
    ]);
    assert_eq!((lease.mtu, &*lease.search), (None, &["lab.example".to_owned()][..]));
    assert_eq!(lease.ignored.len(), 2, "{:?}", lease.ignored);
}
