//! One inbound call through the engine, along every path it can take: a scripted caller, a shell that does as it is told,
//! and virtual time. Each test ends with nothing left.

use std::time::Duration;

use bytes::Bytes;

use crate::desk::{AgentMood, Caller, Desk, OFFER, Ports};
use tandem_call::bridge::{AgentHangUpCause, AgentWish, BridgeCommand, BridgeEvent};
use tandem_call::{
    AgentFailure, AgentFailureStatus, BridgeFailure, CallStatus, Command, EngineConfig, HangUpCommand,
    HangupBy, HangupReason, IncidentKind, Input, VerdictCode,
};
use tandem_media::session::SecurityTrouble;
use tandem_media::{Codec, Direction};
use tandem_sip::{Flow, Transport};

#[test]
fn a_call_rings_is_answered_speaks_and_ends_with_the_callers_bye() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.extra = "X-Name: Ada\r\n".to_owned();
    caller.send_invite(&mut desk);
    assert_eq!(desk.last("200").matches("m=audio 20000 RTP/AVP 0").count(), 1);
    caller.take_tag(&desk, "200");
    assert_eq!(desk.lines(), ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
    assert!(desk.commands.is_empty(), "no audio before the ACK");
    desk.advance(Duration::from_millis(100));
    caller.send_ack(&mut desk, None);
    assert_eq!(desk.commands, [BridgeCommand::Start]);

    let plan = &desk.plans[0];
    assert_eq!(plan.agent.url, format!("ws://agent.example/ws/{}?from=%2B4930123", plan.call));
    assert_eq!(plan.agent.headers, [("X-Name".to_owned(), "Ada".to_owned())]);
    assert_eq!(plan.agent.facts.parameters, [("trunk".to_owned(), "ta".to_owned())]);
    assert_eq!(plan.agent.facts.headers, [("X-Name".to_owned(), "Ada".to_owned())]);
    let media = plan.media.unwrap();
    assert_eq!((media.codec, media.remote), (Codec::PCMU, "192.0.2.1:4000".parse().unwrap()));

    desk.advance(Duration::from_secs(60));
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.lines(), ["SIP/2.0 200 OK"]);
    assert_eq!(desk.commands.last(), Some(&BridgeCommand::HangUp));
    let record = desk.record();
    assert_eq!(record.status, CallStatus::Completed);
    assert_eq!(record.hangup_by, Some(HangupBy::Caller));
    assert_eq!(record.hangup_reason, Some(HangupReason::EndedNormally));
    assert_eq!((record.sip_status, record.q850), (Some(200), Some(16)));
    assert_eq!(record.duration_ms(), 60_100);
    assert_eq!((record.from.as_str(), record.to.as_str()), ("+4930123", "+918047102030"));
    assert_eq!(record.media.packets_received, 100);
    let told: Vec<CallStatus> = desk.progress.iter().map(|record| record.status).collect();
    assert_eq!(
        told,
        [CallStatus::Initiated, CallStatus::Ringing, CallStatus::InProgress, CallStatus::CallDisconnected]
    );
    assert_eq!((desk.verdict().code, desk.verdict().status), (VerdictCode::Accepted, 200));
    assert_eq!(desk.verdict().call, Some(desk.call()));
    desk.assert_empty();
    let ladder: Vec<String> = desk.ladders[0].iter().map(|rung| rung.start_line.clone()).collect();
    assert_eq!(
        ladder,
        [
            "INVITE sip:+918047102030@203.0.113.1 SIP/2.0",
            "SIP/2.0 100 Trying",
            "SIP/2.0 180 Ringing",
            "SIP/2.0 200 OK",
            "ACK sip:+918047102030@203.0.113.1 SIP/2.0",
            "BYE sip:+918047102030@203.0.113.1 SIP/2.0",
            "SIP/2.0 200 OK",
        ]
    );
}

/// CANCEL while the port is bound, while the agent is dialled, and too late, after the 200.
#[test]
fn a_cancel_ends_the_call_in_each_phase_before_the_answer_and_in_none_after() {
    for (ports, agent) in [(Ports::Silent, AgentMood::Silent), (Ports::Bind, AgentMood::Silent)] {
        let mut desk = Desk::new();
        (desk.ports, desk.agent) = (ports, agent);
        let caller = Caller::new();
        caller.send_invite(&mut desk);
        desk.lines();
        caller.send_cancel(&mut desk);
        let mut lines = desk.lines();
        lines.sort();
        assert_eq!(lines, ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"], "{ports:?}");
        let record = desk.record();
        assert_eq!((record.status, record.hangup_by), (CallStatus::Canceled, Some(HangupBy::Caller)));
        assert_eq!(record.hangup_reason, Some(HangupReason::CanceledByOriginator));
        assert_eq!(record.sip_status, Some(487));
        assert_eq!(desk.verdict().code, VerdictCode::CancelledByCaller);
        // What the shell had on its way comes too late and does no harm.
        let call = desk.call();
        desk.input(Input::BridgeOpened { call, rtp: crate::desk::RTP.parse().unwrap() });
        desk.input(Input::AgentConnected { call });
        desk.advance(Duration::from_secs(120));
        assert_eq!(desk.engine.census(), tandem_call::Census::default());
    }

    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.send_invite(&mut desk);
    caller.take_tag(&desk, "200");
    desk.lines();
    let late = Caller { to_tag: String::new(), ..Caller::new() };
    late.send_cancel(&mut desk);
    assert_eq!(desk.lines(), ["SIP/2.0 200 OK"], "the CANCEL is answered, the call stands");
    caller.send_ack(&mut desk, None);
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

#[test]
fn an_agent_that_cannot_be_had_is_a_clean_failure_with_its_cause() {
    for (cause, code, text) in [
        (
            AgentFailure::Unreachable("192.0.2.9:80: Connection refused".to_owned()),
            VerdictCode::AgentUnreachable,
            "the agent's server cannot be reached: 192.0.2.9:80: Connection refused",
        ),
        (
            AgentFailure::Status(403),
            VerdictCode::AgentRefused,
            "the agent's server answered 403 to the upgrade",
        ),
        (AgentFailure::Timeout, VerdictCode::AgentTimeout, "the agent's server did not answer in time"),
    ] {
        let mut desk = Desk::new();
        desk.agent = AgentMood::Refuses(cause);
        Caller::new().send_invite(&mut desk);
        assert_eq!(desk.lines().last().unwrap(), "SIP/2.0 480 Temporarily Unavailable");
        let record = desk.record();
        assert_eq!((record.status, record.hangup_by), (CallStatus::Failed, Some(HangupBy::Error)));
        assert_eq!(record.error_message.as_deref(), Some(text));
        assert_eq!((record.sip_status, record.q850), (Some(480), Some(41)));
        assert_eq!((desk.verdict().code, desk.verdict().status), (code, 480));
        assert_eq!(desk.verdict().trace.last().unwrap().detail, text);
        desk.assert_empty();
    }
}

#[test]
fn policy_may_answer_503_for_a_missing_agent() {
    let config = EngineConfig {
        agent_failure_status: AgentFailureStatus::ServiceUnavailable,
        ..EngineConfig::default()
    };
    let mut desk = Desk::with(config, crate::desk::house());
    desk.agent = AgentMood::Refuses(AgentFailure::NameUnknown("a.example: no such name".to_owned()));
    Caller::new().send_invite(&mut desk);
    assert!(desk.last("503").contains("Retry-After: "));
    assert_eq!(desk.verdict().status, 503);
    desk.assert_empty();
}

#[test]
fn a_slow_agent_is_given_up_in_bounded_time() {
    let mut desk = Desk::new();
    desk.agent = AgentMood::Silent;
    Caller::new().send_invite(&mut desk);
    desk.lines();
    desk.advance(Duration::from_millis(9_999));
    assert!(desk.lines().is_empty());
    desk.advance(Duration::from_millis(1));
    assert_eq!(desk.lines(), ["SIP/2.0 480 Temporarily Unavailable"]);
    assert_eq!(desk.verdict().code, VerdictCode::AgentTimeout);
    let call = desk.call();
    desk.input(Input::AgentConnected { call });
    desk.advance(Duration::from_secs(120));
    assert_eq!(desk.engine.census(), tandem_call::Census::default());
}

#[test]
fn without_a_media_port_the_caller_is_sent_elsewhere() {
    let mut desk = Desk::new();
    desk.ports = Ports::Refuse(BridgeFailure::NoPorts);
    Caller::new().send_invite(&mut desk);
    assert!(desk.last("503").contains("Retry-After: 5"));
    assert_eq!(desk.verdict().code, VerdictCode::MediaUnavailable);
    assert_eq!(desk.record().status, CallStatus::Failed);
    assert!(desk.closed.is_empty(), "there is no bridge to close");
    desk.assert_empty();

    let mut desk = Desk::new();
    desk.ports = Ports::Silent;
    Caller::new().send_invite(&mut desk);
    desk.advance(Duration::from_secs(3));
    assert!(desk.last("503").contains("Retry-After: 5"));
    assert_eq!(desk.closed.len(), 1, "a bridge that may come yet is closed");
    desk.assert_empty();
}

#[test]
fn without_an_offer_ours_goes_out_in_the_200_and_the_ack_brings_the_answer() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.offer = None;
    caller.send_invite(&mut desk);
    assert!(desk.plans[0].media.is_none());
    assert!(desk.last("200").contains("m=audio 20000 RTP/AVP 0 8 101"));
    caller.take_tag(&desk, "200");
    caller.send_ack(&mut desk, Some(&OFFER.replace("0 8 101", "8 101")));
    let [BridgeCommand::Media(media), BridgeCommand::Start] = desk.commands.as_slice() else {
        panic!("{:?}", desk.commands)
    };
    assert_eq!(media.codec, Codec::PCMA);
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

/// RFC 3261 section 13.2.1: the ACK must bring the answer; a call without one is nobody's.
#[test]
fn an_ack_without_its_answer_ends_the_call() {
    for body in [None, Some(OFFER.replace("RTP/AVP 0 8 101", "RTP/AVP 9"))] {
        let mut desk = Desk::new();
        let mut caller = Caller::new();
        caller.offer = None;
        caller.send_invite(&mut desk);
        caller.take_tag(&desk, "200");
        desk.lines();
        caller.send_ack(&mut desk, body.as_deref());
        assert!(desk.lines()[0].starts_with("BYE "));
        assert_eq!(desk.record().status, CallStatus::Failed);
        assert!(desk.record().error_message.is_some());
        desk.assert_empty();
    }
}

#[test]
fn offers_that_cannot_be_met_are_refused_before_there_is_a_call() {
    for (body, status, code) in [
        (OFFER.replace("0 8 101", "9 101"), "488 Not Acceptable Here", VerdictCode::NoCommonCodec),
        (OFFER.replace("RTP/AVP", "RTP/SAVP"), "488 Not Acceptable Here", VerdictCode::EncryptionOffered),
        (
            OFFER.replace("m=audio 4000 RTP/AVP 0 8 101", "m=image 4000 udptl t38"),
            "488 Not Acceptable Here",
            VerdictCode::OfferUnacceptable,
        ),
        ("rubbish\r\n".to_owned(), "400 Bad Request", VerdictCode::OfferUnacceptable),
    ] {
        let mut desk = Desk::new();
        let mut caller = Caller::new();
        caller.offer = Some(body);
        caller.send_invite(&mut desk);
        assert_eq!(desk.lines(), [format!("SIP/2.0 {status}")]);
        assert_eq!(desk.verdict().code, code);
        assert!(desk.plans.is_empty() && desk.records.is_empty());
        desk.assert_empty();
    }
}

#[test]
fn hold_resume_address_and_codec_change_reach_the_bridge() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    let mut change = |desk: &mut Desk, method: &str, offer: &str| {
        desk.commands.clear();
        desk.lines();
        caller.send(desk, method, Some(offer));
        let answer = desk.last("200");
        if method == "INVITE" {
            caller.send_ack(desk, None);
        }
        let [BridgeCommand::Media(media)] = desk.commands.as_slice() else { panic!("{:?}", desk.commands) };
        (*media, answer)
    };
    let (held, answer) = change(&mut desk, "INVITE", &(OFFER.to_owned() + "a=sendonly\r\n"));
    assert_eq!(held.direction, Direction::RecvOnly);
    assert!(answer.contains("a=recvonly"));
    let (silent, _) = change(&mut desk, "UPDATE", &(OFFER.to_owned() + "a=inactive\r\n"));
    assert_eq!(silent.direction, Direction::Inactive);
    // On hold nothing is heard, and the watchdog is not to bark.
    let call = desk.call();
    desk.input(Input::Bridge { call, event: BridgeEvent::MediaTimeout });
    assert!(desk.records.is_empty());
    let (moved, _) = change(&mut desk, "INVITE", &OFFER.replace("4000", "6000").replace("0 8 101", "8 101"));
    assert_eq!((moved.remote.port(), moved.codec), (6000, Codec::PCMA));
    assert_eq!(moved.direction, Direction::SendRecv);
    caller.send(&mut desk, "BYE", None);
    desk.assert_empty();
}

#[test]
fn an_offer_of_fax_alone_is_refused_and_the_call_goes_on() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    desk.commands.clear();
    desk.lines();
    caller.send(
        &mut desk,
        "INVITE",
        Some(&OFFER.replace("m=audio 4000 RTP/AVP 0 8 101", "m=image 4000 udptl t38")),
    );
    assert_eq!(desk.lines().last().unwrap(), "SIP/2.0 488 Not Acceptable Here");
    assert!(desk.commands.is_empty());
    assert_eq!(desk.engine.counters().refused_changes, 1);
    let both = OFFER.to_owned() + "m=image 5000 udptl t38\r\n";
    caller.send(&mut desk, "INVITE", Some(&both));
    assert!(desk.last("200").contains("m=image 0 udptl t38"));
    caller.send_ack(&mut desk, None);
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

#[test]
fn a_reinvite_without_offer_gets_ours_and_its_ack_brings_the_answer() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    desk.commands.clear();
    desk.lines();
    caller.send(&mut desk, "INVITE", None);
    assert!(desk.last("200").contains("m=audio 20000 RTP/AVP 0 8 101"));
    assert!(desk.commands.is_empty());
    caller.send_ack(&mut desk, Some(&OFFER.replace("4000", "7000")));
    let [BridgeCommand::Media(media)] = desk.commands.as_slice() else { panic!("{:?}", desk.commands) };
    assert_eq!(media.remote.port(), 7000);
    caller.send(&mut desk, "BYE", None);
    desk.assert_empty();
}

#[test]
fn keys_told_by_info_reach_the_bridge() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    desk.commands.clear();
    desk.lines();
    caller.extra = "Content-Type: application/dtmf-relay\r\n".to_owned();
    caller.send(&mut desk, "INFO", Some("Signal=5\r\nDuration=160\r\n"));
    assert_eq!(desk.lines(), ["SIP/2.0 200 OK"]);
    assert_eq!(desk.commands, [BridgeCommand::Digit { digit: '5', duration_ms: 160 }]);
    caller.extra.clear();
    caller.send(&mut desk, "BYE", None);
    desk.assert_empty();
}

#[test]
fn the_agents_hang_up_sends_bye_with_its_reason() {
    for (cause, status, by, error) in [
        (AgentHangUpCause::Command, CallStatus::Completed, HangupBy::Callee, None),
        (AgentHangUpCause::Closed { code: Some(1000) }, CallStatus::Completed, HangupBy::Callee, None),
        (
            AgentHangUpCause::Closed { code: Some(1011) },
            CallStatus::Completed,
            HangupBy::Callee,
            Some("the agent closed its socket with 1011"),
        ),
        (
            AgentHangUpCause::Lost,
            CallStatus::Completed,
            HangupBy::Error,
            Some("the agent's connection broke"),
        ),
        (
            AgentHangUpCause::ProtocolErrors,
            CallStatus::Failed,
            HangupBy::Error,
            Some("the agent sent too much that could not be understood"),
        ),
    ] {
        let mut desk = Desk::new();
        Caller::new().set_up(&mut desk);
        desk.lines();
        let call = desk.call();
        desk.input(Input::Bridge { call, event: BridgeEvent::AgentHangUp { cause } });
        let bye = desk.last("BYE");
        assert!(bye.contains("Reason: Q.850;cause="), "{bye}");
        let record = desk.record();
        assert_eq!((record.status, record.hangup_by), (status, Some(by)), "{cause:?}");
        assert_eq!(record.error_message.as_deref(), error);
        desk.assert_empty();
    }
}

/// What is not done is refused aloud, and stands in the record.
#[test]
fn wishes_of_the_agent_are_refused_and_remembered() {
    let mut desk = Desk::new();
    Caller::new().set_up(&mut desk);
    let call = desk.call();
    let events = [
        (BridgeEvent::Hold { is_held: true }, Some(AgentWish::Hold), IncidentKind::HoldRefused),
        (BridgeEvent::Hold { is_held: false }, Some(AgentWish::Unhold), IncidentKind::HoldRefused),
        (BridgeEvent::DigitRefused { digit: '5' }, None, IncidentKind::DigitRefused),
        (BridgeEvent::QueueOverflow { dropped_ms: 20 }, None, IncidentKind::AgentOverflow),
        (
            BridgeEvent::MediaTroubled { trouble: SecurityTrouble::InTheClear },
            None,
            IncidentKind::EncryptionBroken,
        ),
    ];
    for (event, wish, _) in events.clone() {
        let before = desk.commands.len();
        desk.input(Input::Bridge { call, event });
        let refused = wish.map(|wish| BridgeCommand::Refuse { wish });
        assert_eq!(desk.commands[before..].first(), refused.as_ref());
    }
    assert_eq!(desk.engine.counters().unsupported_wishes, 2);
    desk.input(Input::Command(Command::HangUp { call, as_what: HangUpCommand::Complete }));
    let kinds: Vec<_> = desk.record().incidents.entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, events.map(|(_, _, kind)| kind));
    let said = desk.record().error_message.clone().unwrap_or_default();
    assert!(said.contains("sends plain RTP") && said.contains("media_encryption"), "{said}");
    assert_eq!(desk.engine.counters().encryption_broken, 1);
    assert_eq!(desk.record().status, CallStatus::Completed);
}

#[test]
fn a_command_stops_or_completes_the_call_in_any_phase() {
    for (as_what, status) in
        [(HangUpCommand::Stop, CallStatus::Stopped), (HangUpCommand::Complete, CallStatus::Completed)]
    {
        let mut desk = Desk::new();
        Caller::new().set_up(&mut desk);
        let call = desk.call();
        desk.input(Input::Command(Command::SendDtmf { call, digits: "12#".to_owned(), duration_ms: 100 }));
        assert!(matches!(desk.commands.last(), Some(BridgeCommand::SendDtmf { .. })));
        desk.input(Input::Command(Command::HangUp { call, as_what }));
        assert!(desk.last("BYE").starts_with("BYE "));
        let record = desk.record();
        assert_eq!((record.status, record.hangup_by), (status, Some(HangupBy::ApiRequest)));
        desk.input(Input::Command(Command::HangUp { call, as_what }));
        desk.assert_empty();

        let mut desk = Desk::new();
        desk.agent = AgentMood::Silent;
        Caller::new().send_invite(&mut desk);
        let call = desk.call();
        desk.input(Input::Command(Command::HangUp { call, as_what }));
        assert_eq!(desk.lines().last().unwrap(), "SIP/2.0 480 Temporarily Unavailable");
        assert_eq!(desk.verdict().code, VerdictCode::EndedBeforeAnswer);
        desk.assert_empty();
    }
}

#[test]
fn silence_of_the_caller_ends_the_call() {
    let mut desk = Desk::new();
    Caller::new().set_up(&mut desk);
    let call = desk.call();
    desk.input(Input::Bridge { call, event: BridgeEvent::MediaTimeout });
    assert!(desk.last("BYE").contains("cause=102"));
    let record = desk.record();
    assert_eq!(record.hangup_reason, Some(HangupReason::InactivityTimeout));
    assert_eq!((record.status, record.hangup_by), (CallStatus::Completed, Some(HangupBy::Carrier)));
    desk.assert_empty();
}

/// RFC 3261 section 13.3.1.4: 64*T1 without ACK, then BYE.
#[test]
fn an_answer_never_acknowledged_is_a_failed_call() {
    let mut desk = Desk::new();
    Caller::new().send_invite(&mut desk);
    desk.lines();
    desk.advance(Duration::from_secs(33));
    let lines = desk.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("SIP/2.0 200")).count(), 10, "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("BYE ")), "{lines:?}");
    let record = desk.record();
    assert_eq!((record.status, record.hangup_by), (CallStatus::Failed, Some(HangupBy::Carrier)));
    assert_eq!(record.error_message.as_deref(), Some("the caller never acknowledged the answer"));
    assert!(desk.commands.iter().all(|command| *command != BridgeCommand::Start));
    desk.assert_empty();
}

#[test]
fn a_session_not_refreshed_ends() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.extra = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n".to_owned();
    caller.set_up(&mut desk);
    desk.advance(Duration::from_secs(95));
    let record = desk.record();
    assert_eq!((record.status, record.hangup_by), (CallStatus::Completed, Some(HangupBy::Carrier)));
    assert_eq!(record.error_message.as_deref(), Some("the caller did not refresh the session in time"));
    desk.assert_empty();
}

#[test]
fn the_longest_call_has_an_end() {
    let mut desk = Desk::new();
    Caller::new().set_up(&mut desk);
    desk.advance(Duration::from_secs(4 * 3600 + 1));
    assert_eq!(desk.record().hangup_reason, Some(HangupReason::MaximumDuration));
    assert_eq!(desk.record().duration_ms(), 4 * 3600 * 1000);
    desk.assert_empty();
}

#[test]
fn a_bye_before_the_ack_is_a_call_that_was_answered() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.send_invite(&mut desk);
    caller.take_tag(&desk, "200");
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    assert!(desk.commands.iter().all(|command| *command != BridgeCommand::Start));
    desk.assert_empty();
}

/// RFC 3261 section 15: "The caller's UA MAY send a BYE for either confirmed or early dialogs".
#[test]
fn a_bye_while_it_rings_is_a_call_given_up() {
    let mut desk = Desk::new();
    desk.agent = AgentMood::Silent;
    let mut caller = Caller::new();
    caller.send_invite(&mut desk);
    caller.take_tag(&desk, "180");
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Canceled);
    assert_eq!(desk.verdict().code, VerdictCode::CancelledByCaller);
    desk.assert_empty();
}

/// A re-INVITE that asks for our offer while the first ACK is still on its way: whose answer would that ACK be?
#[test]
fn an_offerless_reinvite_that_overtakes_the_ack_is_put_off() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.send_invite(&mut desk);
    caller.take_tag(&desk, "200");
    desk.lines();
    let mut early = Caller { to_tag: caller.to_tag.clone(), ..Caller::new() };
    early.send(&mut desk, "INVITE", None);
    assert_eq!(desk.lines().last().unwrap(), "SIP/2.0 491 Request Pending");
    caller.send_ack(&mut desk, None);
    assert_eq!(desk.commands, [BridgeCommand::Start]);
    early.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

#[test]
fn a_drain_refuses_new_calls_and_ends_old_ones_within_its_bound() {
    let mut desk = Desk::new();
    Caller::new().set_up(&mut desk);
    desk.lines();
    let until = desk.now + Duration::from_secs(20);
    desk.input(Input::Drain { until });
    let second = Caller { call_id: "call-2".to_owned(), ..Caller::new() };
    second.send_invite(&mut desk);
    assert!(desk.last("503").contains("Retry-After: 30"));
    assert_eq!(desk.verdicts.last().unwrap().code, VerdictCode::Draining);
    let ping = second.request("OPTIONS", 9, "z9hG4bKping", None);
    desk.receive(second.address, &ping);
    assert!(desk.last("503").contains("Retry-After: 30"), "a carrier that pings hears of it too");
    assert!(desk.records.is_empty());
    desk.advance(Duration::from_secs(20));
    assert_eq!(desk.record().hangup_reason, Some(HangupReason::NodeDrained));
    assert_eq!(desk.record().status, CallStatus::Stopped);
    desk.assert_empty();
}

#[test]
fn a_bridge_that_never_closes_does_not_hold_the_record() {
    let mut desk = Desk::new();
    desk.closes_bridges = false;
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    caller.send(&mut desk, "BYE", None);
    assert!(desk.records.is_empty());
    assert_eq!(desk.engine.census().admitted, 0, "its place is free at once");
    desk.advance(Duration::from_secs(10));
    assert_eq!(desk.record().status, CallStatus::Completed);
    assert_eq!(desk.engine.counters().lost_bridges, 1);
    desk.assert_empty();
}

#[test]
fn a_media_path_that_dies_ends_its_call_alone() {
    let mut desk = Desk::new();
    Caller::new().set_up(&mut desk);
    let call = desk.call();
    desk.bridge_closed(call);
    desk.input(Input::Timeout);
    assert!(desk.last("BYE").starts_with("BYE "));
    assert_eq!(desk.record().status, CallStatus::Error);
    assert!(desk.closed.is_empty(), "there is nothing left to close");
    desk.assert_empty();
}

/// The same call over a stream, cut into pieces that end where no message does; then the connection goes, and the call
/// ends all the same when the agent hangs up.
#[test]
fn a_call_over_a_stream_survives_its_connection() {
    let mut desk = Desk::new();
    let flow = Flow {
        transport: Transport::Tcp,
        local: crate::desk::LOCAL.parse().unwrap(),
        remote: "192.0.2.1:49152".parse().unwrap(),
        connection: 1,
    };
    desk.input(Input::StreamOpened { flow });
    let feed = |desk: &mut Desk, text: String| {
        for piece in text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").into_bytes().chunks(37) {
            desk.input(Input::StreamData { flow, payload: Bytes::copy_from_slice(piece) });
        }
    };
    let mut caller = Caller::new();
    feed(&mut desk, caller.invite());
    caller.take_tag(&desk, "200");
    assert_eq!(desk.lines().len(), 3);
    feed(&mut desk, caller.request("ACK", 1, "z9hG4bKack", None));
    assert_eq!(desk.commands, [BridgeCommand::Start]);
    desk.input(Input::StreamClosed { flow });
    desk.advance(Duration::from_secs(60));
    assert!(desk.records.is_empty(), "a lost connection is no lost call");
    let call = desk.call();
    desk.input(Input::Bridge { call, event: BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Command } });
    assert!(desk.last("BYE").contains("SIP/2.0/TCP"));
    let transmit = *desk.transmits.last().unwrap();
    desk.input(Input::TransmitFailed { transmit });
    assert_eq!(desk.record().status, CallStatus::Completed);
    desk.assert_empty();
}

/// What a stream cuts and glues is one rung a message all the same.
#[test]
fn a_ladder_over_a_stream_shows_messages_not_pieces() {
    let mut desk = Desk::new();
    let flow = Flow {
        transport: Transport::Tcp,
        local: crate::desk::LOCAL.parse().unwrap(),
        remote: "192.0.2.1:49152".parse().unwrap(),
        connection: 1,
    };
    desk.input(Input::StreamOpened { flow });
    let over_tcp = |text: String| text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").into_bytes();
    let mut caller = Caller::new();
    let invite = over_tcp(caller.invite());
    for piece in invite.chunks(200) {
        desk.input(Input::StreamData { flow, payload: Bytes::copy_from_slice(piece) });
    }
    caller.take_tag(&desk, "200");
    let ack = over_tcp(caller.request("ACK", 1, "z9hG4bKack", None));
    let bye = over_tcp(caller.request("BYE", 2, "z9hG4bKbye", None));
    // The ACK, the BYE, and half of it once more.
    let glued = [&ack[..], &bye, &bye[..99]].concat();
    desk.input(Input::StreamData { flow, payload: Bytes::from(glued) });
    desk.advance(Duration::from_secs(8));
    let heard = desk.ladders[0].iter().filter(|rung| rung.heading == tandem_call::ladder::Heading::In);
    let heard: Vec<_> = heard.map(|rung| (rung.cseq.as_str(), rung.bytes as usize)).collect();
    assert_eq!(heard, [("1 INVITE", invite.len()), ("1 ACK", ack.len()), ("2 BYE", bye.len())]);
}

#[test]
fn the_reason_a_caller_gives_is_recorded() {
    let mut desk = Desk::new();
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    caller.extra = "Reason: SIP;cause=200, Q.850 ;cause=31;text=\"a;b\"\r\n".to_owned();
    caller.send(&mut desk, "BYE", None);
    assert_eq!(desk.record().q850, Some(31));
    desk.assert_empty();
}
