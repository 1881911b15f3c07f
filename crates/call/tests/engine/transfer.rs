//! Transfers: by REFER and by a second leg, what the trunk's policy forbids, and every end they can have.

use std::time::Duration;

use tandem_agent::TransferMode;
use tandem_call::bridge::{BridgeCommand, BridgeEvent};
use tandem_call::{
    CallId, CallStatus, Command, EngineConfig, Gateway, HangUpCommand, HangupBy, HangupReason, IncidentKind,
    Input, ShownNumber, TransferBy, TransferMethod, TransferOrder, TransferOutcome, TransferPolicy,
    TransferRecord, TransferRule, TransferWay, Trunk,
};

use crate::desk::{Caller, Desk, Ports, house_with};
use crate::outbound::{header, respond_to};

const GATEWAY: &str = "192.0.2.101:5060";
const HUMAN: &str = "+4930999";

const ANSWER: &str = "v=0\r\no=- 5 5 IN IP4 192.0.2.150\r\ns=-\r\nc=IN IP4 192.0.2.150\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// A call that is up, on a trunk with this rule.
struct Up {
    desk: Desk,
    caller: Caller,
    call: CallId,
}

impl Up {
    fn new(rule: TransferRule) -> Self {
        Self::with(|trunk| trunk.transfers.rule = rule)
    }

    fn with(change: impl FnOnce(&mut Trunk)) -> Self {
        let table = house_with(|trunks| {
            trunks[0].gateways = ["192.0.2.101", "192.0.2.102"]
                .map(|address| Gateway {
                    address: address.to_owned(),
                    port: Some(5060),
                    priority: 1,
                    weight: 1,
                    transport: None,
                })
                .into();
            change(&mut trunks[0]);
        });
        let mut desk = Desk::with(EngineConfig::default(), table);
        let mut caller = Caller::new();
        caller.set_up(&mut desk);
        let call = desk.call();
        desk.log.clear();
        desk.sent.clear();
        Self { desk, caller, call }
    }

    fn ask(&mut self, order: TransferOrder) {
        let call = self.call;
        self.desk.input(Input::Command(Command::Transfer { call, order: Box::new(order) }));
    }

    fn dial(&mut self, keeps_agent: bool) {
        self.ask(TransferOrder { way: TransferWay::Dial, keeps_agent, ..TransferOrder::to(HUMAN) });
    }

    /// A response of the carrier to our REFER.
    fn answer_refer(&mut self, status: &str) {
        let refer = self.desk.last("REFER sip:");
        respond_to(&mut self.desk, "192.0.2.1:5060", &refer, status, "", "");
    }

    fn notify(&mut self, state: &str, fragment: &str) {
        self.caller.extra = format!(
            "Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag;version=2.0\r\n"
        );
        self.caller.send(&mut self.desk, "NOTIFY", Some(fragment));
        self.caller.extra.clear();
    }

    /// A response of the gateway to the second leg's INVITE.
    fn second(&mut self, from: &str, status: &str, body: &str) {
        let invite = self.desk.last("INVITE sip:");
        respond_to(&mut self.desk, from, &invite, status, "", body);
    }

    fn joined(mut self, keeps_agent: bool) -> Self {
        self.dial(keeps_agent);
        self.second(GATEWAY, "180 Ringing", "");
        self.second(GATEWAY, "200 OK", ANSWER);
        assert!(self.desk.commands.contains(&BridgeCommand::Join { keeps_agent }));
        self
    }

    fn second_bye(&mut self) {
        let ack = self.desk.last("ACK sip:");
        let bye = format!(
            "BYE sip:tandem@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {GATEWAY};branch=z9hG4bKbye2\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
            header(&ack, "To"),
            header(&ack, "From"),
            header(&ack, "Call-ID"),
        );
        self.desk.receive(GATEWAY, &bye);
    }

    fn transfer(&self) -> &TransferRecord {
        let record = self.desk.records.last().or(self.desk.progress.last()).expect("a record");
        record.transfers.last().expect("a transfer")
    }

    /// The reason the agent was told, if it was told that a transfer failed.
    fn told(&self) -> Option<&str> {
        self.desk.commands.iter().rev().find_map(|command| match command {
            BridgeCommand::TransferFailed { why } => Some(why.as_str()),
            _ => None,
        })
    }

    /// The call is up, the agent has the caller, and no second leg is held.
    fn assert_back(&mut self) {
        assert!(self.desk.records.is_empty(), "the call is up");
        assert_eq!(self.desk.engine.trunk_calls(&"ta".into()), (1, 0), "no place is held");
        self.caller.send(&mut self.desk, "BYE", None);
        assert_eq!(self.desk.record().status, CallStatus::Completed);
        self.desk.assert_empty();
    }
}

#[test]
fn a_carrier_that_takes_refer_has_the_caller_and_the_call_is_over_here() {
    let mut up = Up::new(TransferRule::Refer);
    let call = up.call;
    up.desk.input(Input::Bridge {
        call,
        event: BridgeEvent::Transfer { target: HUMAN.to_owned(), mode: TransferMode::Auto },
    });
    let refer = up.desk.last("REFER sip:");
    assert_eq!(header(&refer, "Refer-To"), "<sip:+4930999@192.0.2.101>");
    up.answer_refer("202 Accepted");
    up.notify("active;expires=60", "SIP/2.0 100 Trying\r\n");
    up.notify("active;expires=60", "SIP/2.0 180 Ringing\r\n");
    assert!(up.desk.records.is_empty());
    up.notify("terminated;reason=noresource", "SIP/2.0 200 OK\r\n");
    let bye = up.desk.last("BYE sip:");
    respond_to(&mut up.desk, "192.0.2.1:5060", &bye, "200 OK", "", "");
    let record = up.desk.record();
    assert_eq!((record.status, record.hangup_by), (CallStatus::Completed, Some(HangupBy::Callee)));
    assert_eq!(record.hangup_reason, Some(HangupReason::EndedNormally));
    let transfer = up.transfer();
    assert_eq!(
        (transfer.by, transfer.method, transfer.outcome, transfer.sip_status),
        (TransferBy::Agent, TransferMethod::Refer, TransferOutcome::HandedOver, Some(200))
    );
    assert!(transfer.ringing_unix_ms.is_some() && transfer.ended_unix_ms.is_some());
    assert_eq!(up.desk.engine.counters().transfers_connected, 1);
    up.desk.assert_empty();
}

/// Many carriers say no more than their BYE.
#[test]
fn a_carrier_that_hangs_up_on_a_refer_it_took_has_the_caller() {
    let mut up = Up::new(TransferRule::Refer);
    up.ask(TransferOrder::to(HUMAN));
    up.answer_refer("202 Accepted");
    up.caller.send(&mut up.desk, "BYE", None);
    assert_eq!(up.transfer().outcome, TransferOutcome::HandedOver);
    assert_eq!(up.desk.record().hangup_by, Some(HangupBy::Caller));
    up.desk.assert_empty();
}

#[test]
fn a_refer_that_comes_to_nothing_leaves_the_caller_with_the_agent() {
    for (fragment, status) in [("SIP/2.0 486 Busy Here\r\n", 486), ("SIP/2.0 603 Decline\r\n", 603)] {
        let mut up = Up::new(TransferRule::ReferThenDial);
        up.ask(TransferOrder::to(HUMAN));
        up.answer_refer("202 Accepted");
        up.notify("terminated;reason=noresource", fragment);
        assert!(up.told().is_some_and(|why| why.contains(&status.to_string())), "{:?}", up.told());
        let transfer = up.transfer();
        assert_eq!((transfer.outcome, transfer.sip_status), (TransferOutcome::Failed, Some(status)));
        assert!(!up.desk.log.iter().any(|line| line == "opens second port"), "nobody is rung twice");
        up.assert_back();
    }
    let mut up = Up::new(TransferRule::ReferThenDial);
    up.ask(TransferOrder::to(HUMAN));
    up.answer_refer("202 Accepted");
    up.desk.advance(Duration::from_secs(81));
    assert!(up.told().is_some_and(|why| why.contains("no outcome")), "{:?}", up.told());
    up.notify("terminated", "SIP/2.0 200 OK\r\n");
    assert!(up.desk.last("SIP/2.0 481").contains("NOTIFY"), "too late");
    up.assert_back();
}

#[test]
fn a_second_leg_is_dialled_where_the_carrier_refuses_refer() {
    for status in
        ["405 Method Not Allowed", "403 Forbidden", "501 Not Implemented", "603 Decline", "481 Gone"]
    {
        let mut up = Up::new(TransferRule::ReferThenDial);
        up.ask(TransferOrder::to(HUMAN));
        up.answer_refer(status);
        let invite = up.desk.last("INVITE sip:");
        assert!(invite.starts_with("INVITE sip:+4930999@192.0.2.101:5060 SIP/2.0"), "{invite}");
        up.second(GATEWAY, "200 OK", ANSWER);
        let transfer = up.transfer();
        assert_eq!((transfer.method, transfer.outcome), (TransferMethod::Dial, TransferOutcome::Connected));
        assert!(transfer.cause.contains(&status[..3]), "the refusal is remembered: {transfer:?}");
    }
    let mut up = Up::new(TransferRule::Refer);
    up.ask(TransferOrder::to(HUMAN));
    up.answer_refer("405 Method Not Allowed");
    assert!(up.told().is_some_and(|why| why.contains("405")), "{:?}", up.told());
    assert!(!up.desk.log.iter().any(|line| line.starts_with("finds")), "policy permits no second leg");
    up.assert_back();
}

#[test]
fn a_second_leg_is_joined_and_the_agent_let_go() {
    let mut up = Up::new(TransferRule::Dial);
    up.dial(false);
    assert_eq!(
        up.desk.log,
        ["finds 192.0.2.101", "progress in-progress", "opens second port", "sends INVITE"]
    );
    let invite = up.desk.last("INVITE sip:");
    assert!(header(&invite, "From").starts_with("<sip:+918047102030@203.0.113.1>"), "{invite}");
    assert!(invite.contains("m=audio 20100 RTP/AVP 0 8 101"), "its own port: {invite}");
    assert_eq!(up.desk.engine.trunk_calls(&"ta".into()), (1, 1), "it holds a place of its own");
    up.second(GATEWAY, "180 Ringing", "");
    up.desk.log.clear();
    up.second(GATEWAY, "200 OK", ANSWER);
    assert_eq!(
        up.desk.log,
        ["sends ACK", "bridge: SecondMedia", "bridge: Join { keeps_agent: false }", "progress in-progress"]
    );
    // The second leg changes its mind about its media, and then hangs up.
    up.second_bye();
    let bye = up.desk.last("BYE sip:");
    assert!(bye.starts_with("BYE sip:caller@192.0.2.1"), "the caller is told: {bye}");
    respond_to(&mut up.desk, "192.0.2.1:5060", &bye, "200 OK", "", "");
    let record = up.desk.record();
    assert_eq!((record.status, record.hangup_by), (CallStatus::Completed, Some(HangupBy::Callee)));
    let transfer = up.transfer().clone();
    assert_eq!(
        (transfer.method, transfer.outcome, transfer.hangup_by, transfer.sip_status),
        (TransferMethod::Dial, TransferOutcome::Connected, Some(HangupBy::Callee), Some(200))
    );
    assert_eq!((transfer.by, transfer.from.as_str()), (TransferBy::Api, "+918047102030"));
    assert_eq!(transfer.gateways.len(), 1);
    assert_eq!(transfer.sip_call_id, header(&invite, "Call-ID"));
    up.desk.assert_empty();
    let rungs = &up.desk.ladders[0];
    assert!(rungs.iter().any(|rung| rung.start_line.contains("+4930999")), "the ladder shows both legs");
}

#[test]
fn the_callers_bye_ends_both_legs_wherever_the_second_one_is() {
    for ringing in [None, Some(false), Some(true)] {
        let mut up = Up::new(TransferRule::Dial);
        up.dial(true);
        match ringing {
            None => {}
            Some(false) => up.second(GATEWAY, "180 Ringing", ""),
            Some(true) => up.second(GATEWAY, "200 OK", ANSWER),
        }
        up.desk.sent.clear();
        up.caller.send(&mut up.desk, "BYE", None);
        let outcome = match ringing {
            Some(true) => TransferOutcome::Connected,
            _ => TransferOutcome::Cancelled,
        };
        assert_eq!(up.transfer().outcome, outcome);
        assert_eq!(up.desk.record().hangup_by, Some(HangupBy::Caller));
        let farewell = match ringing {
            // RFC 3261 section 9.1: nothing may be cancelled before it is heard.
            None => {
                let invite = up.desk.transmits.len();
                assert!(invite > 0);
                up.desk.advance(Duration::from_secs(40));
                continue;
            }
            Some(false) => "CANCEL sip:",
            Some(true) => "BYE sip:callee@",
        };
        let farewell = up.desk.last(farewell);
        respond_to(&mut up.desk, GATEWAY, &farewell, "200 OK", "", "");
        up.desk.assert_empty();
    }
}

#[test]
fn a_kept_agent_has_the_caller_again_when_the_second_leg_hangs_up() {
    let mut up = Up::new(TransferRule::Dial).joined(true);
    up.second_bye();
    assert_eq!(up.desk.commands.last(), Some(&BridgeCommand::Part));
    assert_eq!(up.transfer().hangup_by, Some(HangupBy::Callee));
    // And may be transferred once more, from the same second port.
    up.desk.log.clear();
    up.dial(false);
    assert_eq!(up.desk.log, ["finds 192.0.2.101", "progress in-progress", "sends INVITE"]);
    up.second(GATEWAY, "486 Busy Here", "");
    assert_eq!(up.transfer().sip_status, Some(486));
    up.assert_back();
    assert_eq!(up.desk.record().transfers.len(), 2);
}

#[test]
fn a_kept_agent_that_left_meanwhile_gets_nobody_back() {
    let mut up = Up::new(TransferRule::Dial).joined(true);
    let call = up.call;
    up.desk.input(Input::Bridge { call, event: BridgeEvent::AgentClosed { code: Some(1000), queued_ms: 0 } });
    up.second_bye();
    assert_eq!(up.desk.record().status, CallStatus::Completed);
    let bye = up.desk.last("BYE sip:");
    respond_to(&mut up.desk, "192.0.2.1:5060", &bye, "200 OK", "", "");
    up.desk.assert_empty();
}

#[test]
fn the_second_leg_goes_through_the_gateways_as_any_call_of_ours() {
    let mut up = Up::new(TransferRule::Dial);
    up.dial(false);
    up.second(GATEWAY, "503 Service Unavailable", "");
    let invite = up.desk.last("INVITE sip:");
    assert!(invite.starts_with("INVITE sip:+4930999@192.0.2.102"), "{invite}");
    up.second("192.0.2.102:5060", "503 Service Unavailable", "");
    let transfer = up.transfer();
    assert_eq!((transfer.outcome, transfer.gateways.len()), (TransferOutcome::Failed, 2));
    assert!(up.told().is_some_and(|why| why.contains("no gateway")), "{:?}", up.told());
    up.assert_back();
    // Nobody answers in its own time.
    let mut up = Up::new(TransferRule::Dial);
    let ringing = Some(Duration::from_secs(10));
    up.ask(TransferOrder { way: TransferWay::Dial, ringing, ..TransferOrder::to(HUMAN) });
    up.second(GATEWAY, "180 Ringing", "");
    up.desk.advance(Duration::from_secs(11));
    let cancel = up.desk.last("CANCEL sip:");
    respond_to(&mut up.desk, GATEWAY, &cancel, "200 OK", "", "");
    up.second(GATEWAY, "487 Request Terminated", "");
    assert!(up.told().is_some_and(|why| why.contains("10 s")), "{:?}", up.told());
    up.assert_back();
}

#[test]
fn an_answer_that_cannot_be_used_is_hung_up_on() {
    let mut up = Up::new(TransferRule::Dial);
    up.dial(false);
    up.second(GATEWAY, "200 OK", "");
    let bye = up.desk.last("BYE sip:callee@");
    respond_to(&mut up.desk, GATEWAY, &bye, "200 OK", "", "");
    assert_eq!(up.transfer().outcome, TransferOutcome::Failed);
    up.assert_back();
}

#[test]
fn without_a_second_port_the_agent_goes_on() {
    let mut up = Up::new(TransferRule::Dial);
    up.desk.ports = Ports::Refuse(tandem_call::BridgeFailure::NoPorts);
    up.dial(false);
    assert!(up.told().is_some_and(|why| why.contains("port")), "{:?}", up.told());
    up.assert_back();
    let mut up = Up::new(TransferRule::Dial);
    up.desk.ports = Ports::Silent;
    up.dial(false);
    up.desk.advance(Duration::from_secs(4));
    assert!(up.told().is_some_and(|why| why.contains("in time")), "{:?}", up.told());
    up.assert_back();
}

#[test]
fn a_full_trunk_has_no_room_for_a_second_leg() {
    let mut up = Up::with(|trunk| {
        trunk.transfers.rule = TransferRule::Dial;
        trunk.limits.calls_total = Some(1);
    });
    up.dial(false);
    assert!(up.told().is_some_and(|why| why.contains("no room")), "{:?}", up.told());
    up.assert_back();
}

/// Toll fraud: neither a talked-into agent nor a carrier makes a leg that the policy does not permit.
#[test]
fn nobody_is_called_and_nobody_sent_where_the_policy_does_not_permit() {
    let policies = [
        TransferPolicy { rule: TransferRule::Refuse, prefixes: None },
        TransferPolicy { rule: TransferRule::ReferThenDial, prefixes: Some(vec!["+4930".to_owned()]) },
        TransferPolicy { rule: TransferRule::Dial, prefixes: Some(Vec::new()) },
    ];
    for policy in policies {
        let mut up = Up::with(|trunk| trunk.transfers = policy.clone());
        let call = up.call;
        for target in ["+1900555", "tel:+1-900-555", "sip:+1900555@evil.example", "sip:1900555@192.0.2.101"] {
            let event = BridgeEvent::Transfer { target: target.to_owned(), mode: TransferMode::Dial };
            up.desk.input(Input::Bridge { call, event });
            up.ask(TransferOrder::to(target));
        }
        up.caller.extra = "Refer-To: <sip:+1900555@evil.example>\r\n".to_owned();
        up.caller.send(&mut up.desk, "REFER", None);
        up.caller.extra.clear();
        let refused = up.desk.last("SIP/2.0 405");
        assert!(!header(&refused, "Allow").contains("REFER"), "{refused}");
        let went =
            |line: &String| line.contains("REFER") || line.contains("INVITE") || line.starts_with("finds");
        assert!(!up.desk.log.iter().any(went), "{:?}", up.desk.log);
        assert_eq!(up.desk.engine.counters().transfers_refused, 8);
        assert_eq!(up.desk.engine.counters().refers_refused, 1);
        let record = up.desk.progress.last().expect("the call's record").clone();
        assert!(record.transfers.is_empty());
        let kinds: Vec<_> = record.incidents.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == IncidentKind::TransferRefused).count(), 8);
        assert_eq!(kinds.last(), Some(&IncidentKind::ReferRefused));
        up.assert_back();
    }
}

#[test]
fn a_second_leg_goes_to_no_host_but_the_trunks_gateways() {
    let mut up = Up::new(TransferRule::Dial);
    up.ask(TransferOrder { way: TransferWay::Dial, ..TransferOrder::to("sip:bob@evil.example") });
    assert!(up.told().is_some_and(|why| why.contains("own gateways")), "{:?}", up.told());
    assert!(!up.desk.log.iter().any(|line| line.starts_with("finds")));
    up.ask(TransferOrder { way: TransferWay::Dial, trunk: Some("td".into()), ..TransferOrder::to(HUMAN) });
    assert!(
        up.told().is_some_and(|why| why.contains("not there")),
        "another account's trunk: {:?}",
        up.told()
    );
    up.assert_back();
}

#[test]
fn one_transfer_at_a_time_and_none_before_the_answer() {
    let mut up = Up::new(TransferRule::Dial);
    up.dial(false);
    up.dial(false);
    assert!(up.told().is_some_and(|why| why.contains("under way")), "{:?}", up.told());
    up.second(GATEWAY, "404 Not Found", "");
    up.assert_back();
}

#[test]
fn the_second_leg_shows_the_caller_where_it_is_asked_to() {
    let mut up = Up::new(TransferRule::Dial);
    let headers =
        vec![("X-Ticket".to_owned(), "7".to_owned()), ("Route".to_owned(), "<sip:evil>".to_owned())];
    up.ask(TransferOrder { shows: ShownNumber::Caller, headers, ..TransferOrder::to(HUMAN) });
    let invite = up.desk.last("INVITE sip:");
    assert!(header(&invite, "From").starts_with("<sip:+4930123@"), "{invite}");
    assert_eq!((header(&invite, "X-Ticket"), header(&invite, "Route")), ("7", ""));
    up.second(GATEWAY, "404 Not Found", "");
    up.assert_back();
}

#[test]
fn the_second_leg_may_hold_and_press_keys_and_fall_silent() {
    let mut up = Up::new(TransferRule::Dial).joined(false);
    let ack = up.desk.last("ACK sip:");
    let within = |method: &str, cseq: u32, kind: &str, body: &str| {
        format!(
            "{method} sip:tandem@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {GATEWAY};branch=z9hG4bK{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:callee@{GATEWAY}>\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            header(&ack, "To"),
            header(&ack, "From"),
            header(&ack, "Call-ID"),
            body.len(),
        )
    };
    let hold = ANSWER.replace("5 5", "5 6") + "a=inactive\r\n";
    up.desk.log.clear();
    up.desk.receive(GATEWAY, &within("INVITE", 1, "application/sdp", &hold));
    assert_eq!(up.desk.log, ["sends 100", "bridge: SecondMedia", "sends 200"]);
    assert!(up.desk.last("SIP/2.0 200").contains("a=inactive"));
    let ack = within("ACK", 1, "application/sdp", "");
    up.desk.receive(GATEWAY, &ack);
    let call = up.call;
    up.desk.input(Input::Bridge { call, event: BridgeEvent::SecondSilent });
    assert!(up.desk.records.is_empty(), "who holds owes no audio");
    let fax = ANSWER.replace("m=audio 6000 RTP/AVP 0 101", "m=image 6000 udptl t38");
    up.desk.receive(GATEWAY, &within("INVITE", 2, "application/sdp", &fax));
    assert!(up.desk.last("SIP/2.0 488").contains("CSeq: 2 INVITE"));
    up.desk
        .receive(GATEWAY, &within("ACK", 2, "application/sdp", "").replace("z9hG4bKACK2", "z9hG4bKINVITE2"));
    up.desk.receive(GATEWAY, &within("INFO", 3, "application/dtmf-relay", "Signal=5\r\nDuration=100\r\n"));
    assert_eq!(up.desk.commands.last(), Some(&BridgeCommand::SecondDigit { digit: '5', duration_ms: 100 }));
    up.desk.receive(GATEWAY, &within("UPDATE", 4, "application/sdp", &ANSWER.replace("5 5", "5 7")));
    assert!(up.desk.last("SIP/2.0 200").contains("CSeq: 4 UPDATE"));
    up.desk.input(Input::Bridge { call, event: BridgeEvent::SecondSilent });
    assert_eq!(up.transfer().hangup_by, Some(HangupBy::Carrier));
    assert_eq!(up.desk.record().hangup_by, Some(HangupBy::Carrier));
    up.desk.advance(Duration::from_secs(60));
}

#[test]
fn an_attended_transfer_lets_the_carrier_join_both_legs() {
    let attended = || {
        let mut up = Up::new(TransferRule::ReferThenDial);
        up.ask(TransferOrder { way: TransferWay::Attended, ..TransferOrder::to(HUMAN) });
        up.second(GATEWAY, "200 OK", ANSWER);
        let refer = up.desk.last("REFER sip:");
        let (call_id, tag) = {
            let ack = up.desk.last("ACK sip:");
            let tag = header(&ack, "From").split("tag=").nth(1).expect("our tag").to_owned();
            (header(&ack, "Call-ID").to_owned(), tag)
        };
        assert_eq!(
            header(&refer, "Refer-To"),
            format!("<sip:callee@{GATEWAY}?Replaces={call_id}%3Bto-tag%3Dfar%3Bfrom-tag%3D{tag}>")
        );
        up
    };
    let mut up = attended();
    up.answer_refer("202 Accepted");
    up.notify("terminated;reason=noresource", "SIP/2.0 200 OK\r\n");
    assert_eq!(up.transfer().outcome, TransferOutcome::HandedOver);
    assert_eq!(up.desk.record().status, CallStatus::Completed);
    up.desk.advance(Duration::from_secs(60));
    for refusal in ["405 Method Not Allowed", "202 Accepted"] {
        let mut up = attended();
        up.answer_refer(refusal);
        if refusal.starts_with("202") {
            up.notify("terminated;reason=noresource", "SIP/2.0 481 Gone\r\n");
        }
        assert_eq!(up.transfer().outcome, TransferOutcome::Connected, "both legs stay here");
        assert!(!up.transfer().cause.is_empty());
        let call = up.call;
        up.desk.input(Input::Command(Command::HangUp { call, as_what: HangUpCommand::Stop }));
        assert_eq!(up.desk.record().status, CallStatus::Stopped);
        up.desk.advance(Duration::from_secs(60));
    }
}

/// Whoever wins, there is one record and nothing is left.
#[test]
fn transfers_race_with_every_end() {
    type Act = fn(&mut Up);
    let ends: [Act; 4] = [
        |up| up.caller.send(&mut up.desk, "BYE", None),
        |up| {
            let call = up.call;
            up.desk.input(Input::Command(Command::HangUp { call, as_what: HangUpCommand::Stop }));
        },
        |up| {
            let call = up.call;
            let cause = tandem_call::bridge::AgentHangUpCause::Command;
            up.desk.input(Input::Bridge { call, event: BridgeEvent::AgentHangUp { cause } });
        },
        |up| up.desk.advance(Duration::from_secs(4 * 3600 + 60)),
    ];
    let steps: [Act; 6] = [
        |_| {},
        |up| up.answer_refer("202 Accepted"),
        |up| up.answer_refer("405 No"),
        |up| {
            up.answer_refer("405 No");
            up.second(GATEWAY, "180 Ringing", "");
        },
        |up| {
            up.answer_refer("405 No");
            up.second(GATEWAY, "200 OK", ANSWER);
        },
        |up| {
            up.answer_refer("405 No");
            up.desk.ports = Ports::Silent;
        },
    ];
    for end in ends {
        for step in steps {
            let mut up = Up::new(TransferRule::ReferThenDial);
            up.ask(TransferOrder { keeps_agent: true, ..TransferOrder::to(HUMAN) });
            step(&mut up);
            end(&mut up);
            // What was under way comes all the same.
            up.notify("terminated", "SIP/2.0 200 OK\r\n");
            if up.desk.sent.iter().any(|text| text.starts_with("INVITE")) {
                up.second(GATEWAY, "200 OK", ANSWER);
            }
            assert_eq!(up.desk.records.len(), 1);
            assert!(up.transfer().ended_unix_ms.is_some());
            up.desk.assert_empty();
        }
    }
}

/// An agent that asks for a transfer and closes its socket at once means the transfer, not the call's end.
#[test]
fn an_agent_that_leaves_during_its_transfer_does_not_end_the_call() {
    let left = |rule| {
        let mut up = Up::new(rule);
        up.ask(TransferOrder::to(HUMAN));
        let call = up.call;
        let cause = tandem_call::bridge::AgentHangUpCause::Closed { code: Some(1000) };
        up.desk.input(Input::Bridge { call, event: BridgeEvent::AgentHangUp { cause } });
        assert!(up.desk.records.is_empty());
        up
    };
    let mut up = left(TransferRule::Dial);
    up.second(GATEWAY, "200 OK", ANSWER);
    assert_eq!(up.transfer().outcome, TransferOutcome::Connected);
    up.second_bye();
    assert_eq!(up.desk.record().status, CallStatus::Completed);
    let mut up = left(TransferRule::Dial);
    up.second(GATEWAY, "486 Busy Here", "");
    assert_eq!(up.desk.record().hangup_by, Some(HangupBy::Callee), "nobody is left to have the caller");
    assert_eq!(up.transfer().outcome, TransferOutcome::Failed);
    let mut up = left(TransferRule::ReferThenDial);
    up.desk.input(Input::Routing(std::sync::Arc::default()));
    up.answer_refer("405 Method Not Allowed");
    assert_eq!(up.desk.record().status, CallStatus::Completed, "the trunk is gone, and so is the agent");
    let mut up = left(TransferRule::Refer);
    up.answer_refer("202 Accepted");
    up.notify("terminated", "SIP/2.0 200 OK\r\n");
    assert_eq!(up.transfer().outcome, TransferOutcome::HandedOver);
}
