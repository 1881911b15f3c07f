//! Checks as peers make them, RFC 5769's sample among them.

use super::stun::Request;
use super::*;

/// RFC 5769 section 2.1: a request with password `VOkJxbRl1RmTxUk/WvJxBt`.
const SAMPLE: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
    0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
    0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00,
    0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a,
    0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf,
    0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28,
    0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];

#[test]
fn the_sample_request_of_rfc_5769_is_authentic() {
    let request = Request::read(&SAMPLE).unwrap();
    assert!(request.is_for(b"evtj") && !request.is_for(b"evt") && !request.is_for(b"h6vY"));
    assert!(request.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBt"));
    assert!(!request.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBu"));
    assert!(request.claims_controlled && !request.uses_candidate);
    // Behind it there is nothing but the fingerprint, without which a request is as authentic.
    for at in 0..SAMPLE.len() - 8 {
        let mut spoilt = SAMPLE;
        spoilt[at] ^= 1;
        let is_taken =
            Request::read(&spoilt).is_some_and(|request| request.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBt"));
        assert!(!is_taken, "octet {at}");
        let _ = Request::read(&SAMPLE[..at]);
    }
}

fn credentials() -> IceCredentials {
    let mut random = [0; CREDENTIAL_OCTETS];
    random.iter_mut().zip(0..).for_each(|(octet, value)| *octet = value * 7);
    IceCredentials::from_random(&random)
}

const SOURCE: &str = "192.0.2.1:32853";

/// A check with these attributes behind the user name.
fn check(credentials: &IceCredentials, password: &str, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let username = format!("{}:peer", credentials.fragment());
    let mut all = vec![(0x0006_u16, username.as_bytes())];
    all.extend_from_slice(attributes);
    stun::request_for_tests(&all, password.as_bytes())
}

fn status(response: &[u8]) -> u16 {
    match &response[..2] {
        [1, 1] => 200,
        [1, 0x11] => u16::from(response[26]) * 100 + u16::from(response[27]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_authentic_check_is_answered_and_may_nominate() {
    let (ours, source) = (credentials(), SOURCE.parse().unwrap());
    for (attributes, nominates, expected) in [
        (&[(0x0024, &[0; 4][..])][..], false, 200),
        (&[(0x0024, &[0; 4][..]), (0x0025, &[]), (0x802A, &[0; 8])], true, 200),
        (&[(0x0025, &[][..]), (0x8029, &[0; 8])], false, 487),
        (&[(0x0025, &[][..]), (0x7FFF, &[1, 2, 3])], false, 420),
    ] {
        let message = check(&ours, ours.password(), attributes);
        let mut response = Vec::new();
        assert_eq!(answer(&ours, source, &message, &mut response), Checked::Answered { nominates });
        assert_eq!(status(&response), expected);
        assert_eq!(&response[4..20], &message[4..20], "cookie and transaction come back");
        assert!(stun::is_whole_response(&response, ours.password().as_bytes()));
    }
}

/// RFC 5769 section 2.2 has 192.0.2.1:32853 under the same transaction as `a1 47 e1 12 a6 43`.
#[test]
fn the_source_is_told_its_address() {
    let (ours, mut response) = (credentials(), Vec::new());
    let message = check(&ours, ours.password(), &[]);
    answer(&ours, SOURCE.parse().unwrap(), &message, &mut response);
    assert_eq!(response[20..32], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
}

#[test]
fn strangers_are_not_answered() {
    let (ours, mut response) = (credentials(), Vec::new());
    let foreign = IceCredentials::from_random(&[9; CREDENTIAL_OCTETS]);
    let source = SOURCE.parse().unwrap();
    for message in [
        check(&ours, "wrong", &[(0x0025, &[])]),
        check(&foreign, ours.password(), &[(0x0025, &[])]),
        SAMPLE.to_vec(),
        vec![0; 20],
        Vec::new(),
    ] {
        assert_eq!(answer(&ours, source, &message, &mut response), Checked::Ignored);
    }
    assert!(response.is_empty());
}

#[test]
fn a_password_is_not_shown() {
    let ours = credentials();
    assert!(ours.fragment().len() >= 4 && ours.password().len() >= 22);
    let shown = format!("{ours:?}");
    assert!(shown.contains(ours.fragment()) && !shown.contains(ours.password()), "{shown}");
}
