//! Redirects of calls that we place, and a trunk's own table of failover: where a carrier may send a call, and where not.
//!
//! A redirect is how toll fraud is done to who follows it: each way of leading a call elsewhere is tried here.

use std::time::Duration;

use tandem_call::failover::{FailoverCase, FailoverTable, Next};
use tandem_call::redirect::RedirectPolicy;
use tandem_call::{CallStatus, EngineConfig, Gateway, Trunk, TrunkAuth};
use tandem_sip::Transport;

use crate::desk::{Desk, house_with};
use crate::outbound::{ANSWER, FIRST, SECOND, attempts, desk_with, gateway, header, place, respond};

/// A trunk that follows redirects.
fn following(change: impl FnOnce(&mut RedirectPolicy)) -> Desk {
    desk_with(|trunk| {
        trunk.outbound.redirects.follow = true;
        change(&mut trunk.outbound.redirects);
    })
}

fn redirect(desk: &mut Desk, contacts: &str) {
    respond(desk, FIRST, "INVITE", "302 Moved Temporarily", &format!("Contact: {contacts}\r\n"), "");
}

/// What the call was told of why it was not followed.
fn refusal(desk: &mut Desk) -> String {
    assert_eq!(desk.record().status, CallStatus::Failed);
    assert_eq!(desk.record().gateways.len(), 1, "{:#?}", desk.record().gateways);
    let told = desk.record().gateways[0].cause.clone();
    assert!(desk.record().error_message.as_deref().is_some_and(|error| error.contains(&told)));
    assert!(desk.verdict().trace.iter().any(|step| step.detail.contains("redirected with 302")), "{told}");
    desk.assert_empty();
    told
}

/// The response of these tests has a Contact of its own, to the gateway itself and another number.
#[test]
fn a_redirect_is_not_followed_unless_the_trunk_says_so() {
    let mut desk = desk_with(|_| {});
    place(&mut desk);
    redirect(&mut desk, "<sip:+918800001234@192.0.2.102>");
    let told = refusal(&mut desk);
    assert!(told.contains("redirects are not followed; set redirects.follow"), "{told}");
}

#[test]
fn a_redirect_to_a_gateway_of_the_trunk_is_followed_with_its_own_uri() {
    let mut desk = following(|_| {});
    place(&mut desk);
    let first = desk.last("INVITE");
    redirect(&mut desk, "<sip:+918800001234;npdi@192.0.2.102:5060;x=y?Subject=free>");
    let second = desk.last("INVITE");
    assert!(second.starts_with("INVITE sip:+918800001234;npdi@192.0.2.102:5060;x=y SIP/2.0\r\n"), "{second}");
    assert!(!second.contains("Subject"), "{second}");
    assert_eq!(header(&first, "To"), header(&second, "To"), "RFC 3261 8.1.3.4: To stays");
    respond(&mut desk, SECOND, "INVITE", "200 OK", "", ANSWER);
    let tried = attempts(&desk.progress.last().expect("it goes on").clone());
    assert_eq!(tried, [("192.0.2.101".to_owned(), Some(302)), ("192.0.2.102".to_owned(), Some(200))]);
    let told = &desk.progress.last().expect("it goes on").gateways[0].cause;
    assert!(
        told.contains("redirected with 302 Moved Temporarily to sip:+918800001234;npdi@192.0.2.102"),
        "{told}"
    );
    assert_eq!(desk.engine.counters().redirects_followed, 1);
}

#[test]
fn places_are_tried_in_the_order_of_q_and_then_the_other_gateways() {
    let mut desk = following(|policy| policy.hosts = vec!["198.51.100.0/24".to_owned()]);
    place(&mut desk);
    redirect(
        &mut desk,
        "<sip:+918800001234@198.51.100.1>;q=0.2, <sip:+918800001234@198.51.100.2>;q=0.9, <sip:+918800001234@203.0.113.9>",
    );
    assert!(desk.last("INVITE").contains("@198.51.100.2 "), "{}", desk.last("INVITE"));
    respond(&mut desk, "198.51.100.2:5060", "INVITE", "503 No", "", "");
    assert!(desk.last("INVITE").contains("@198.51.100.1 "));
    respond(&mut desk, "198.51.100.1:5060", "INVITE", "503 No", "", "");
    assert!(desk.last("INVITE").contains("@192.0.2.102:5060 "));
    respond(&mut desk, SECOND, "INVITE", "486 Busy Here", "", "");
    let record = desk.record();
    assert_eq!((record.status, record.gateways.len()), (CallStatus::Busy, 4));
    assert!(
        record.gateways[0].cause.contains("203.0.113.9 is no gateway of the trunk"),
        "{:?}",
        record.gateways[0]
    );
    assert_eq!(desk.engine.counters().redirects_refused, 2, "that one, and the response's own Contact");
    desk.assert_empty();
}

/// Each of these would have somebody else's telephone rung at the owner's cost.
#[test]
fn no_redirect_leads_to_where_policy_does_not_allow() {
    for (contact, why) in [
        ("<sip:+918800001234@evil.example>", "evil.example is no gateway of the trunk"),
        ("<sip:+918800001234@192.0.2.102.evil.example>", "is no gateway of the trunk"),
        ("<sip:+918800001234@carrier.example.evil.example>", "is no gateway of the trunk"),
        ("<sip:+918800001234@notcarrier.example>", "is no gateway of the trunk"),
        ("<sip:+918800001234@carrier.example>", "is no gateway of the trunk"),
        ("<sip:+19005551234@192.0.2.102>", "it is another number"),
        ("<sip:+9188000012345@192.0.2.102>", "it is another number"),
        ("<sip:00918800001234@192.0.2.102>", "it is another number"),
        ("<sip:%2B19005551234@192.0.2.102>", "it is another number"),
        (
            "<sip:+91880000123%34;phone-context=evil@192.0.2.102;maddr=203.0.113.9>",
            "another address in maddr",
        ),
        ("<sip:192.0.2.102>", "it is another number"),
        ("<tel:+918800001234>", "it is no sip: URI"),
        ("<http://192.0.2.102/>", "it is no sip: URI"),
        ("<sip:+918800001234@192.0.2.102;transport=sctp>", "a transport that is not spoken here"),
        ("<sip:+918800001234@[::ffff:203.0.113.9]>", "is no gateway of the trunk"),
    ] {
        let mut desk = following(|policy| policy.hosts = vec!["*.carrier.example".to_owned()]);
        place(&mut desk);
        desk.sent.retain(|text| text.starts_with("INVITE"));
        redirect(&mut desk, contact);
        assert!(
            desk.sent.iter().filter(|text| text.starts_with("INVITE")).count() == 1,
            "{contact}: {:?}",
            desk.sent
        );
        let told = refusal(&mut desk);
        assert!(told.contains(why), "{contact}: {told}");
    }
}

#[test]
fn what_the_trunks_owner_lists_may_be_called() {
    for (contact, line) in [
        (
            "<sip:+918800001234@sbc3.carrier.example:5080>",
            "INVITE sip:+918800001234@sbc3.carrier.example:5080 ",
        ),
        ("<sip:+918800009999@192.0.2.102>", "INVITE sip:+918800009999@192.0.2.102 "),
        ("<sip:+91-8800-001234@192.0.2.102>", "INVITE sip:+91-8800-001234@192.0.2.102 "),
    ] {
        let mut desk = following(|policy| {
            policy.hosts = vec!["*.carrier.example".to_owned()];
            policy.numbers = vec!["+91880000".to_owned()];
        });
        desk.names.insert(
            "sbc3.carrier.example".to_owned(),
            vec!["198.51.100.3:5080".parse().expect("an address")],
        );
        place(&mut desk);
        redirect(&mut desk, contact);
        assert!(desk.last("INVITE").starts_with(line), "{contact}: {}", desk.last("INVITE"));
    }
}

#[test]
fn a_circle_of_redirects_ends() {
    let mut desk = following(|policy| policy.most = 3);
    place(&mut desk);
    for port in 5061..5064 {
        let contact =
            format!("<sip:+918800001234@192.0.2.101:{port}>, <sip:+918800001234@192.0.2.101:5061>;q=0.1");
        let from = if port == 5061 { FIRST.to_owned() } else { format!("192.0.2.101:{}", port - 1) };
        respond(&mut desk, &from, "INVITE", "302 Moved", &format!("Contact: {contact}\r\n"), "");
        assert!(desk.last("INVITE").contains(&format!("@192.0.2.101:{port} ")), "{port}");
    }
    let more = "Contact: <sip:+918800001234@192.0.2.101:5064>\r\n";
    respond(&mut desk, "192.0.2.101:5063", "INVITE", "302 Moved", more, "");
    let record = desk.record();
    assert_eq!((record.status, record.sip_status), (CallStatus::Failed, Some(302)));
    let last = &record.gateways.last().expect("tried").cause;
    assert!(last.contains("redirected 3 times already"), "{last}");
    desk.assert_empty();
}

/// Credentials and keys of a trunk over TLS do not go where others read along.
#[test]
fn a_redirect_does_not_lead_out_of_tls() {
    let over_tls = |contact: &str| {
        let table = house_with(|trunks| {
            trunks[0].gateways =
                vec![Gateway { transport: Some(Transport::Tls), ..gateway("192.0.2.101", 1) }];
            trunks[0].outbound.redirects.follow = true;
            trunks[0].auth = TrunkAuth::user_pass("u", "p");
        });
        let mut desk = Desk::with(EngineConfig::default(), table);
        place(&mut desk);
        redirect(&mut desk, contact);
        desk
    };
    for contact in
        ["<sip:+918800001234@192.0.2.101:5070>", "<sip:+918800001234@192.0.2.101:5070;transport=tcp>"]
    {
        let told = refusal(&mut over_tls(contact));
        assert!(told.contains("it is not over TLS, as the gateway is"), "{told}");
    }
    let desk = over_tls("<sips:+918800001234@192.0.2.101:5070>");
    assert!(desk.last("INVITE").starts_with("INVITE sips:+918800001234@192.0.2.101:5070 "));
}

fn table(lines: &[(&str, Next)]) -> FailoverTable {
    let line = |(case, next): &(&str, Next)| (case.parse::<FailoverCase>().expect("a case"), *next);
    FailoverTable { lines: lines.iter().map(line).collect() }
}

fn with_table(lines: &'static [(&'static str, Next)]) -> Desk {
    desk_with(|trunk: &mut Trunk| trunk.outbound.failover = table(lines))
}

#[test]
fn a_trunks_own_lines_send_a_call_on_and_end_it() {
    let mut desk = with_table(&[("603", Next::Gateway), ("5xx", Next::End)]);
    place(&mut desk);
    respond(&mut desk, FIRST, "INVITE", "603 Declined", "", "");
    assert!(desk.last("INVITE").contains("@192.0.2.102"));
    respond(&mut desk, SECOND, "INVITE", "503 Service Unavailable", "", "");
    assert_eq!((desk.record().sip_status, desk.record().gateways.len()), (Some(503), 2));
    desk.assert_empty();
}

#[test]
fn silence_and_what_cannot_be_reached_may_end_a_call_too() {
    let mut desk = with_table(&[("timeout", Next::End)]);
    place(&mut desk);
    desk.advance(Duration::from_secs(7));
    assert_eq!(desk.record().gateways.len(), 1);
    assert!(
        desk.record()
            .error_message
            .as_deref()
            .is_some_and(|error| error.contains("not a word came within 6 s"))
    );
    desk.assert_empty();
    let mut desk = with_table(&[("unreachable", Next::End)]);
    place(&mut desk);
    let transmit = *desk.transmits.last().expect("an INVITE went out");
    desk.input(tandem_call::Input::TransmitFailed { transmit });
    assert_eq!((desk.record().gateways.len(), desk.record().status), (1, CallStatus::Failed));
    desk.assert_empty();
}
