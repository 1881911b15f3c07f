//! Strangers, guessers, replayers and broken peers at the engine's door, beside a legitimate caller.
//!
//! test-material's list, as far as signalling before and within a call goes: each is a requirement.

use std::fmt::Write as _;
use std::time::Duration;

use crate::desk::{AgentMood, Caller, Desk, OFFER};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tandem_call::{
    AdmissionLimits, CallStatus, EngineConfig, RoutingTable, Trunk, TrunkAuth, TrunkLimits, VerdictCode,
};
use tandem_sip::auth::{Algorithm, DigestInput, Qop};

const STRANGER: &str = "198.51.100.66:5060";

#[test]
fn a_guesser_gets_one_and_the_same_answer_and_then_silence() {
    let mut desk = Desk::new();
    let mut answers = Vec::new();
    for (number, user) in ["+918047102030", "100", "admin", "00972599", "+918047102031"].iter().enumerate() {
        let caller = stranger(number, user);
        caller.send_invite(&mut desk);
        let answer = desk.sent.pop().expect("an answer");
        assert!(answer.len() <= caller.invite().len(), "no more bytes out than came in");
        assert!(!answer.to_lowercase().contains("tandem"), "nothing tells what we are: {answer}");
        answers.push(answer.lines().next().unwrap().to_owned());
    }
    assert_eq!(answers, vec!["SIP/2.0 403 Forbidden"; 5]);
    for number in 5..100 {
        stranger(number, "100").send_invite(&mut desk);
    }
    assert_eq!(desk.sent.len(), 5, "ten answers at once and no more");
    assert_eq!(desk.engine.counters().silenced, 90);
    assert_eq!(desk.verdicts.len(), 10, "what met silence is only counted");
    assert!(desk.plans.is_empty() && desk.records.is_empty());
    desk.assert_empty();
}

#[test]
fn where_trunks_use_digest_every_stranger_is_challenged_alike() {
    let mut config = EngineConfig::default();
    config.authenticator.algorithms = vec![Algorithm::SHA_512_256, Algorithm::MD5, Algorithm::SHA_256];
    let mut desk = Desk::with(config, digest_house());
    for (number, user) in ["+918047102030", "14155550100", "admin"].iter().enumerate() {
        let caller = stranger(number, user);
        caller.send_invite(&mut desk);
        let answer = desk.sent.pop().expect("an answer");
        assert!(answer.starts_with("SIP/2.0 401 "), "{answer}");
        assert!(answer.contains("algorithm=MD5"), "{answer}");
        assert!(answer.len() <= caller.invite().len(), "{} > {}", answer.len(), caller.invite().len());
    }
    let mut codes: Vec<VerdictCode> = desk.verdicts.iter().map(|verdict| verdict.code).collect();
    codes.sort();
    assert_eq!(
        codes,
        [VerdictCode::SourceUnknown, VerdictCode::SourceOutsideRanges, VerdictCode::CredentialsRequired]
    );
    assert!(desk.verdicts.iter().all(|verdict| verdict.status == 401));
    desk.assert_empty();
}

#[test]
fn a_flood_of_strangers_does_not_keep_a_caller_out() {
    let mut desk = Desk::new();
    for second in 0..5 {
        for number in 0..3000 {
            let mut caller = stranger(second * 3000 + number, "100");
            let address = format!("198.51.{}.{}:5060", 100 + number % 100, number % 250);
            caller.address = Box::leak(address.into_boxed_str());
            let message = if number % 3 == 0 { "garbage\r\n\r\n".to_owned() } else { caller.invite() };
            desk.receive(caller.address, &message);
        }
        desk.sent.clear();
        let mut honest = Caller { call_id: format!("honest-{second}"), ..Caller::new() };
        honest.set_up(&mut desk);
        honest.send(&mut desk, "BYE", None);
        assert_eq!(desk.records.len(), second + 1, "the caller is served at once");
        desk.advance(Duration::from_secs(1));
    }
    assert!(desk.records.iter().all(|record| record.status == CallStatus::Completed));
    let sessions = desk.engine.census().endpoint.sessions;
    assert!(sessions <= 10, "no state for strangers: {sessions}");
    assert!(desk.verdicts.len() < 1200, "{}", desk.verdicts.len());
}

/// The endpoint refuses without state, so a retransmission comes to the engine again: same bytes, no second verdict.
#[test]
fn a_repeated_refusal_is_the_same_bytes_and_one_verdict() {
    let mut desk = Desk::new();
    let caller = Caller { uri: "sip:+15550000000@203.0.113.1".to_owned(), ..Caller::new() };
    caller.send_invite(&mut desk);
    caller.send_invite(&mut desk);
    caller.send_ack(&mut desk, None);
    assert_eq!(desk.sent.len(), 2, "an ACK is never answered");
    assert_eq!(desk.sent[0], desk.sent[1]);
    assert_eq!((desk.verdict().code, desk.verdict().status), (VerdictCode::NumberUnknown, 404));
    assert_eq!(desk.engine.counters().repeated_refusals, 1);
    desk.assert_empty();
}

#[test]
fn a_trunk_by_digest_calls_with_each_algorithm() {
    for algorithm in [Algorithm::MD5, Algorithm::SHA_256, Algorithm::SHA_512_256] {
        let mut config = EngineConfig::default();
        config.authenticator.algorithms = vec![Algorithm::SHA_512_256, Algorithm::SHA_256, Algorithm::MD5];
        let mut desk = Desk::with(config, digest_house());
        let mut caller = Caller { extra: format!("X-Long: {}\r\n", "x".repeat(600)), ..dialler() };
        caller.send_invite(&mut desk);
        let answer = desk.last("401");
        let offered: Vec<&str> =
            answer.split("algorithm=").skip(1).filter_map(|rest| rest.split(['\r', ',']).next()).collect();
        assert_eq!(offered, ["SHA-512-256", "SHA-256", "MD5"], "in the order configured");
        caller.send_ack(&mut desk, None);
        caller.cseq += 1;
        caller.extra = credentials(&answer, algorithm, &caller, "carol", "secret", 1);
        caller.set_up(&mut desk);
        caller.extra.clear();
        caller.send(&mut desk, "BYE", None);
        let record = desk.record();
        assert_eq!((record.status, record.trunk.as_str()), (CallStatus::Completed, "td"));
        let codes: Vec<VerdictCode> = desk.verdicts.iter().map(|verdict| verdict.code).collect();
        assert_eq!(codes, [VerdictCode::CredentialsRequired, VerdictCode::Accepted]);
        desk.assert_empty();
    }
}

/// A digest used again, with another Call-ID, port or Request-URI, is refused.
#[test]
fn a_digest_used_again_or_elsewhere_is_refused() {
    let mut desk = Desk::with(EngineConfig::default(), digest_house());
    desk.agent = AgentMood::Silent;
    let mut caller = dialler();
    caller.send_invite(&mut desk);
    let answer = desk.last("401");
    caller.cseq += 1;
    let good = credentials(&answer, Algorithm::MD5, &caller, "carol", "secret", 1);
    caller.extra.clone_from(&good);
    caller.send_invite(&mut desk);
    assert_eq!(desk.plans.len(), 1, "the honest one rings");
    desk.verdicts.clear();
    desk.sent.clear();

    let again = Caller { call_id: "another".to_owned(), extra: good.clone(), ..dialler() };
    again.send_invite(&mut desk);
    assert_eq!(desk.verdicts.pop().unwrap().code, VerdictCode::CredentialsReplayed);
    assert!(desk.last("401").contains("stale=true"), "an honest peer recovers");

    let other_port =
        Caller { address: "198.51.100.7:5062", call_id: "port".into(), extra: good.clone(), ..dialler() };
    other_port.send_invite(&mut desk);
    assert_eq!(desk.verdicts.pop().unwrap().code, VerdictCode::CredentialsStale);

    let elsewhere = Caller {
        uri: "sip:+918047102030@203.0.113.1".to_owned(),
        call_id: "elsewhere".to_owned(),
        extra: good,
        ..dialler()
    };
    elsewhere.send_invite(&mut desk);
    let verdict = desk.verdicts.pop().unwrap();
    assert_eq!((verdict.code, verdict.status), (VerdictCode::CredentialsWrong, 403));
    assert!(verdict.trace.last().unwrap().detail.contains("another Request-URI"));

    for (username, password) in [("carol", "wrong"), ("mallory", "secret")] {
        let mut guesser = Caller { call_id: format!("{username}-{password}"), ..dialler() };
        guesser.send_invite(&mut desk);
        let answer = desk.last("401");
        guesser.cseq += 1;
        guesser.extra = credentials(&answer, Algorithm::MD5, &guesser, username, password, 1);
        desk.sent.clear();
        guesser.send_invite(&mut desk);
        assert_eq!(
            desk.lines(),
            ["SIP/2.0 403 Forbidden"],
            "a name nobody has is as good as a wrong password"
        );
    }
    assert_eq!(desk.plans.len(), 1);
}

#[test]
fn an_authenticated_caller_that_repeats_its_invite_is_not_a_replayer() {
    let mut desk = Desk::with(EngineConfig::default(), digest_house());
    desk.agent = AgentMood::Silent;
    let mut caller = dialler();
    caller.send_invite(&mut desk);
    let answer = desk.last("401");
    caller.cseq += 1;
    caller.extra = credentials(&answer, Algorithm::MD5, &caller, "carol", "secret", 1);
    caller.send_invite(&mut desk);
    caller.send_invite(&mut desk);
    assert_eq!(desk.plans.len(), 1);
    assert!(desk.sent.iter().filter(|text| text.starts_with("SIP/2.0 401")).count() == 1);
}

#[test]
fn a_proven_source_is_no_stranger_any_more() {
    let mut desk = Desk::with(EngineConfig::default(), digest_house());
    for number in 0..40 {
        let mut caller = Caller { call_id: format!("call-{number}"), ..dialler() };
        caller.send_invite(&mut desk);
        let answer = desk.last("401");
        caller.cseq += 1;
        caller.extra = credentials(&answer, Algorithm::MD5, &caller, "carol", "secret", 1);
        caller.set_up(&mut desk);
        caller.extra.clear();
        caller.send(&mut desk, "BYE", None);
        desk.sent.clear();
    }
    assert_eq!(desk.records.len(), 40, "forty calls in one instant, eighty INVITEs");
    assert_eq!(desk.engine.counters().silenced, 0);
}

#[test]
fn whoever_knows_a_calls_names_but_is_not_its_peer_cannot_touch_it() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    desk.lines();
    desk.commands.clear();
    let mut thief = Caller { address: STRANGER, to_tag: caller.to_tag.clone(), ..Caller::new() };
    thief.send(&mut desk, "BYE", None);
    thief.send(&mut desk, "INVITE", Some(&OFFER.replace("192.0.2.1", "198.51.100.66")));
    thief.send(&mut desk, "UPDATE", Some(&OFFER.replace("192.0.2.1", "198.51.100.66")));
    assert!(desk.records.is_empty(), "the call stands");
    assert!(desk.commands.is_empty(), "its media goes where it went");
    assert!(
        desk.lines().iter().all(|line| line.starts_with("SIP/2.0 403") || line.starts_with("SIP/2.0 100"))
    );
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
    assert!(
        desk.ladders[0].iter().all(|rung| rung.peer.is_none_or(|peer| peer.ip().to_string() == "192.0.2.1")
            || rung.heading == tandem_call::ladder::Heading::Out),
        "and the thief is not in its ladder"
    );
}

#[test]
fn another_address_of_the_trunk_may_speak_for_the_call() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    caller.address = "192.0.2.5:5060";
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

#[test]
fn a_trunks_limits_answer_480_and_486_and_the_nodes_503() {
    let table =
        |limits: TrunkLimits| crate::desk::house_with(|trunks: &mut Vec<Trunk>| trunks[0].limits = limits);
    let rows = [
        (table(TrunkLimits { calls_in: Some(1), ..TrunkLimits::default() }), "486 Busy Here", false),
        (table(TrunkLimits { calls_total: Some(1), ..TrunkLimits::default() }), "486 Busy Here", false),
        (
            table(TrunkLimits { calls_per_second: Some(1.0), ..TrunkLimits::default() }),
            "480 Temporarily Unavailable",
            true,
        ),
    ];
    for (table, status, has_retry_after) in rows {
        let mut desk = Desk::with(EngineConfig::default(), table);
        Caller::new().set_up(&mut desk);
        desk.sent.clear();
        Caller { call_id: "second".to_owned(), ..Caller::new() }.send_invite(&mut desk);
        assert_eq!(desk.sent.len(), 1);
        assert!(desk.sent[0].starts_with(&format!("SIP/2.0 {status}")), "{}", desk.sent[0]);
        assert_eq!(desk.sent[0].contains("Retry-After: 1\r\n"), has_retry_after);
        assert_eq!(desk.engine.trunk_calls(&"ta".into()), (1, 0));
    }
    let admission = AdmissionLimits { max_calls: 1, ..AdmissionLimits::default() };
    let mut desk = Desk::with(EngineConfig { admission, ..EngineConfig::default() }, crate::desk::house());
    Caller::new().set_up(&mut desk);
    Caller { call_id: "second".to_owned(), ..Caller::new() }.send_invite(&mut desk);
    assert!(desk.last("503").contains("Retry-After: 5\r\n"));
    assert_eq!(desk.verdicts.last().unwrap().code, VerdictCode::NodeCallsReached);
}

#[test]
fn requests_that_make_no_call_are_answered_or_refused_and_forgotten() {
    let mut desk = Desk::new();
    let caller = Caller::new();
    for (method, known, unknown) in [
        ("OPTIONS", "200 OK", "200 OK"),
        ("REGISTER", "405 Method Not Allowed", "403 Forbidden"),
        ("MESSAGE", "405 Method Not Allowed", "403 Forbidden"),
        ("FROBNICATE", "501 Not Implemented", "403 Forbidden"),
    ] {
        let request = caller.request(method, 1, &format!("z9hG4bK{method}"), None);
        desk.receive(caller.address, &request);
        assert_eq!(desk.lines(), [format!("SIP/2.0 {known}")]);
        desk.receive(STRANGER, &request.replace("192.0.2.1", "198.51.100.66"));
        let answer = desk.sent.pop().expect("an answer");
        assert!(answer.starts_with(&format!("SIP/2.0 {unknown}")), "{answer}");
        assert!(answer.len() <= request.len(), "{} for {}", answer.len(), request.len());
    }
    assert!(desk.verdicts.is_empty());
    desk.assert_empty();
}

/// Messages of a known carrier with bytes changed, dropped and doubled, around live calls: nothing falls over, what is
/// held stays bounded, and an honest call beside them is served.
#[test]
fn mutated_messages_of_a_known_carrier_harm_nobody() {
    let mut desk = Desk::new();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for round in 0..1500u32 {
        let mut caller = Caller { call_id: format!("mutant-{}", round / 4), ..Caller::new() };
        let message = match round % 4 {
            0 => caller.invite(),
            1 => caller.request("ACK", 1, "z9hG4bKack", None),
            2 => {
                caller.extra =
                    "Authorization: Digest username=\"a\", realm=\"tandem\", nonce=\"0\"\r\n".to_owned();
                caller.invite()
            }
            _ => caller.request("BYE", 2, "z9hG4bKbye", None),
        };
        let mut bytes = message.into_bytes();
        for _ in 0..1 + random.next_u32() % 4 {
            let place = random.next_u32() as usize % bytes.len();
            match random.next_u32() % 3 {
                0 => bytes[place] = random.next_u32() as u8,
                1 => drop(bytes.remove(place)),
                _ => bytes.insert(place, bytes[place]),
            }
        }
        desk.receive_bytes(caller.address, bytes);
        if round % 100 == 0 {
            let mut honest = Caller { call_id: format!("honest-{round}"), ..Caller::new() };
            honest.set_up(&mut desk);
            honest.send(&mut desk, "BYE", None);
            assert!(desk.records.iter().any(|record| record.sip_call_id == honest.call_id), "round {round}");
            desk.sent.clear();
        }
        desk.advance(Duration::from_millis(20));
    }
    desk.advance(Duration::from_secs(300));
    assert_eq!(desk.engine.census(), tandem_call::Census::default());
    assert_eq!(desk.engine.counters().unexpected_inputs, 0);
    let admitted = desk.engine.counters().calls;
    assert_eq!(desk.records.len() as u64, admitted, "one record for each call admitted");
}

/// A table swapped in mid-call changes what comes next and nothing of what is.
#[test]
fn a_new_table_is_seen_by_the_next_invite_and_leaves_calls_alone() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    desk.input(tandem_call::Input::Routing(std::sync::Arc::new(RoutingTable::default())));
    Caller { call_id: "second".to_owned(), ..Caller::new() }.send_invite(&mut desk);
    assert!(desk.last("403").starts_with("SIP/2.0 403"));
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

fn stranger(number: usize, user: &str) -> Caller {
    Caller {
        address: STRANGER,
        call_id: format!("guess-{number}"),
        uri: format!("sip:{user}@203.0.113.1"),
        ..Caller::new()
    }
}

/// A caller of the trunk by digest.
fn dialler() -> Caller {
    Caller {
        address: "198.51.100.7:5060",
        uri: "sip:14155550100@203.0.113.1".to_owned(),
        call_id: "dialler".to_owned(),
        ..Caller::new()
    }
}

fn digest_house() -> RoutingTable {
    crate::desk::house_with(|trunks| {
        let mut trunk = Trunk::new("td", "d", "digest");
        trunk.inbound_enabled = true;
        trunk.auth = TrunkAuth::user_pass("carol", "secret");
        trunks.push(trunk);
    })
}

/// An Authorization header that answers a challenge of the 401.
fn credentials(
    challenge: &str,
    algorithm: Algorithm,
    caller: &Caller,
    username: &str,
    password: &str,
    count: u32,
) -> String {
    let token = format!("algorithm={}", algorithm.as_str());
    let line = challenge
        .lines()
        .find(|line| line.starts_with("WWW-Authenticate: ") && line.split(", ").any(|part| part == token));
    let nonce = line.expect("a challenge").split("nonce=\"").nth(1).expect("a nonce").split('"').next();
    let nonce = nonce.expect("a nonce's end");
    let nonce_count = format!("{count:08x}");
    let response = DigestInput {
        algorithm,
        username: username.as_bytes(),
        realm: b"tandem",
        password: password.as_bytes(),
        method: b"INVITE",
        uri: caller.uri.as_bytes(),
        nonce: nonce.as_bytes(),
        qop: Some(Qop::Auth),
        nonce_count: nonce_count.as_bytes(),
        cnonce: b"c1",
        body: b"",
    }
    .response();
    let mut header = String::new();
    write!(
        header,
        "Authorization: Digest username=\"{username}\", realm=\"tandem\", nonce=\"{nonce}\", uri=\"{}\", \
         response=\"{}\", algorithm={}, qop=auth, nc={nonce_count}, cnonce=\"c1\"\r\n",
        caller.uri,
        response.as_str(),
        algorithm.as_str(),
    )
    .expect("a string takes it");
    header
}
