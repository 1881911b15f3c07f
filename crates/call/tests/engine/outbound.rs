//! Calls that we place: gateways in their order, what sends a call on and what ends it, credentials, ringing, stops, limits.
//!
//! The gateway of these tests answers what stands in the test, in plain text; it shares no code with the product.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::bridge::{AgentHangUpCause, BridgeCommand, BridgeEvent};
use tandem_call::{
    AgentFailure, CallDirection, CallId, CallRecord, CallStatus, Command, Dial, EngineConfig, Gateway,
    HangUpCommand, HangupBy, HangupReason, Input, Trunk, TrunkAuth, Way,
};
use uuid::Uuid;

use crate::desk::{AgentMood, Desk, LOCAL, Ports, RTP, house_with};

pub(crate) const FIRST: &str = "192.0.2.101:5060";
pub(crate) const SECOND: &str = "192.0.2.102:5060";

pub(crate) const ANSWER: &str = "v=0\r\no=- 5 5 IN IP4 192.0.2.150\r\ns=-\r\nc=IN IP4 192.0.2.150\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

pub(crate) fn gateway(address: &str, priority: u32) -> Gateway {
    Gateway { address: address.to_owned(), port: Some(5060), priority, weight: 1, transport: None }
}

/// A desk whose trunk has two gateways, the second listed first.
fn desk() -> Desk {
    desk_with(|_| {})
}

pub(crate) fn desk_with(change: impl FnOnce(&mut Trunk)) -> Desk {
    let table = house_with(|trunks| {
        trunks[0].gateways = vec![gateway("192.0.2.102", 2), gateway("192.0.2.101", 1)];
        change(&mut trunks[0]);
    });
    Desk::with(EngineConfig::default(), table)
}

fn dial(number: u128) -> Dial {
    Dial {
        call: CallId(Uuid::from_u128(number)),
        account: "a".into(),
        trunk: "ta".into(),
        number: "na".into(),
        from: "+918047102030".to_owned(),
        to: "+918800001234".to_owned(),
        agent: "ga".into(),
        parameters: vec![("name".to_owned(), "Ada".to_owned()), ("trunk".to_owned(), "mine".to_owned())],
        headers: Vec::new(),
        ringing: None,
        max_duration: None,
    }
}

pub(crate) fn place(desk: &mut Desk) -> CallId {
    desk.input(Input::Place(Box::new(dial(1))));
    dial(1).call
}

/// Places one more call.
pub(crate) fn place_another(desk: &mut Desk, number: u128) -> CallId {
    desk.input(Input::Place(Box::new(dial(1 + number))));
    CallId(Uuid::from_u128(1 + number))
}

/// A header of a message.
pub(crate) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let line = message
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase())));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
}

/// Answers the latest request of this method.
pub(crate) fn respond(desk: &mut Desk, from: &str, method: &str, status: &str, more: &str, body: &str) {
    let request = desk.last(&format!("{method} sip:"));
    respond_to(desk, from, &request, status, more, body);
}

pub(crate) fn respond_to(desk: &mut Desk, from: &str, request: &str, status: &str, more: &str, body: &str) {
    let to = header(request, "To");
    let tag = if to.contains(";tag=") || status.starts_with("100") { "" } else { ";tag=far" };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let response = format!(
        "SIP/2.0 {status}\r\nVia: {via}\r\nFrom: {from_value}\r\nTo: {to}{tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\
         Contact: <sip:callee@{from}>\r\n{more}{kind}Content-Length: {length}\r\n\r\n{body}",
        via = header(request, "Via"),
        from_value = header(request, "From"),
        call_id = header(request, "Call-ID"),
        cseq = header(request, "CSeq"),
        length = body.len(),
    );
    desk.receive(from, &response);
}

fn answered(desk: &mut Desk) -> CallId {
    let call = place(desk);
    respond(desk, FIRST, "INVITE", "180 Ringing", "", "");
    respond(desk, FIRST, "INVITE", "200 OK", "", ANSWER);
    call
}

fn bye(desk: &mut Desk, reason: &str) {
    let ack = desk.last("ACK sip:");
    let bye = format!(
        "BYE sip:tandem@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {FIRST};branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: 1 BYE\r\n{reason}Content-Length: 0\r\n\r\n",
        from = header(&ack, "To"),
        to = header(&ack, "From"),
        call_id = header(&ack, "Call-ID"),
    );
    desk.receive(FIRST, &bye);
}

fn outcome(record: &CallRecord) -> (CallStatus, HangupBy, HangupReason) {
    (record.status, record.hangup_by.expect("it has ended"), record.hangup_reason.expect("it has ended"))
}

pub(crate) fn attempts(record: &CallRecord) -> Vec<(String, Option<u16>)> {
    record.gateways.iter().map(|attempt| (attempt.gateway.clone(), attempt.sip_status)).collect()
}

#[test]
fn a_call_is_placed_rings_is_answered_and_then_the_agent_is_fetched() {
    let mut desk = desk();
    desk.agent = AgentMood::Silent;
    let call = place(&mut desk);
    assert_eq!(desk.log, ["progress initiated", "finds 192.0.2.101", "opens bridge", "sends INVITE"]);
    let invite = desk.last("INVITE");
    assert!(invite.starts_with("INVITE sip:+918800001234@192.0.2.101:5060 SIP/2.0"), "{invite}");
    assert!(header(&invite, "From").starts_with("<sip:+918047102030@203.0.113.1>;tag="), "{invite}");
    assert!(invite.contains("m=audio 20000 RTP/AVP 0 8 101"), "the trunk's codecs in its order: {invite}");
    desk.log.clear();
    respond(&mut desk, FIRST, "INVITE", "100 Trying", "", "");
    respond(&mut desk, FIRST, "INVITE", "180 Ringing", "", "");
    respond(&mut desk, FIRST, "INVITE", "180 Ringing", "", "");
    assert_eq!(desk.log, ["progress ringing"], "the agent is not asked before there is somebody to speak to");
    desk.log.clear();
    respond(&mut desk, FIRST, "INVITE", "200 OK", "", ANSWER);
    assert_eq!(
        desk.log,
        ["sends ACK", "verdict accepted 200", "bridge: Media", "dials agent", "progress in-progress"]
    );
    desk.input(Input::AgentConnected { call });
    assert_eq!(desk.commands.last(), Some(&BridgeCommand::Start));
    bye(&mut desk, "Reason: Q.850;cause=16;text=\"bye\"\r\n");
    let record = desk.record();
    assert_eq!(outcome(record), (CallStatus::Completed, HangupBy::Callee, HangupReason::EndedNormally));
    assert_eq!((record.sip_status, record.q850), (Some(200), Some(16)));
    assert_eq!(record.sip_reason.as_deref(), Some("Q.850;cause=16;text=\"bye\""));
    assert_eq!(record.sip_call_id, header(&invite, "Call-ID"));
    assert_eq!(attempts(record), [("192.0.2.101".to_owned(), Some(200))]);
    assert_eq!(
        (desk.verdict().call, desk.verdict().source),
        (Some(call), FIRST.parse().expect("an address"))
    );
    assert_eq!(record.gateways[0].address, Some(FIRST.parse().expect("an address")));
    desk.assert_empty();
    assert!(
        desk.ladders[0].iter().any(|rung| rung.start_line.starts_with("SIP/2.0 180")),
        "{:?}",
        desk.ladders
    );
}

#[test]
fn the_agent_is_told_who_is_called_and_what_the_order_says_of_them() {
    let mut desk = desk();
    answered(&mut desk);
    let facts = &desk.plans[0].agent.facts;
    assert_eq!((facts.from.as_str(), facts.to.as_str()), ("+918047102030", "+918800001234"));
    assert_eq!(
        facts.parameters,
        [("trunk".to_owned(), "ta".to_owned()), ("name".to_owned(), "Ada".to_owned())]
    );
    assert!(desk.plans[0].agent.url.ends_with("?from=%2B918047102030"), "{}", desk.plans[0].agent.url);
}

#[test]
fn what_a_gateway_says_of_itself_sends_the_call_to_the_next() {
    for status in [
        "503 Service Unavailable",
        "500 Server Error",
        "408 Request Timeout",
        "478 Unresolvable",
        "430 Flow Failed",
    ] {
        let mut desk = desk();
        place(&mut desk);
        let first = desk.last("INVITE");
        respond(&mut desk, FIRST, "INVITE", status, "", "");
        let second = desk.last("INVITE");
        assert!(second.starts_with("INVITE sip:+918800001234@192.0.2.102:5060"), "{status}: {second}");
        assert_eq!(header(&first, "Call-ID"), header(&second, "Call-ID"), "one call, one trace");
        assert_ne!(header(&first, "From"), header(&second, "From"), "yet nobody's merged twin");
        respond(&mut desk, SECOND, "INVITE", "200 OK", "", ANSWER);
        let call = dial(1).call;
        desk.input(Input::Bridge {
            call,
            event: BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Command },
        });
        let record = desk.record();
        assert_eq!(outcome(record), (CallStatus::Completed, HangupBy::Caller, HangupReason::EndedNormally));
        let told: u16 = status[..3].parse().expect("a status");
        assert_eq!(
            attempts(record),
            [("192.0.2.101".to_owned(), Some(told)), ("192.0.2.102".to_owned(), Some(200))]
        );
        respond(&mut desk, SECOND, "BYE", "200 OK", "", "");
        desk.assert_empty();
    }
}

#[test]
fn what_is_said_of_the_callee_ends_the_call_with_the_guides_words() {
    use CallStatus as S;
    use HangupReason as R;
    for (status, outcome_wanted) in [
        ("486 Busy Here", (S::Busy, HangupBy::Callee, R::RecipientBusy)),
        ("600 Busy Everywhere", (S::Busy, HangupBy::Callee, R::RecipientBusy)),
        ("603 Decline", (S::Failed, HangupBy::Callee, R::RecipientRejected)),
        ("480 Temporarily Unavailable", (S::NoAnswer, HangupBy::Callee, R::Unanswered)),
        ("404 Not Found", (S::Failed, HangupBy::Carrier, R::NumberInvalid)),
        ("484 Address Incomplete", (S::Failed, HangupBy::Carrier, R::NumberFormatInvalid)),
        ("403 Forbidden", (S::Failed, HangupBy::Callee, R::RecipientRejected)),
        ("488 Not Acceptable Here", (S::Failed, HangupBy::Carrier, R::TemporaryFailure)),
        ("302 Moved Temporarily", (S::Failed, HangupBy::Carrier, R::TemporaryFailure)),
    ] {
        let mut desk = desk();
        place(&mut desk);
        respond(&mut desk, FIRST, "INVITE", status, "", "");
        let record = desk.record();
        assert_eq!(outcome(record), outcome_wanted, "{status}");
        let told: u16 = status[..3].parse().expect("a status");
        assert_eq!((record.sip_status, record.gateways.len()), (Some(told), 1), "{status}: no other gateway");
        assert!(record.error_message.as_deref().is_some_and(|error| error.contains(status)), "{record:?}");
        let verdict = desk.verdict();
        assert_eq!((verdict.status, verdict.direction), (told, CallDirection::Outbound));
        assert!(verdict.code.as_str().ends_with("_refused"), "{verdict:?}");
        assert!(verdict.trace[0].detail.contains(status), "{verdict:?}");
        desk.assert_empty();
    }
}

#[test]
fn the_cause_behind_a_status_says_more_than_the_status() {
    let mut desk = desk();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "480 Gone", "Reason: Q.850 ;cause=17 ;text=\"User busy\"\r\n", "");
    let record = desk.record();
    assert_eq!((record.status, record.q850, record.sip_status), (CallStatus::Busy, Some(17), Some(480)));
    assert_eq!(record.sip_reason.as_deref(), Some("Q.850 ;cause=17 ;text=\"User busy\""));
}

#[test]
fn a_gateway_that_says_not_a_word_is_left_for_the_next_and_its_late_answer_is_ended() {
    let mut desk = desk();
    place(&mut desk);
    let first = desk.last("INVITE");
    desk.advance(Duration::from_secs(7));
    assert!(desk.last("INVITE").contains("@192.0.2.102"), "{:?}", desk.log);
    desk.sent.clear();
    respond_to(&mut desk, FIRST, &first, "200 OK", "", ANSWER);
    assert_eq!(desk.lines().iter().map(|line| &line[..3]).collect::<Vec<_>>(), ["ACK", "BYE"]);
    desk.advance(Duration::from_secs(8));
    let record = desk.record();
    assert_eq!(outcome(record), (CallStatus::Failed, HangupBy::Carrier, HangupReason::NetworkError));
    let error = record.error_message.as_deref().unwrap_or_default();
    assert!(error.contains("192.0.2.101:5060 (not a word came within 6 s)"), "{error}");
    assert!(error.contains("192.0.2.102:5060 (not a word"), "{error}");
    let verdict = desk.verdict();
    assert_eq!((verdict.code.as_str(), verdict.status), ("gateways_unreachable", 503));
    let subjects: Vec<&str> = verdict.trace.iter().map(|step| step.subject.as_str()).collect();
    assert_eq!(
        subjects,
        ["192.0.2.101:5060/udp at 192.0.2.101:5060", "192.0.2.102:5060/udp at 192.0.2.102:5060"]
    );
    desk.assert_empty();
}

#[test]
fn a_gateway_that_cannot_be_reached_and_a_name_without_address_are_passed_by() {
    let mut desk = desk_with(|trunk| {
        trunk.gateways =
            vec![gateway("gone.example", 1), gateway("192.0.2.101", 2), gateway("two.example", 3)];
    });
    let two = ["192.0.2.103:5060", "192.0.2.104:5060"].map(|text| text.parse().expect("an address"));
    desk.names.insert("two.example".to_owned(), two.to_vec());
    place(&mut desk);
    let transmit = *desk.transmits.last().expect("an INVITE went out");
    desk.input(Input::TransmitFailed { transmit });
    assert!(desk.last("INVITE").contains("sip:+918800001234@two.example:5060"), "{:?}", desk.log);
    respond(&mut desk, "192.0.2.103:5060", "INVITE", "503 No", "", "");
    respond(&mut desk, "192.0.2.104:5060", "INVITE", "486 Busy Here", "", "");
    let record = desk.record();
    assert_eq!(record.status, CallStatus::Busy);
    let told: Vec<_> =
        record.gateways.iter().map(|one| (one.gateway.as_str(), one.address, one.cause.as_str())).collect();
    assert_eq!(told[0], ("gone.example", None, "its name gone.example does not resolve"));
    assert_eq!(told[1], ("192.0.2.101", Some(FIRST.parse().expect("an address")), "it cannot be reached"));
    assert_eq!(
        (told[2].0, told[2].1, told[3].0, told[3].1),
        ("two.example", Some(two[0]), "two.example", Some(two[1]))
    );
    desk.assert_empty();
}

#[test]
fn a_telephone_that_rings_too_long_is_cancelled_and_nobody_else_is_rung() {
    let mut desk = desk();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "180 Ringing", "", "");
    desk.advance(Duration::from_secs(59));
    assert!(desk.records.is_empty());
    desk.sent.clear();
    desk.advance(Duration::from_secs(2));
    assert!(desk.last("CANCEL").starts_with("CANCEL sip:+918800001234@192.0.2.101"), "{:?}", desk.sent);
    let record = desk.record();
    assert_eq!(outcome(record), (CallStatus::NoAnswer, HangupBy::Callee, HangupReason::Unanswered));
    assert_eq!((record.q850, record.gateways.len()), (Some(19), 1));
    let cancel = desk.last("CANCEL");
    respond_to(&mut desk, FIRST, &cancel, "200 OK", "", "");
    desk.assert_empty();
}

#[test]
fn an_orders_own_bound_on_ringing_holds() {
    let mut desk = desk();
    desk.input(Input::Place(Box::new(Dial { ringing: Some(Duration::from_secs(10)), ..dial(1) })));
    respond(&mut desk, FIRST, "INVITE", "183 Session Progress", "", ANSWER);
    desk.advance(Duration::from_secs(11));
    assert_eq!(desk.record().status, CallStatus::NoAnswer);
    assert!(desk.record().ringing_unix_ms.is_some());
}

#[test]
fn a_stop_cancels_what_rings_and_hangs_up_what_is_answered() {
    let stop = |desk: &mut Desk| {
        let command = Command::HangUp { call: dial(1).call, as_what: HangUpCommand::Stop };
        desk.input(Input::Command(command));
    };
    let mut ringing = desk();
    place(&mut ringing);
    respond(&mut ringing, FIRST, "INVITE", "180 Ringing", "", "");
    stop(&mut ringing);
    assert_eq!(
        outcome(ringing.record()),
        (CallStatus::Stopped, HangupBy::ApiRequest, HangupReason::EndedNormally)
    );
    assert_eq!(ringing.record().gateways[0].cause, "given up, for the call was ended");
    let invite = ringing.last("INVITE");
    let cancel = ringing.last("CANCEL");
    respond_to(&mut ringing, FIRST, &cancel, "200 OK", "", "");
    respond_to(&mut ringing, FIRST, &invite, "487 Request Terminated", "", "");
    ringing.assert_empty();

    let mut up = desk();
    answered(&mut up);
    stop(&mut up);
    assert_eq!(up.record().status, CallStatus::Stopped);
    respond(&mut up, FIRST, "BYE", "200 OK", "", "");
    up.assert_empty();
}

/// The 200 overtakes the CANCEL: the callee is there, nobody wants it any more, and it is told so.
#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut desk = desk();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "180 Ringing", "", "");
    let command = Command::HangUp { call: dial(1).call, as_what: HangUpCommand::Stop };
    desk.input(Input::Command(command));
    desk.sent.retain(|message| message.starts_with("INVITE"));
    respond(&mut desk, FIRST, "INVITE", "200 OK", "", ANSWER);
    assert!(
        desk.sent.iter().any(|text| text.starts_with("ACK"))
            && desk.sent.iter().any(|text| text.starts_with("BYE"))
    );
    assert_eq!((desk.record().status, desk.record().answered_unix_ms), (CallStatus::Stopped, None));
    respond(&mut desk, FIRST, "BYE", "200 OK", "", "");
    desk.assert_empty();
}

#[test]
fn a_stop_before_the_first_provisional_response_cancels_at_that() {
    let mut desk = desk();
    place(&mut desk);
    let command = Command::HangUp { call: dial(1).call, as_what: HangUpCommand::Stop };
    desk.input(Input::Command(command));
    assert!(!desk.sent.iter().any(|text| text.starts_with("CANCEL")), "RFC 3261 9.1: not before a response");
    respond(&mut desk, FIRST, "INVITE", "100 Trying", "", "");
    assert!(desk.sent.iter().any(|text| text.starts_with("CANCEL")));
    desk.assert_empty();
}

#[test]
fn an_agent_that_cannot_be_had_ends_the_answered_call_with_its_cause() {
    let mut desk = desk();
    desk.agent = AgentMood::Refuses(AgentFailure::Status(403));
    answered(&mut desk);
    let record = desk.record();
    assert_eq!(outcome(record), (CallStatus::Failed, HangupBy::Error, HangupReason::TemporaryFailure));
    assert!(
        record.answered_unix_ms.is_some()
            && record.error_message.as_deref().is_some_and(|e| e.contains("403"))
    );
    respond(&mut desk, FIRST, "BYE", "200 OK", "", "");
    desk.assert_empty();
}

#[test]
fn an_answer_without_a_codec_of_ours_is_ended_with_a_cause() {
    for (body, words) in
        [("", "without describing"), (&ANSWER.replace("RTP/AVP 0", "RTP/AVP 18"), "cannot be used")]
    {
        let mut desk = desk();
        place(&mut desk);
        respond(&mut desk, FIRST, "INVITE", "200 OK", "", body);
        let record = desk.record();
        assert_eq!(record.status, CallStatus::Failed);
        assert!(record.error_message.as_deref().is_some_and(|error| error.contains(words)), "{record:?}");
        assert!(desk.sent.iter().any(|text| text.starts_with("BYE")));
        respond(&mut desk, FIRST, "BYE", "200 OK", "", "");
        desk.assert_empty();
    }
}

/// RFC 3261 section 13.2.1: an answer in a reliable provisional response stands, and the 200 may come without one.
#[test]
fn an_answer_that_came_early_stands() {
    let mut desk = desk();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "183 Session Progress", "Require: 100rel\r\nRSeq: 1\r\n", ANSWER);
    respond(&mut desk, FIRST, "PRACK", "200 OK", "", "");
    respond(&mut desk, FIRST, "INVITE", "200 OK", "", "");
    assert!(desk.commands.contains(&BridgeCommand::Start), "{:?}", desk.log);
}

fn by_digest() -> Desk {
    desk_with(|trunk| trunk.auth = TrunkAuth::user_pass("acme", "s3cret"))
}

const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\"\r\n";

#[test]
fn a_challenge_is_answered_once_and_a_second_nonce_ends_it() {
    let mut desk = by_digest();
    place(&mut desk);
    assert!(!desk.last("INVITE").contains("Authorization"), "nobody has asked yet");
    respond(&mut desk, FIRST, "INVITE", "407 Proxy Authentication Required", CHALLENGE, "");
    let again = desk.last("INVITE");
    assert!(header(&again, "Proxy-Authorization").contains("username=\"acme\""), "{again}");
    assert!(header(&again, "From").contains("@192.0.2.101>"), "the account's own domain: {again}");
    respond(
        &mut desk,
        FIRST,
        "INVITE",
        "407 Proxy Authentication Required",
        &CHALLENGE.replace("n1", "n2"),
        "",
    );
    let record = desk.record();
    assert_eq!((record.status, record.sip_status, record.gateways.len()), (CallStatus::Failed, Some(407), 1));
    assert!(
        record.error_message.as_deref().is_some_and(|e| e.contains("user name and password")),
        "{record:?}"
    );
    assert!(!format!("{record:?}").contains("s3cret"));
    desk.assert_empty();
}

#[test]
fn a_gateway_that_calls_every_nonce_stale_gets_one_more_answer() {
    let mut desk = by_digest();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "401 Unauthorized", &CHALLENGE.replace("Proxy", "WWW"), "");
    for round in 2..6 {
        let stale = CHALLENGE
            .replace("Proxy", "WWW")
            .replace("n1", &format!("n{round}"))
            .replace("qop", "stale=true, qop");
        respond(&mut desk, FIRST, "INVITE", "401 Unauthorized", &stale, "");
        if !desk.records.is_empty() {
            assert_eq!(round, 3, "one fresh nonce is answered, the next is not");
            break;
        }
    }
    assert_eq!(desk.record().sip_status, Some(401));
}

#[test]
fn credentials_answer_only_the_gateway_that_asks() {
    let mut desk = by_digest();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "407 Proxy Authentication Required", CHALLENGE, "");
    respond(&mut desk, FIRST, "INVITE", "503 Service Unavailable", "", "");
    let second = desk.last("INVITE");
    assert!(second.contains("@192.0.2.102"), "{second}");
    assert!(!second.contains("uthorization"), "the second has not asked: {second}");
}

#[test]
fn a_trunk_without_credentials_says_so_when_it_is_asked_for_them() {
    let mut desk = desk();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "401 Unauthorized", &CHALLENGE.replace("Proxy", "WWW"), "");
    let error = desk.record().error_message.clone().unwrap_or_default();
    assert!(error.contains("asks for credentials, and the trunk has none"), "{error}");
}

#[test]
fn headers_of_the_order_stand_in_the_invite_and_those_of_the_call_cannot_be_written() {
    let mut desk = desk();
    let headers = [("X-Campaign", "spring"), ("Route", "<sip:evil.example;lr>"), ("X-Bad", "a\r\nVia: x")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    desk.input(Input::Place(Box::new(Dial { headers, ..dial(1) })));
    let invite = desk.last("INVITE");
    assert_eq!(header(&invite, "X-Campaign"), "spring");
    assert!(!invite.contains("evil") && !invite.contains("X-Bad"), "{invite}");
}

#[test]
fn a_call_without_room_is_handed_back_and_leaves_no_record() {
    let mut desk = desk_with(|trunk| trunk.limits.calls_out = Some(1));
    place(&mut desk);
    desk.input(Input::Place(Box::new(dial(2))));
    let (call, no_room) = desk.not_placed.first().expect("the second has no room");
    assert_eq!((*call, no_room.detail.as_str()), (dial(2).call, "1 of 1 concurrent outbound calls in use"));
    respond(&mut desk, FIRST, "INVITE", "486 Busy Here", "", "");
    desk.input(Input::Place(Box::new(dial(2))));
    assert_eq!(desk.not_placed.len(), 1, "the place is free again");
}

#[test]
fn calls_per_second_hold_for_calls_that_go_out() {
    let mut desk = desk_with(|trunk| trunk.limits.calls_per_second = Some(2.0));
    for number in 1..=3 {
        desk.input(Input::Place(Box::new(dial(number))));
    }
    assert_eq!(desk.not_placed.len(), 1);
    assert_eq!(desk.not_placed[0].1.retry_after, Some(Duration::from_secs(1)));
    desk.advance(Duration::from_secs(1));
    desk.input(Input::Place(Box::new(dial(3))));
    assert_eq!(desk.not_placed.len(), 1);
}

#[test]
fn nothing_is_placed_while_the_node_drains() {
    let mut desk = desk();
    let until = desk.now + Duration::from_secs(60);
    desk.input(Input::Drain { until });
    place(&mut desk);
    assert_eq!(desk.not_placed.len(), 1);
    desk.advance(Duration::from_secs(61));
}

#[test]
fn the_end_of_the_drain_ends_what_rings() {
    let mut desk = desk();
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "180 Ringing", "", "");
    let until = desk.now + Duration::from_secs(5);
    desk.input(Input::Drain { until });
    desk.advance(Duration::from_secs(6));
    assert_eq!(outcome(desk.record()), (CallStatus::Stopped, HangupBy::Error, HangupReason::NodeDrained));
    desk.assert_empty();
}

#[test]
fn a_call_lasts_no_longer_than_it_may() {
    let mut desk = desk();
    desk.input(Input::Place(Box::new(Dial { max_duration: Some(Duration::from_secs(30)), ..dial(1) })));
    respond(&mut desk, FIRST, "INVITE", "200 OK", "", ANSWER);
    desk.advance(Duration::from_secs(31));
    assert_eq!(
        outcome(desk.record()),
        (CallStatus::Completed, HangupBy::Caller, HangupReason::MaximumDuration)
    );
}

#[test]
fn what_cannot_be_placed_says_why_and_what_to_do() {
    type Change = fn(&mut Trunk);
    let changes: [(Change, &str); 4] = [
        (|trunk| trunk.is_active = false, "switched off"),
        (|trunk| trunk.outbound_enabled = false, "outbound_enabled"),
        (|trunk| trunk.gateways.clear(), "no gateway"),
        (|trunk| trunk.codecs.clear(), "no codec"),
    ];
    for (change, words) in changes {
        let mut desk = desk_with(change);
        place(&mut desk);
        let record = desk.record();
        assert_eq!(record.status, CallStatus::Failed);
        assert!(record.error_message.as_deref().is_some_and(|error| error.contains(words)), "{record:?}");
        desk.advance(Duration::from_secs(120));
        assert_eq!(desk.engine.census(), tandem_call::Census::default());
    }
}

/// A trunk of another account is none, whoever asks.
#[test]
fn no_account_calls_by_anothers_trunk_or_agent() {
    let mut desk = desk();
    desk.input(Input::Place(Box::new(Dial { account: "d".into(), ..dial(1) })));
    assert!(desk.record().error_message.as_deref().is_some_and(|error| error.contains("trunk was deleted")));
    desk.input(Input::Place(Box::new(Dial { agent: "gd".into(), ..dial(2) })));
    assert!(
        desk.records[1].error_message.as_deref().is_some_and(|error| error.contains("agent was deleted"))
    );
    assert!(desk.sent.is_empty());
}

/// Whatever is offered within the call is answered as for a call that came in.
#[test]
fn the_callee_may_hold_the_call() {
    let mut desk = desk();
    answered(&mut desk);
    let ack = desk.last("ACK sip:");
    let body = ANSWER.replace("5 5", "5 6") + "a=sendonly\r\n";
    let change = format!(
        "INVITE sip:tandem@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {FIRST};branch=z9hG4bKhold\r\nMax-Forwards: 70\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 7 INVITE\r\nContact: <sip:callee@{FIRST}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        header(&ack, "To"),
        header(&ack, "From"),
        header(&ack, "Call-ID"),
        body.len(),
    );
    desk.sent.clear();
    desk.receive(FIRST, &change);
    assert!(desk.last("200 OK").contains("a=recvonly"), "{:?}", desk.sent);
}

#[test]
fn the_same_order_twice_is_one_call() {
    let mut desk = desk();
    place(&mut desk);
    place(&mut desk);
    assert_eq!(desk.sent.iter().filter(|text| text.starts_with("INVITE")).count(), 1);
    let table = Arc::new(house_with(|_| {}));
    desk.input(Input::Routing(table));
    respond(&mut desk, FIRST, "INVITE", "486 Busy Here", "", "");
    assert_eq!(desk.record().status, CallStatus::Busy, "a call goes on with the trunk it began with");
}

const STATES: [&str; 7] = ["way", "bridge", "answer", "listener", "end", "bridge close", "last message"];

/// A call that we place, brought into a state by hand.
fn scene(state: &str) -> Desk {
    let mut desk = desk();
    (desk.finds_ways, desk.ports, desk.agent, desk.closes_bridges) =
        (false, Ports::Silent, AgentMood::Silent, false);
    let call = place(&mut desk);
    let stage = STATES.iter().position(|known| *known == state).expect("a known state");
    if stage >= 1 {
        desk.input(found(call));
    }
    if stage >= 2 {
        desk.input(Input::BridgeOpened { call, rtp: RTP.parse().expect("an address") });
    }
    if stage >= 3 {
        respond(&mut desk, FIRST, "INVITE", "200 OK", "", ANSWER);
    }
    if stage >= 4 {
        desk.input(Input::AgentConnected { call });
    }
    if stage >= 5 {
        bye(&mut desk, "");
    }
    if stage >= 6 {
        desk.bridge_closed(call);
        desk.input(Input::Timeout);
    }
    assert_eq!(desk.engine.awaits(call), Some(state));
    desk
}

fn found(call: CallId) -> Input {
    let way = |remote: &str| Way {
        transport: tandem_sip::Transport::Udp,
        local: LOCAL.parse().expect("an address"),
        remote: remote.parse().expect("an address"),
    };
    Input::WayFound { call, ways: vec![way(FIRST)] }
}

type Act = fn(&mut Desk, CallId);

const INPUTS: [(&str, Act); 21] = [
    ("way found", |desk, call| desk.input(found(call))),
    ("no way", |desk, call| desk.input(Input::WayFound { call, ways: Vec::new() })),
    ("way failed", |desk, call| desk.input(Input::WayFailed { call, why: "no".to_owned() })),
    ("bridge opened", |desk, call| {
        desk.input(Input::BridgeOpened { call, rtp: RTP.parse().expect("an address") });
    }),
    ("bridge failed", |desk, call| {
        desk.input(Input::BridgeFailed { call, cause: tandem_call::BridgeFailure::NoPorts });
    }),
    ("bridge closed", |desk, call| desk.bridge_closed(call)),
    ("agent connected", |desk, call| desk.input(Input::AgentConnected { call })),
    ("agent refused", |desk, call| desk.input(Input::AgentRefused { call, cause: AgentFailure::Timeout })),
    ("agent hangs up", |desk, call| {
        desk.input(Input::Bridge { call, event: BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Lost } });
    }),
    ("media timeout", |desk, call| desk.input(Input::Bridge { call, event: BridgeEvent::MediaTimeout })),
    ("nobody speaks", |desk, call| {
        let event = BridgeEvent::NobodySpeaks { silence: Duration::from_secs(10) };
        desk.input(Input::Bridge { call, event });
    }),
    ("hold wished", |desk, call| {
        desk.input(Input::Bridge { call, event: BridgeEvent::Hold { is_held: true } })
    }),
    ("100", |desk, _| respond_if_asked(desk, "100 Trying", "")),
    ("180", |desk, _| respond_if_asked(desk, "180 Ringing", "")),
    ("200", |desk, _| respond_if_asked(desk, "200 OK", ANSWER)),
    ("486", |desk, _| respond_if_asked(desk, "486 Busy Here", "")),
    ("503", |desk, _| respond_if_asked(desk, "503 Service Unavailable", "")),
    ("transmit failed", |desk, _| {
        if let Some(transmit) = desk.transmits.last().copied() {
            desk.input(Input::TransmitFailed { transmit });
        }
    }),
    ("stop", |desk, call| {
        desk.input(Input::Command(Command::HangUp { call, as_what: HangUpCommand::Stop }));
    }),
    ("drain ends", |desk, _| {
        let until = desk.now;
        desk.input(Input::Drain { until });
    }),
    ("time", |desk, _| desk.advance(Duration::from_secs(70))),
];

fn respond_if_asked(desk: &mut Desk, status: &str, body: &str) {
    if desk.sent.iter().any(|text| text.starts_with("INVITE")) {
        respond(desk, FIRST, "INVITE", status, "", body);
    }
}

/// Whatever happens in whatever state: one record, one ladder, at most one bridge closed, and nothing left.
#[test]
fn each_state_and_input_of_a_placed_call_comes_to_one_record_and_leaves_nothing() {
    for state in STATES {
        for (input, act) in INPUTS {
            let mut desk = scene(state);
            let call = dial(1).call;
            act(&mut desk, call);
            desk.finds_ways = true;
            desk.input(Input::Command(Command::HangUp { call, as_what: HangUpCommand::Complete }));
            desk.advance(Duration::from_secs(200));
            assert_eq!(desk.engine.census(), tandem_call::Census::default(), "{state} × {input}");
            assert_eq!((desk.records.len(), desk.ladders.len()), (1, 1), "{state} × {input}");
            assert_eq!(desk.verdicts.len(), 1, "{state} × {input}");
            assert!(desk.closed.len() <= 1 && desk.plans.len() <= 1, "{state} × {input}");
            let record = desk.record();
            assert!(
                record.gateways.iter().all(|attempt| attempt.ended_unix_ms.is_some()),
                "{state} × {input}: {record:?}"
            );
        }
    }
}
