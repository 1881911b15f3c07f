//! Messages bent by the dice, fed into the midst of live sessions: nothing panics, no ACK is answered, no
//! timer lies in the past, and all that was made is gone in the end. Reproducible by seed.

use std::time::Duration;

use tandem_sip::{Event, Refusal};

use crate::outgoing::call;
use crate::solo::{ANSWER, Ask, OFFER, Solo, peer, stranger, tcp, udp};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

const PIECES: [&str; 16] = [
    "\r\n",
    ";",
    ",",
    "\"",
    "<",
    ">",
    "tag=",
    ";lr",
    "sips:",
    "tel:+1",
    "4294967296",
    "-1",
    "Require: 100rel\r\n",
    "Session-Expires: 90;refresher=uas\r\nSupported: timer\r\n",
    "Via: SIP/2.0/UDP h\r\n",
    "\u{0}",
];

fn bend(text: &str, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..dice.roll(4) {
        let at = dice.roll(bytes.len());
        match dice.roll(4) {
            0 => bytes[at] = dice.roll(256) as u8,
            1 => bytes.truncate(at.max(1)),
            2 => {
                let piece = PIECES[dice.roll(PIECES.len())].bytes();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + dice.roll(40)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'x');
        }
    }
    bytes
}

/// A message that could belong to what is going on, by the dice.
fn message(dice: &mut Dice, tags: &[String], sent: &[crate::solo::Sent]) -> String {
    const METHODS: [&str; 11] = [
        "INVITE", "ACK", "BYE", "CANCEL", "UPDATE", "PRACK", "INFO", "OPTIONS", "REFER", "REGISTER", "INVITE",
    ];
    if dice.roll(3) == 0 && !sent.is_empty() {
        let request = &sent[dice.roll(sent.len())];
        if request.header("CSeq").is_some() && !request.text.starts_with("SIP/2.0") {
            let status = [100, 180, 183, 200, 202, 301, 401, 407, 408, 422, 481, 486, 491, 503, 603];
            let status = status[dice.roll(status.len())];
            let reply = request.response(status, ["far", "fork", ""][dice.roll(3)]).contact();
            let reply = if dice.roll(4) == 0 {
                reply.header("Require: 100rel").header(&format!("RSeq: {}", 1 + dice.roll(3)))
            } else {
                reply
            };
            return if dice.roll(2) == 0 { reply.sdp(ANSWER).text() } else { reply.text() };
        }
    }
    let mut ask = Ask::new(METHODS[dice.roll(METHODS.len())])
        .call(&format!("call-{}", dice.roll(4)))
        .branch(&format!("b{}", dice.roll(12)))
        .cseq(dice.roll(8) as u32);
    if dice.roll(2) == 0 && !tags.is_empty() {
        ask = ask.within(&tags[dice.roll(tags.len())]);
    }
    for line in [
        "Require: 100rel",
        "Supported: timer, 100rel",
        "Session-Expires: 120",
        "Allow: UPDATE, PRACK",
        "RAck: 1 1 INVITE",
        "Expires: 5",
        "Record-Route: <sip:192.0.2.40>, <sip:192.0.2.41;lr>",
    ] {
        if dice.roll(6) == 0 {
            ask = ask.header(line);
        }
    }
    if dice.roll(2) == 0 { ask.sdp(OFFER).text() } else { ask.text() }
}

/// What the engine does with what it hears; what comes too late is refused, which is right.
fn decide(solo: &mut Solo, dice: &mut Dice, live: &mut Vec<tandem_sip::SessionId>) {
    for event in solo.take_events() {
        match event {
            Event::Incoming(incoming) => match dice.roll(5) {
                0 => solo.endpoint.refuse(*incoming, &Refusal::new(404)),
                1 => drop(incoming),
                _ => live.extend(solo.endpoint.accept(solo.now, *incoming, solo.policy.clone())),
            },
            Event::Malformed(malformed) => solo.endpoint.refuse_malformed(*malformed),
            Event::Ended { session, .. } => {
                let before = live.len();
                live.retain(|known| *known != session);
                assert_eq!(live.len() + 1, before, "{session} ended and was not live");
            }
            _ => {}
        }
    }
    if live.is_empty() {
        return;
    }
    let session = live[dice.roll(live.len())];
    let (end, now) = (&mut solo.endpoint, solo.now);
    let _late = match dice.roll(14) {
        0 => end.provisional(now, session, 180, None),
        1 => end.provisional(now, session, 183, Some(ANSWER.into())),
        2 => end.answer(now, session, ANSWER.into()),
        3 => end.reject(now, session, Refusal::new(486)),
        4 => end.hangup(now, session, None),
        5 => end.answer_offer(now, session, ANSWER.into()),
        6 => end.refuse_offer(now, session, 488),
        7 => end.reinvite(now, session, OFFER.into()),
        8 => end.update(now, session, Some(OFFER.into())),
        9 => end.acknowledge(now, session, ANSWER.into()),
        10 => end.info(now, session, "a/b", &"x".into()),
        _ => Ok(()),
    };
}

fn one_seed(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut solo = Solo::new();
    let mut live = Vec::new();
    let mut tags: Vec<String> = Vec::new();
    let mut recent = Vec::new();
    let stream = tcp(peer(), 1);
    for step in 0..300 {
        if step % 60 == 0 {
            live.extend(solo.endpoint.invite(solo.now, call()));
        }
        let text = message(&mut dice, &tags, &recent);
        let bytes = if dice.roll(3) == 0 { bend(&text, &mut dice) } else { text.into_bytes() };
        match dice.roll(12) {
            0 => solo.endpoint.handle_datagram(solo.now, udp(stranger()), bytes.into()),
            1 => {
                solo.endpoint.handle_stream_opened(solo.now, stream);
                let cut = dice.roll(bytes.len());
                solo.read(stream, &bytes[..cut]);
                solo.read(stream, &bytes[cut..]);
            }
            2 => solo.endpoint.handle_flow_closed(solo.now, stream),
            _ => solo.endpoint.handle_datagram(solo.now, udp(peer()), bytes.into()),
        }
        solo.drain();
        decide(&mut solo, &mut dice, &mut live);
        solo.drain();
        let longest = if dice.roll(20) == 0 { 40_000 } else { 900 };
        let pause = dice.roll(longest);
        solo.advance_ms(pause as u64);
        recent = solo.take_sent();
        for sent in &recent {
            let answers_ack = sent.text.starts_with("SIP/2.0")
                && sent.header("CSeq").is_some_and(|cseq| cseq.ends_with(" ACK"));
            assert!(!answers_ack, "an ACK was answered: {}", sent.text);
            let tag = sent.header("To").map(crate::solo::tag).unwrap_or_default();
            if sent.text.starts_with("SIP/2.0") && !tag.is_empty() && tags.len() < 32 {
                tags.push(tag.to_owned());
            }
        }
    }
    solo.endpoint.handle_flow_closed(solo.now, stream);
    for _ in 0..60 {
        for session in live.clone() {
            // What is being cancelled already says so.
            let _already = solo.endpoint.hangup(solo.now, session, None);
        }
        solo.drain();
        for event in solo.take_events() {
            if let Event::Ended { session, .. } = event {
                live.retain(|known| *known != session);
            }
        }
        solo.advance(Duration::from_secs(10));
    }
    assert!(live.is_empty(), "seed {seed}: {live:?} never ended");
    assert_eq!(solo.endpoint.census(), Default::default(), "seed {seed}: something is left");
}

#[test]
fn bent_messages_in_the_midst_of_sessions_break_nothing_and_leave_nothing() {
    // SIP_SEEDS asks for more.
    let seeds = std::env::var("SIP_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 1..=seeds {
        one_seed(seed);
    }
}
