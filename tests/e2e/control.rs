//! What the API does to real calls, and what it says of calls that have not come yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_server::metric_list::{Kind, METRICS};

use crate::{
    DID,
    agent::Agent,
    phone::{Phone, media_of, packet},
    product_with, text,
};

/// The INVITE with an offer of telephone events besides.
fn with_events(invite: &str) -> String {
    let (head, body) = invite.split_once("\r\n\r\n").expect("an INVITE has a body");
    let body = body.replace("RTP/AVP 0 8\r\n", "RTP/AVP 0 8 101\r\n");
    let body = format!("{body}a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n");
    let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("Content-Length")).collect();
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len())
}

#[test]
fn digits_that_the_api_asks_for_reach_the_caller_as_telephone_events() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    let invite = with_events(&phone.invite_text());
    phone.send(&invite);
    let answer = phone.final_response(Duration::from_secs(10));
    assert!(answer.starts_with("SIP/2.0 200") && answer.contains("telephone-event/8000"), "{answer}");
    phone.acknowledge();
    let rtp = media_of(&answer);
    let (_, live) = product.get(&format!("/v1/calls?agent_id={}", provisioned.agent_id));
    let id = text(&live["data"][0], "id").to_owned();
    let path = format!("/v1/calls/{id}/dtmf");
    phone.rtp.set_read_timeout(Some(Duration::from_millis(4))).expect("an option");
    let deadline = Instant::now() + Duration::from_secs(15);
    // The last length told of each event, by its time stamp.
    let mut events: BTreeMap<u32, (u8, u16)> = BTreeMap::new();
    let (mut sequence, mut is_asked, mut ended) = (0_u16, false, 0);
    while ended < 3 {
        assert!(Instant::now() < deadline, "events so far: {events:?}");
        phone.rtp.send_to(&packet(sequence), rtp).expect("sent");
        sequence += 1;
        if !is_asked && sequence > 10 {
            let (status, asked) = product.post(&path, &json!({"digits": "1#D", "duration_ms": 100}));
            // Until the ACK has been seen the call is not in progress yet.
            assert!(status == 202 || status == 409, "{asked}");
            is_asked = status == 202;
        }
        let next = Instant::now() + Duration::from_millis(18);
        let mut buffer = [0; 2_048];
        while Instant::now() < next {
            let Ok((length, _)) = phone.rtp.recv_from(&mut buffer) else { continue };
            if length >= 16 && buffer[1] & 0x7F == 101 {
                let stamp = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
                events.insert(stamp, (buffer[12], u16::from_be_bytes([buffer[14], buffer[15]])));
                // The end bit comes three times (RFC 4733 section 2.5.1.4): counted by the last event.
                let is_end = buffer[13] & 0x80 != 0;
                ended = if is_end { events.len() } else { ended };
            }
        }
    }
    let told: Vec<(u8, u16)> = events.into_values().collect();
    assert_eq!(told, [(1, 800), (11, 800), (15, 800)], "1, # and D, 100 ms of 8 kHz each");
    let (status, refused) = product.post(&path, &json!({"digits": "12x"}));
    assert_eq!((status, text(&refused["errors"][0], "loc")), (400, "digits"), "{refused}");
    let (status, _) = product.post(&format!("/v1/calls/{id}/hangup"), &json!({}));
    assert_eq!(status, 202);
    phone.await_bye(Duration::from_secs(5));
    assert_eq!(text(&product.ended_calls(&provisioned.agent_id, 1)[0], "status"), "stopped");
}

/// The route test is asked first, then the INVITE is sent: both say the same.
#[test]
fn the_route_test_says_what_becomes_of_the_invite() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let ask = |number: &str| {
        let question = json!({"source": "127.0.0.1", "request_uri": format!("sip:{number}@voice.example")});
        let (status, verdict) = product.post("/v1/route-test", &question);
        assert_eq!(status, 200, "{verdict}");
        verdict
    };
    let said = ask("+15550009999");
    let mut phone = Phone::over_udp(product.sip, "+15550009999");
    phone.invite();
    let answer = phone.final_response(Duration::from_secs(5));
    assert!(answer.starts_with(&format!("SIP/2.0 {}", said["status"])), "{answer} against {said}");
    let verdict = product_verdict(&product, "number=%2B15550009999");
    assert_eq!((&verdict["code"], &verdict["remedy"]), (&said["code"], &said["remedy"]));
    assert_eq!(verdict["trace"], said["trace"]);
    let said = ask(DID);
    assert_eq!((text(&said, "code"), text(&said, "agent")), ("accepted", provisioned.agent_id.as_str()));
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    phone.hang_up();
    let verdict = product_verdict(&product, &format!("code=accepted&trunk={}", text(&said, "trunk")));
    assert_eq!(verdict["number"], said["number"]);
}

/// The newest verdict that fits, once it is written.
fn product_verdict(product: &tandem_tests::product::Product, query: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, page) = product.get(&format!("/v1/verdicts?{query}"));
        if let Some(verdict) = page["data"].get(0) {
            return verdict.clone();
        }
        assert!(Instant::now() < deadline, "no verdict for {query}: {page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_metrics_page_holds_the_metrics_of_the_list_as_the_list_has_them() {
    let (product, _) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    let page = product.metrics();
    let mut shown = 0;
    for line in page.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let listed = METRICS.iter().find(|metric| metric.name == name);
        let listed = listed.unwrap_or_else(|| panic!("{name} is not in the list"));
        let is_so = match listed.kind {
            Kind::Counter => kind == "counter",
            Kind::Gauge => kind == "gauge",
            Kind::Seconds => kind == "histogram" || kind == "summary",
        };
        assert!(is_so, "{name} is a {kind}, and in the list a {:?}", listed.kind);
        assert!(page.contains(&format!("# HELP {name} {}", listed.help)), "{name} without its help");
        shown += 1;
    }
    assert!(shown > 40, "{shown} metrics:\n{page}");
    assert!(page.lines().any(|line| line == "tandem_calls 1"), "{page}");
}
