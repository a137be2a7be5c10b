use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x15);

fn asking(question: Question) -> Request {
    Request {
        transaction: [1, 2, 3],
        hardware_address: MAC,
        question,
        elapsed: Duration::from_millis(1230),
        architecture: 7,
    }
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    options::put(&mut bytes, code, value);
    bytes
}

fn association(address: Ipv6Addr, times: [u32; 4]) -> Vec<u8> {
    let [t1, t2, preferred, valid] = times.map(u32::to_be_bytes);
    let inside = option(options::ADDRESS, &[&address.octets()[..], &preferred, &valid].concat());
    option(options::ADDRESS_ASSOCIATION, &[&MAC[2..], &t1, &t2, &inside].concat())
}

fn answer(kind: u8, more: &[&[u8]]) -> Vec<u8> {
    let client = asking(Question::Solicit).client_id();
    let head = [vec![kind, 1, 2, 3], option(options::CLIENT_ID, &client), option(options::SERVER_ID, SERVER)];
    [head.concat(), more.concat()].concat()
}

fn offer() -> Offer {
    Offer { server: SERVER.to_vec(), address: ADDRESS }
}

#[test]
fn a_message_is_as_the_rfc_has_it() {
    let bytes = asking(Question::Solicit).encode();
    assert_eq!(bytes[..8], [SOLICIT, 1, 2, 3, 0, 1, 0, 10]);
    assert_eq!(bytes[8..18], [0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    assert_eq!(bytes[18..38], [0, 14, 0, 0, 0, 3, 0, 12, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[38..44], [0, 8, 0, 2, 0, 123]);
    let request = asking(Question::Request(offer())).encode();
    assert_eq!((request[0], &request[18..22]), (REQUEST, &[0, 2, 0, 10][..]));
    assert!(request.windows(16).any(|window| window == ADDRESS.octets()));
    let information = asking(Question::Information).encode();
    assert_eq!(information[0], INFORMATION_REQUEST);
    assert_eq!(information[18..20], [0, 8], "no association");
}

#[test]
fn an_offer_and_a_lease_are_read() {
    let association = association(ADDRESS, [100, 160, 200, 300]);
    let read = |question, packet: &[u8]| asking(question).read_answer(packet);
    assert_eq!(read(Question::Solicit, &answer(ADVERTISE, &[&association])), Ok(Answer::Offer(offer())));
    let told = [
        option(options::NAME_SERVERS, &ADDRESS.octets()),
        option(options::SEARCH_LIST, b"\x03lab\x07example\0"),
        option(options::NTP_SERVERS, &option(1, &ADDRESS.octets())),
        option(options::BOOT_FILE_URL, b"http://[2001:db8::1]/a.yaml"),
    ];
    let told = told.concat();
    let lease = read(Question::Request(offer()), &answer(REPLY, &[&association, &told])).unwrap();
    let Answer::Lease(given, times, network) = lease else { panic!("{lease:?}") };
    assert_eq!(given, offer());
    assert_eq!(
        (times.renew.as_secs(), times.rebind.as_secs(), times.preferred, times.valid),
        (100, 160, 200, 300)
    );
    assert_eq!((&*network.name_servers, &*network.time_servers), (&[ADDRESS][..], &[ADDRESS][..]));
    assert_eq!(
        (&*network.search[0], network.boot_url.as_deref()),
        ("lab.example", Some("http://[2001:db8::1]/a.yaml"))
    );
    let information = read(Question::Information, &answer(REPLY, &[&told])).unwrap();
    assert_eq!(information, Answer::Information(network));
}

#[test]
fn a_rapid_reply_needs_the_rapid_commit_option() {
    let association = association(ADDRESS, [0, 0, 200, 300]);
    let read = |more: &[&[u8]]| asking(Question::Solicit).read_answer(&answer(REPLY, more));
    assert_eq!(read(&[&association]), Err(Unanswered::NotForUs));
    assert!(matches!(read(&[&association, &option(options::RAPID_COMMIT, &[])]), Ok(Answer::Lease(..))));
}

#[test]
fn unusable_addresses_are_reported() {
    let read =
        |packet: &[u8]| asking(Question::Request(offer())).read_answer(packet).unwrap_err().to_string();
    for address in ["::", "::1", "ff02::1", "::ffff:10.0.0.1"] {
        let association = association(address.parse().unwrap(), [0, 0, 200, 300]);
        assert!(read(&answer(REPLY, &[&association])).contains("no usable address"), "{address}");
    }
    let none = option(options::ADDRESS_ASSOCIATION, &[&MAC[2..], &[0; 8], &option(13, &[0, 2])].concat());
    assert!(read(&answer(REPLY, &[&none])).contains("status 2 (no addresses available)"));
    assert_eq!(read(&answer(REPLY, &[])), "it has no address");
    assert_eq!(read(&answer(REPLY, &[&[0, 23, 0, 9]])), "an option is longer than the message");
    let expired = association(ADDRESS, [0, 0, 0, 0]);
    assert!(read(&answer(REPLY, &[&expired])).contains("no usable address"));
}

#[test]
fn messages_for_others_are_ignored() {
    let association = association(ADDRESS, [0, 0, 200, 300]);
    let good = answer(REPLY, &[&association]);
    for at in [1, 3, 12, 17] {
        let mut packet = good.clone();
        packet[at] ^= 1;
        assert_eq!(
            asking(Question::Request(offer())).read_answer(&packet),
            Err(Unanswered::NotForUs),
            "{at}"
        );
    }
    for length in 0..good.len() {
        assert!(asking(Question::Request(offer())).read_answer(&good[..length]).is_err());
    }
    let other = Offer { server: vec![9; 4], ..offer() };
    assert_eq!(asking(Question::Request(other)).read_answer(&good), Err(Unanswered::NotForUs));
    assert!(asking(Question::Rebind(ADDRESS)).read_answer(&good).is_ok());
}

#[test]
fn lease_times_are_in_order_whatever_a_server_sends() {
    let of = |t1, t2, preferred, valid| {
        let times = Times::new(t1, t2, preferred, valid);
        (times.renew.as_secs(), times.rebind.as_secs())
    };
    assert_eq!(of(0, 0, 200, 300), (100, 160));
    assert_eq!(of(0, 0, u32::MAX, u32::MAX), (86_400, 172_800));
    assert_eq!(of(1, 1, 1, 1), (2, 2));
    assert_eq!(of(400, 900, 200, 300), (100, 160));
    assert_eq!(of(150, 20, 200, 300), (150, 150));
    assert_eq!(of(0, 0, 0, 300), (150, 240));
}

#[test]
fn a_renewal_with_another_address_is_refused() {
    let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x16);
    let forever = [2, 3, u32::MAX, u32::MAX];
    let (own, foreign) = (association(ADDRESS, forever), association(other, forever));
    for question in [Question::Renew(offer()), Question::Rebind(ADDRESS)] {
        let read = |association: &[u8]| asking(question.clone()).read_answer(&answer(REPLY, &[association]));
        assert!(matches!(read(&own), Ok(Answer::Lease(lease, ..)) if lease.address == ADDRESS));
        let refused = Unanswered::Unusable(format!("it does not renew the address `{ADDRESS}`"));
        assert_eq!(read(&foreign), Err(refused));
    }
}
