//! Digest from challenge to answer and back, and what an eavesdropper can do with what it saw: our client
//! against our server, over the messages that would go over the wire.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::disallowed_methods, reason = "an Instant can be had only from the clock")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::auth::{
    Algorithm, Answerer, Authenticator, AuthenticatorConfig, Credentials, Qop, Refused, Side, Staleness,
    Verification,
};
use tandem_sip::{HeaderName, Message, Method, Request, Response, ResponseBuilder};

const REALM: &str = "tandem";
const PASSWORD: &str = "Circle of Life";

fn source() -> SocketAddr {
    "192.0.2.9:5060".parse().unwrap()
}

/// One client and one server, and the clock between them.
struct World {
    now: Instant,
    server: Authenticator,
    client: Answerer,
}

/// A request as the client would send it.
#[derive(Clone)]
struct Sent {
    method: &'static str,
    uri: &'static str,
    call_id: &'static str,
    cseq: u32,
    body: &'static str,
    credentials: String,
}

impl Sent {
    fn invite() -> Self {
        let (method, uri) = ("INVITE", "sip:+15551234@203.0.113.1");
        Self { method, uri, call_id: "one", cseq: 2, body: "", credentials: String::new() }
    }

    fn request(&self) -> Request {
        let Self { method, uri, call_id, cseq, body, credentials } = self;
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{credentials}\r\n{body}"
        );
        let Ok(Message::Request(request)) = Message::parse_datagram(Bytes::from(text)) else { panic!() };
        request
    }
}

fn response(status: u16, challenges: &[&str]) -> Response {
    let mut builder = ResponseBuilder::new(Sent::invite().request(), status, Some(b"t"));
    let name = if status == 407 { HeaderName::ProxyAuthenticate } else { HeaderName::WwwAuthenticate };
    for challenge in challenges {
        builder = builder.header(name, challenge);
    }
    let Ok(Message::Response(response)) = Message::parse_datagram(builder.finish()) else { panic!() };
    response
}

impl World {
    fn new(config: AuthenticatorConfig) -> Self {
        let now = Instant::now();
        let server = Authenticator::new(config, [7; 32], now);
        Self { now, server, client: Answerer::new("Muf\"asa", PASSWORD) }
    }

    fn with(algorithm: Algorithm, qops: &[Qop]) -> Self {
        let qops = qops.to_vec();
        Self::new(AuthenticatorConfig { algorithms: vec![algorithm], qops, ..AuthenticatorConfig::default() })
    }

    fn challenge(&mut self, staleness: Staleness) {
        let challenges = self.server.challenge(self.now, source(), REALM, staleness);
        let challenges: Vec<_> = challenges.iter().map(String::as_str).collect();
        self.client.take_challenge(&response(401, &challenges)).unwrap();
    }

    fn answer(&mut self, mut sent: Sent) -> Sent {
        let method = Method::from_bytes(sent.method.as_bytes());
        let answers = self.client.authorizations(method, sent.uri.as_bytes(), sent.body.as_bytes(), 0xC0FFEE);
        let [(name, value)] = answers.try_into().unwrap();
        sent.credentials = format!("{name}: {}\r\n", String::from_utf8(value).unwrap());
        sent
    }

    fn verify_from(&mut self, source: SocketAddr, sent: &Sent, password: Option<&str>) -> Verification {
        self.server.verify(self.now, source, REALM, Side::User, &sent.request(), password)
    }

    fn verify(&mut self, sent: &Sent) -> Verification {
        self.verify_from(source(), sent, Some(PASSWORD))
    }
}

#[test]
fn every_algorithm_and_protection_goes_round() {
    for hash in [Algorithm::MD5, Algorithm::SHA_256, Algorithm::SHA_512_256] {
        for is_session in [false, true] {
            for qops in [&[][..], &[Qop::Auth], &[Qop::AuthInt], &[Qop::AuthInt, Qop::Auth]] {
                let algorithm = Algorithm { is_session, ..hash };
                let mut world = World::with(algorithm, qops);
                world.challenge(Staleness::Fresh);
                let sent = world.answer(Sent { body: "v=0\r\n", ..Sent::invite() });
                assert_eq!(world.verify(&sent), Verification::Accepted, "{algorithm:?} {qops:?}");
                let tampered = Sent { body: "v=1\r\n", ..sent };
                let expected = match qops {
                    [Qop::AuthInt] => Verification::Wrong,
                    _ => Verification::Accepted,
                };
                assert_eq!(world.verify(&tampered), expected, "{algorithm:?} {qops:?}");
            }
        }
    }
}

#[test]
fn nothing_is_remembered_for_who_is_only_challenged_or_wrong() {
    let mut world = World::new(AuthenticatorConfig::default());
    assert_eq!(world.verify(&Sent::invite()), Verification::Absent);
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    assert_eq!(world.verify_from(source(), &sent, Some("other")), Verification::Wrong);
    assert_eq!(world.verify_from(source(), &sent, Some("")), Verification::Wrong);
    assert_eq!(world.verify_from(source(), &sent, None), Verification::Wrong);
    assert_eq!(world.server.remembered(), 0);
    assert_eq!(world.verify(&sent), Verification::Accepted);
    assert_eq!(world.server.remembered(), 1);
}

/// A user who does not exist has no empty password.
#[test]
fn an_unknown_user_with_an_empty_password_is_wrong() {
    let mut world = World::new(AuthenticatorConfig::default());
    world.client = Answerer::new("nobody", "");
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    assert_eq!(world.verify_from(source(), &sent, None), Verification::Wrong);
}

#[test]
fn the_claimed_user_is_read_without_escapes_and_only_from_this_realm() {
    let mut world = World::new(AuthenticatorConfig::default());
    world.challenge(Staleness::Fresh);
    let request = world.answer(Sent::invite()).request();
    assert_eq!(Authenticator::claimed_username(&request, Side::User, REALM).unwrap(), "Muf\"asa");
    assert_eq!(Authenticator::claimed_username(&request, Side::User, "other"), None);
    assert_eq!(Authenticator::claimed_username(&request, Side::Proxy, REALM), None);
}

/// A digest used again, with another Call-ID, port or Request-URI, is refused; the same request again is
/// a retransmission and gets the same verdict.
#[test]
fn an_answer_counts_for_one_request_from_one_source() {
    let mut world = World::new(AuthenticatorConfig::default());
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    assert_eq!(world.verify(&sent), Verification::Accepted);
    assert_eq!(world.verify(&sent), Verification::Accepted, "a retransmission");
    assert_eq!(world.verify(&Sent { call_id: "two", ..sent.clone() }), Verification::Replayed);
    assert_eq!(world.verify(&Sent { cseq: 3, ..sent.clone() }), Verification::Replayed);
    assert_eq!(world.verify(&Sent { uri: "sip:+900@203.0.113.1", ..sent.clone() }), Verification::OtherUri);
    assert_eq!(world.verify(&Sent { method: "REGISTER", ..sent.clone() }), Verification::Wrong);
    for other in ["192.0.2.9:5061", "192.0.2.10:5060", "[2001:db8::1]:5060"] {
        let verdict = world.verify_from(other.parse().unwrap(), &sent, Some(PASSWORD));
        assert_eq!(verdict, Verification::Stale, "{other}");
    }
    assert_eq!(world.server.remembered(), 1);
}

/// RFC 7616 section 3.4: the count rises with each request of the same nonce.
/// A busy trunk calls several times in one millisecond, from one port: each challenge is answered for itself.
#[test]
fn challenges_of_one_instant_have_nonces_of_their_own() {
    let mut world = World::with(Algorithm::MD5, &[Qop::Auth]);
    let nonces: std::collections::BTreeSet<_> = (0..1000)
        .flat_map(|_| world.server.challenge(world.now, source(), REALM, Staleness::Fresh))
        .collect();
    assert_eq!(nonces.len(), 1000);
}

#[test]
fn a_nonce_serves_many_requests_by_its_count_and_none_twice() {
    let mut world = World::new(AuthenticatorConfig::default());
    world.challenge(Staleness::Fresh);
    let answers: Vec<_> = (1..=40).map(|cseq| world.answer(Sent { cseq, ..Sent::invite() })).collect();
    for pair in answers.chunks(2) {
        assert_eq!(world.verify(&pair[1]), Verification::Accepted, "overtaking is no replay");
        assert_eq!(world.verify(&pair[0]), Verification::Accepted);
    }
    for answer in &answers {
        let replay = Sent { call_id: "other", ..answer.clone() };
        assert_eq!(world.verify(&replay), Verification::Replayed);
    }
}

#[test]
fn without_qop_a_nonce_serves_one_request_whatever_count_is_claimed() {
    let mut world = World::with(Algorithm::MD5, &[]);
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    assert_eq!(world.verify(&sent), Verification::Accepted);
    let credentials = sent.credentials.replace("\r\n", ", nc=00000002, cnonce=\"x\"\r\n");
    assert_eq!(world.verify(&Sent { call_id: "two", credentials, ..sent }), Verification::Replayed);
}

/// RFC 7616 section 3.3: stale tells an honest client to retry without asking its user.
#[test]
fn an_expired_nonce_is_stale_and_the_client_recovers() {
    let mut world = World::new(AuthenticatorConfig::default());
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    assert_eq!(world.verify(&sent), Verification::Accepted);
    world.now += Duration::from_secs(61);
    assert_eq!(world.verify(&sent), Verification::Stale);
    world.challenge(Staleness::Stale);
    let again = world.answer(Sent { cseq: 3, ..Sent::invite() });
    assert_eq!(world.verify(&again), Verification::Accepted);
    assert_eq!(world.server.remembered(), 1, "the expired nonce was forgotten");
}

#[test]
fn a_nonce_of_an_earlier_life_is_stale() {
    let mut world = World::new(AuthenticatorConfig::default());
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    world.server = Authenticator::new(AuthenticatorConfig::default(), [8; 32], world.now);
    assert_eq!(world.verify(&sent), Verification::Stale);
}

#[test]
fn the_memory_for_answered_nonces_is_bounded_and_forgetting_opens_no_replay() {
    let mut world = World::new(AuthenticatorConfig { remembered: 4, ..AuthenticatorConfig::default() });
    let mut answers = Vec::new();
    for _ in 0..10 {
        world.now += Duration::from_millis(1);
        world.client = Answerer::new("u", PASSWORD);
        world.challenge(Staleness::Fresh);
        let sent = world.answer(Sent::invite());
        assert_eq!(world.verify(&sent), Verification::Accepted);
        assert!(world.server.remembered() <= 4);
        answers.push(sent);
    }
    for (index, answer) in answers.iter().enumerate() {
        let replay = Sent { call_id: "other", ..answer.clone() };
        let expected = if index < 6 { Verification::Stale } else { Verification::Replayed };
        assert_eq!(world.verify(&replay), expected);
    }
}

/// RFC 4475 section 3.3.7: credentials of an unknown scheme are as good as none.
#[test]
fn other_schemes_realms_and_algorithms_are_absent_credentials() {
    let mut world = World::with(Algorithm::SHA_256, &[Qop::Auth]);
    world.challenge(Staleness::Fresh);
    let sent = world.answer(Sent::invite());
    let changed = [
        "Authorization: NoOneKnowsThisScheme opaque-data=here\r\n".to_owned(),
        sent.credentials.replace("realm=\"tandem\"", "realm=\"other\""),
        sent.credentials.replace("algorithm=SHA-256", "algorithm=MD5"),
        sent.credentials.replace("algorithm=SHA-256", "algorithm=ROT13"),
        sent.credentials.replace("qop=auth", "qop=auth-int"),
    ];
    for credentials in changed {
        let verdict = world.verify(&Sent { credentials: credentials.clone(), ..sent.clone() });
        assert_eq!(verdict, Verification::Absent, "{credentials}");
    }
    let other = "Authorization: Digest username=\"x\", realm=\"other\", nonce=\"n\", uri=\"sip:a@b\", response=\"0\"\r\n";
    let both = Sent { credentials: format!("{other}{}", sent.credentials), ..sent.clone() };
    assert_eq!(world.verify(&both), Verification::Accepted, "ours stands second");
}

/// RFC 8760 section 2.4: of several challenges the client uses the topmost that it supports.
#[test]
fn the_client_takes_the_first_challenge_it_supports() {
    let offered = [
        "Digest realm=\"r\", nonce=\"1\", algorithm=SHA-3000, qop=\"auth\"",
        "Digest realm=\"r\", nonce=\"2\", algorithm=SHA-512-256, qop=\"auth-conf\"",
        "Digest realm=\"r\", nonce=\"3\", algorithm=SHA-256, qop=\"auth-int,auth\", opaque=\"o\\\"p\"",
        "Digest realm=\"r\", nonce=\"4\", algorithm=MD5, qop=\"auth\"",
    ];
    let mut client = Answerer::new("u", "p");
    client.take_challenge(&response(407, &offered)).unwrap();
    let (name, value) = only(client.authorizations(Method::Bye, b"sip:a@b", b"", 1));
    assert_eq!(name, HeaderName::ProxyAuthorization);
    let credentials = Credentials::parse(&value).unwrap();
    assert_eq!((credentials.nonce, credentials.qop), (&b"3"[..], Some(Qop::Auth)));
    assert_eq!(credentials.opaque, Some(&br#"o\"p"#[..]));
    assert_eq!(credentials.count(), Some(1));
    let (_, value) = only(client.authorizations(Method::Bye, b"sip:a@b", b"", 1));
    assert_eq!(Credentials::parse(&value).unwrap().count(), Some(2));
}

#[test]
fn the_client_gives_up_rather_than_repeat_itself() {
    let fresh = ["Digest realm=\"r\", nonce=\"1\""];
    let stale = ["Digest realm=\"r\", nonce=\"2\", stale=true"];
    let mut client = Answerer::new("u", "p");
    assert!(client.authorizations(Method::Bye, b"sip:a@b", b"", 1).is_empty(), "nothing was asked yet");
    assert_eq!(client.take_challenge(&response(401, &["Basic realm=\"r\""])), Err(Refused::NothingSupported));
    assert_eq!(client.take_challenge(&response(401, &[])), Err(Refused::NothingSupported));
    client.take_challenge(&response(401, &fresh)).unwrap();
    only(client.authorizations(Method::Bye, b"sip:a@b", b"", 1));
    assert_eq!(client.take_challenge(&response(401, &fresh)), Err(Refused::NotAccepted));
    client.take_challenge(&response(401, &stale)).unwrap();
    only(client.authorizations(Method::Bye, b"sip:a@b", b"", 1));
    assert_eq!(client.take_challenge(&response(401, &stale)), Err(Refused::TooOften));
    client.accepted();
    client.take_challenge(&response(401, &fresh)).unwrap();
}

/// The one header that was made.
fn only(mut answers: Vec<(HeaderName, Vec<u8>)>) -> (HeaderName, Vec<u8>) {
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

/// RFC 3261 section 22.3: each realm on the way is answered for itself, and goes on being answered.
#[test]
fn a_proxy_and_the_server_behind_it_are_both_answered() {
    let mut client = Answerer::new("u", "p");
    client.take_challenge(&response(407, &["Digest realm=\"proxy\", nonce=\"1\", qop=\"auth\""])).unwrap();
    client.authorizations(Method::Invite, b"sip:a@b", b"", 1);
    client.take_challenge(&response(401, &["Digest realm=\"server\", nonce=\"2\", qop=\"auth\""])).unwrap();
    let answers = client.authorizations(Method::Invite, b"sip:a@b", b"", 1);
    let told: Vec<_> = answers
        .iter()
        .map(|(name, value)| (*name, Credentials::parse(value).unwrap()))
        .map(|(name, told)| (name, told.realm.to_vec(), told.nonce.to_vec(), told.count()))
        .collect();
    let expected = [
        (HeaderName::ProxyAuthorization, b"proxy".to_vec(), b"1".to_vec(), Some(2)),
        (HeaderName::Authorization, b"server".to_vec(), b"2".to_vec(), Some(1)),
    ];
    assert_eq!(told, expected);
    let again = ["Digest realm=\"proxy\", nonce=\"3\", qop=\"auth\""];
    assert_eq!(client.take_challenge(&response(407, &again)), Err(Refused::NotAccepted), "each for itself");
}

/// RFC 3261 section 22.3: a proxy that forked puts the challenges of all branches into one response; each realm is answered,
/// each by the first of its challenges that is spoken here.
#[test]
fn all_realms_of_one_response_are_answered() {
    let text = format!(
        "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{}{}{}{}\r\n",
        "WWW-Authenticate: Digest realm=\"one\", nonce=\"1\", algorithm=SHA-256\r\n",
        "WWW-Authenticate: Digest realm=\"one\", nonce=\"2\", algorithm=MD5\r\n",
        "WWW-Authenticate: Digest realm=\"two\", nonce=\"3\", algorithm=MD5\r\n",
        "Proxy-Authenticate: Digest realm=\"way\", nonce=\"4\"\r\n",
    );
    let Ok(Message::Response(response)) = Message::parse_datagram(Bytes::from(text)) else { panic!() };
    let mut client = Answerer::new("u", "p");
    client.take_challenge(&response).unwrap();
    let answers = client.authorizations(Method::Invite, b"sip:a@b", b"", 1);
    let told: Vec<_> = answers
        .iter()
        .map(|(name, value)| (*name, Credentials::parse(value).unwrap()))
        .map(|(name, told)| (name, told.realm.to_vec(), told.nonce.to_vec()))
        .collect();
    let expected = [
        (HeaderName::Authorization, b"one".to_vec(), b"1".to_vec()),
        (HeaderName::Authorization, b"two".to_vec(), b"3".to_vec()),
        (HeaderName::ProxyAuthorization, b"way".to_vec(), b"4".to_vec()),
    ];
    assert_eq!(told, expected);
}

/// Whoever asks for the first time when others have accepted the secret already does not get it.
#[test]
fn a_realm_that_turns_up_in_mid_dialog_is_not_answered() {
    let mut client = Answerer::new("u", "p");
    client.take_challenge(&response(407, &["Digest realm=\"home\", nonce=\"1\""])).unwrap();
    client.authorizations(Method::Invite, b"sip:a@b", b"", 1);
    client.accepted();
    let evil = ["Digest realm=\"evil\", nonce=\"1\""];
    assert_eq!(client.take_challenge(&response(401, &evil)), Err(Refused::OtherRealm));
    let answers = client.authorizations(Method::Bye, b"sip:a@b", b"", 1);
    assert_eq!(Credentials::parse(&only(answers).1).unwrap().realm, b"home");
    // The known one may ask again, with a nonce of its choice.
    client.take_challenge(&response(407, &["Digest realm=\"home\", nonce=\"2\""])).unwrap();
}

#[test]
fn realms_without_end_are_given_up() {
    let mut client = Answerer::new("u", "p");
    for realm in 0..4 {
        let challenge = format!("Digest realm=\"{realm}\", nonce=\"1\"");
        client.take_challenge(&response(401, &[&challenge])).unwrap();
    }
    let one_more = response(401, &["Digest realm=\"4\", nonce=\"1\""]);
    assert_eq!(client.take_challenge(&one_more), Err(Refused::TooOften));
}

#[test]
fn credentials_for_one_realm_are_not_shown_to_another() {
    let mut client = Answerer::new("u", "p").only_for("home");
    let foreign = ["Digest realm=\"evil\", nonce=\"1\""];
    assert_eq!(client.take_challenge(&response(401, &foreign)), Err(Refused::OtherRealm));
    assert!(client.authorizations(Method::Invite, b"sip:a@b", b"", 1).is_empty());
    client.take_challenge(&response(401, &[foreign[0], "Digest realm=\"home\", nonce=\"2\""])).unwrap();
    let (_, value) = only(client.authorizations(Method::Invite, b"sip:a@b", b"", 1));
    assert_eq!(Credentials::parse(&value).unwrap().realm, b"home");
}

#[test]
fn challenges_are_one_a_header_the_preferred_first_and_say_when_stale() {
    let mut world = World::new(AuthenticatorConfig::default());
    let challenges = world.server.challenge(world.now, source(), "a\"b", Staleness::Stale);
    assert_eq!(challenges.len(), 2);
    assert!(challenges[0].starts_with("Digest realm=\"a\\\"b\", nonce=\""), "{}", challenges[0]);
    assert!(challenges[0].ends_with("\", qop=\"auth\", algorithm=SHA-256, stale=true"), "{}", challenges[0]);
    assert!(challenges[1].contains("algorithm=MD5"));
    assert!(!format!("{:?}", world.client).contains(PASSWORD));
}
