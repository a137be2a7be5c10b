use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const SERVER: [u8; 4] = [10, 0, 2, 2];

fn asking(question: Question) -> Request {
    Request {
        transaction: 0xDEAD_BEEF,
        hardware_address: MAC,
        question,
        seconds: 0,
        machine: MachineKind::default(),
    }
}

fn select() -> Request {
    asking(Question::Select { address: [10, 0, 2, 15].into(), server: Some(SERVER.into()) })
}

/// A reply of the given type, with further options.
fn reply(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut packet =
        vec![BOOT_REPLY, 1, 6, 0, 0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0x80, 0, 0, 0, 0, 0, 10, 0, 2, 15];
    packet.extend([0; 8]);
    packet.extend(MAC);
    packet.extend([0; 10 + 64 + 128]);
    packet.extend(MAGIC_COOKIE);
    packet.extend([53, 1, kind, 54, 4, 10, 0, 2, 2]);
    packet.extend(options.concat());
    packet.push(options::END);
    packet
}

fn leased(answer: Result<Answer, Unanswered>) -> Lease {
    match answer {
        Ok(Answer::Lease(lease)) => *lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_as_the_rfc_has_it() {
    let bytes = select().encode();
    assert_eq!(bytes[..12], [1, 1, 6, 0, 0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0x80, 0]);
    assert_eq!((&bytes[28..34], &bytes[236..240]), (&MAC[..], &MAGIC_COOKIE[..]));
    assert_eq!(bytes[240..255], [53, 1, REQUEST, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);
    assert_eq!(bytes[255..258], [55, 14, 1]);
    assert!(
        bytes[271..]
            .starts_with(&[57, 2, 5, 220, 60, 6, b'i', b'g', b'u', b'a', b'n', b'a', 93, 2, 0, 0, 255])
    );
    let machine = MachineKind { architecture: 7, uuid: Some([9; 16]) };
    let bytes = Request { seconds: 258, machine, ..select() }.encode();
    assert_eq!(bytes[8..10], [1, 2]);
    assert!(bytes[283..].starts_with(&[93, 2, 0, 7, 97, 17, 0, 9, 9]));
    assert_eq!(asking(Question::Discover).encode().len(), SMALLEST_MESSAGE);
    let renewal = asking(Question::Renew { address: [10, 0, 2, 15].into(), server: Some(SERVER.into()) });
    assert_eq!(renewal.encode()[12..16], [10, 0, 2, 15]);
    // RFC 2131, table 5: a renewal carries neither the address nor the server as an option.
    assert_eq!(renewal.encode()[240..244], [53, 1, REQUEST, 55]);
}

#[test]
fn an_answer_is_read() {
    let offer = leased(asking(Question::Discover).read_answer(&reply(OFFER, &[&[1, 4, 255, 255, 255, 0]])));
    assert_eq!((offer.to_string().as_str(), offer.server), ("10.0.2.15/24", Some(SERVER.into())));
    assert!(leased(select().read_answer(&reply(ACK, &[]))).ignored.is_empty());
    assert_eq!(select().read_answer(&reply(NAK, &[])), Ok(Answer::Refusal));
}

#[test]
fn a_hardware_address_of_any_length_is_tolerated() {
    let refused = Unanswered::Malformed("its hardware address is not an Ethernet address");
    for length in (0..=255).filter(|length| *length != 6) {
        let mut packet = reply(OFFER, &[]);
        packet[2] = length;
        assert_eq!(asking(Question::Discover).read_answer(&packet), Err(refused.clone()), "{length}");
    }
    let mut packet = reply(OFFER, &[]);
    packet[1] = 6;
    assert_eq!(asking(Question::Discover).read_answer(&packet), Err(refused));
}

#[test]
fn messages_for_others_are_ignored() {
    let ask = |packet: &[u8]| asking(Question::Discover).read_answer(packet);
    let good = reply(OFFER, &[]);
    // The operation, the transaction, the hardware address.
    for at in [0, 4, 7, 28, 33] {
        let mut packet = good.clone();
        packet[at] ^= 1;
        assert_eq!(ask(&packet), Err(Unanswered::NotForUs), "byte {at}");
    }
    assert_eq!(ask(&reply(ACK, &[])), Err(Unanswered::NotForUs));
    for length in 0..240 {
        assert_eq!(ask(&good[..length]), Err(Unanswered::NotForUs), "{length} bytes");
    }
}

#[test]
fn malformed_messages_are_reported() {
    let ask = |packet: &[u8]| match asking(Question::Discover).read_answer(packet) {
        Err(Unanswered::Malformed(why)) => why,
        other => panic!("{other:?}"),
    };
    let mut packet = reply(OFFER, &[]);
    packet[236] = 0;
    assert_eq!(ask(&packet), "it has no options");
    let mut packet = reply(OFFER, &[&[6, 200, 10]]);
    packet.pop();
    assert_eq!(ask(&packet), "an option extends beyond its field");
    // An option of one byte that occurs twice is one option of two bytes (RFC 3396).
    assert_eq!(ask(&reply(OFFER, &[&[53, 1, ACK]])), "it has no message type");
    for overload in [&[52, 1, 0][..], &[52, 1, 4], &[52, 0], &[52, 2, 1, 1]] {
        assert_eq!(ask(&reply(OFFER, &[overload])), "its option overload is malformed");
    }
    let large = vec![0; LARGEST_MESSAGE];
    assert_eq!(ask(&reply(OFFER, &[&large])), "it is larger than a UDP packet can be");
}

#[test]
fn options_in_other_fields_count_when_the_server_says_so() {
    let overload = |fields: u8| {
        let mut packet = reply(OFFER, &[&[6, 2, 10, 0, 52, 1, fields]]);
        packet[44..49].copy_from_slice(&[6, 1, 9, END_OF_FIELD, 0]);
        packet[108..112].copy_from_slice(&[6, 1, 2, END_OF_FIELD]);
        leased(asking(Question::Discover).read_answer(&packet))
    };
    const END_OF_FIELD: u8 = 255;
    assert_eq!(overload(3).name_servers, [Ipv4Addr::from([10, 0, 2, 9])]);
    // Incomplete addresses are ignored.
    assert_eq!((overload(1).name_servers.len(), overload(1).ignored.len()), (0, 1));
    // An option must end in the field in which it begins.
    let mut packet = reply(OFFER, &[&[52, 1, 2]]);
    packet[44..46].copy_from_slice(&[6, 63]);
    let answer = asking(Question::Discover).read_answer(&packet);
    assert_eq!(answer, Err(Unanswered::Malformed("an option extends beyond its field")));
}

#[test]
fn only_the_server_that_was_asked_answers() {
    let other = |kind| {
        let mut packet = reply(kind, &[]);
        packet[248] = 66;
        packet
    };
    assert_eq!(select().read_answer(&other(ACK)), Err(Unanswered::NotForUs));
    assert_eq!(select().read_answer(&other(NAK)), Err(Unanswered::NotForUs));
    let renew = |server: Option<[u8; 4]>| {
        asking(Question::Renew { address: [10, 0, 2, 15].into(), server: server.map(Into::into) })
    };
    assert_eq!(renew(Some(SERVER)).read_answer(&other(NAK)), Err(Unanswered::NotForUs));
    assert_eq!(renew(None).read_answer(&other(NAK)), Ok(Answer::Refusal));
    // A server that does not identify itself may acknowledge, but not refuse.
    let nameless = |kind| {
        let mut packet = reply(kind, &[]);
        packet[243] = 200;
        packet
    };
    assert_eq!(leased(select().read_answer(&nameless(ACK))).server, None);
    assert_eq!(select().read_answer(&nameless(NAK)), Err(Unanswered::NotForUs));
}

#[test]
fn a_renewal_cannot_change_the_address() {
    let renewal = asking(Question::Renew { address: [10, 0, 2, 16].into(), server: None });
    assert!(matches!(renewal.read_answer(&reply(ACK, &[])), Err(Unanswered::Unusable(_))));
}

#[test]
fn an_offer_without_an_address_is_ignored() {
    let mut packet = reply(OFFER, &[]);
    packet[16..20].copy_from_slice(&[127, 0, 0, 1]);
    let refused = asking(Question::Discover).read_answer(&packet).unwrap_err();
    assert_eq!(refused.to_string(), "the address `127.0.0.1` is a loopback address");
}

#[test]
fn a_boot_file_is_read_from_the_field_or_the_option() {
    let read = |packet: &[u8]| leased(asking(Question::Discover).read_answer(packet)).boot_url;
    let mut packet = reply(OFFER, &[]);
    packet[108..119].copy_from_slice(b"http://a/b\0");
    assert_eq!(read(&packet).as_deref(), Some("http://a/b"));
    let mut overloaded = reply(OFFER, &[&[52, 1, 1]]);
    overloaded[108..113].copy_from_slice(&[42, 2, 10, 0, 255]);
    assert_eq!(read(&overloaded), None);
    let option = reply(OFFER, &[&[67, 10], b"http://c/d"]);
    assert_eq!(read(&option).as_deref(), Some("http://c/d"));
}
