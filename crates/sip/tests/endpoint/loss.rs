//! Whole calls over a bad network, by seed: they end, once on each side, and leave nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem_sip::{
    EndedBy, Event, Refresher, ReliableProvisionals, SessionId, SessionPolicy, SessionTimerConfig,
};

use crate::pair::{A, B, Link, Pair};
use crate::solo::{ANSWER, OFFER};

/// Reliable provisional responses in one call of two, session timers of all kinds.
fn policy(pair: &mut Pair) -> SessionPolicy {
    let reliable = match pair.roll(2) {
        0 => ReliableProvisionals::WhenRequired,
        _ => ReliableProvisionals::WhenSupported,
    };
    let preferred = match pair.roll(2) {
        0 => Refresher::Us,
        _ => Refresher::Peer,
    };
    let interval = Duration::from_secs(90 + pair.roll(30));
    let session_timer = Some(SessionTimerConfig { interval, preferred, ..Default::default() });
    SessionPolicy { reliable, session_timer, ..Default::default() }
}

/// What the two engines do, by the dice: enough to meet most races.
fn live(pair: &mut Pair, sessions: &mut [Option<SessionId>; 2], marks: &mut Marks) {
    for side in [A, B] {
        while !pair.events[side].is_empty() {
            let event = pair.events[side].remove(0);
            match event {
                Event::Incoming(incoming) => {
                    let policy = policy(pair);
                    if let Ok(session) = pair.act(side, |end, now| end.accept(now, *incoming, policy)) {
                        sessions[side] = Some(session);
                        pair.act(side, |end, now| end.provisional(now, session, 180, None)).unwrap();
                    }
                }
                Event::Answered { session, body, .. } => {
                    // Refused where our INVITE held the offer: then the ACK has gone out already.
                    let _due =
                        body.map(|_| pair.act(side, |end, now| end.acknowledge(now, session, ANSWER.into())));
                }
                Event::Offer { session, .. } => {
                    let refuses = pair.roll(4) == 0;
                    // The offer may have been withdrawn while we thought.
                    let _late = pair.act(side, |end, now| {
                        if refuses {
                            end.refuse_offer(now, session, 488)
                        } else {
                            end.answer_offer(now, session, ANSWER.into())
                        }
                    });
                }
                Event::Ended { session, by, .. } => {
                    marks.ended(side, &by);
                    assert_eq!(sessions[side], Some(session), "ended twice at {side}\n{}", pair.ladder());
                    sessions[side] = None;
                }
                _ => {}
            }
        }
        let Some(session) = sessions[side] else { continue };
        let dice = pair.roll(1000);
        // What is refused as out of place is refused; that is the point.
        let _allowed = pair.act(side, |end, now| match dice {
            0..40 if side == B => end.answer(now, session, ANSWER.into()),
            40..44 => end.reinvite(now, session, OFFER.into()),
            44..48 => end.update(now, session, Some(OFFER.into())),
            48..52 => end.info(now, session, "text/plain", &"x".into()),
            52..54 => end.hangup(now, session, None),
            54..56 if side == B => end.reject(now, session, tandem_sip::Refusal::new(486)),
            56..64 if side == B => end.provisional(now, session, 183, Some(ANSWER.into())),
            _ => Ok(()),
        });
    }
}

/// What the committed seeds must reach together.
const WANTED: &[&str] = &[
    "100",
    "180",
    "183",
    "200",
    "480",
    "481",
    "486",
    "487",
    "488",
    "491",
    "500",
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "PRACK",
    "UPDATE",
    "2xx repeated",
    "callee ended: ByeReceived",
    "callee ended: Cancelled",
    "callee ended: DialogLost",
    "callee ended: HungUp",
    "callee ended: NoAck",
    "callee ended: Rejected",
    "callee ended: SessionExpired",
    "caller ended: ByeReceived",
    "caller ended: DialogLost",
    "caller ended: HungUp",
    "caller ended: NoResponse",
    "caller ended: Refused",
    "caller ended: SessionExpired",
    "glare",
    "out of order",
    "provisional withheld",
    "repeated request",
    "retransmission",
    "stray response",
    "timeout",
    "unknown dialog",
];

/// What a run met, for the proof that the seeds reach what they are for.
#[derive(Default)]
struct Marks {
    reached: BTreeSet<String>,
}

impl Marks {
    fn note(&mut self, pair: &Pair) {
        for end in &pair.ends {
            let counters = end.counters();
            for (name, count) in [
                ("repeated request", counters.repeated_requests),
                ("retransmission", counters.retransmissions),
                ("2xx repeated", counters.success_repeats),
                ("glare", counters.glare),
                ("out of order", counters.out_of_order),
                ("unknown dialog", counters.unknown_dialogs),
                ("stray response", counters.stray_responses),
                ("timeout", counters.timeouts),
                ("provisional withheld", counters.provisionals_withheld),
            ] {
                if count > 0 {
                    self.reached.insert(name.to_owned());
                }
            }
        }
        for (_, _, text) in &pair.log {
            let mut words = text.split(' ');
            let first = match words.next() {
                Some("SIP/2.0") => words.next().unwrap_or_default(),
                first => first.unwrap_or_default(),
            };
            self.reached.insert(first.to_owned());
        }
    }

    fn ended(&mut self, side: usize, by: &EndedBy) {
        let by = format!("{by:?}");
        let name = by.split(" {").next().unwrap_or_default();
        self.reached.insert(format!("{} ended: {name}", ["caller", "callee"][side]));
    }
}

fn one_seed(seed: u64, marks: &mut Marks) -> u64 {
    let mut pair = Pair::new(seed, Link::default());
    let (loss, jitter) = (pair.roll(300), pair.roll(800));
    pair.link = Link {
        loss,
        duplicates: 50,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(jitter),
    };
    let offer = (pair.roll(4) > 0).then(|| OFFER.into());
    let a = pair.call_with(offer);
    let mut sessions = [Some(a), None];
    let usual = pair.link.loss;
    let mut cut_until = pair.now;
    for _ in 0..600 {
        if pair.roll(400) == 0 {
            // Nothing gets through for a while, up to past every patience.
            pair.link.loss = 1000;
            cut_until = pair.now + Duration::from_secs(1 + pair.roll(80));
        }
        pair.run_ms(200);
        if pair.now >= cut_until {
            pair.link.loss = usual;
        }
        live(&mut pair, &mut sessions, marks);
    }
    for side in [A, B] {
        if let Some(session) = sessions[side] {
            let _gone = pair.act(side, |end, now| end.hangup(now, session, None));
        }
    }
    pair.link = Link::default();
    for _ in 0..300 {
        pair.run(Duration::from_secs(1));
        for side in [A, B] {
            while !pair.events[side].is_empty() {
                match pair.events[side].remove(0) {
                    Event::Ended { session, by, .. } => {
                        marks.ended(side, &by);
                        assert_eq!(sessions[side], Some(session), "seed {seed}\n{}", pair.ladder());
                        sessions[side] = None;
                    }
                    Event::Offer { session, .. } => {
                        let _late = pair.act(side, |end, now| end.refuse_offer(now, session, 488));
                    }
                    // A late INVITE of a cancelled call: refused without state.
                    Event::Incoming(incoming) => {
                        pair.act(side, |end, _| end.refuse(*incoming, &tandem_sip::Refusal::new(480)));
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!(sessions, [None, None], "seed {seed}: a session did not end\n{}", pair.ladder());
    pair.assert_no_leak();
    marks.note(&pair);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in pair.ladder().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[test]
fn calls_over_a_bad_network_end_once_on_each_side_and_leave_nothing() {
    // SIP_SEEDS asks for more.
    let seeds = std::env::var("SIP_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(400);
    let mut marks = Marks::default();
    for seed in 1..=seeds {
        one_seed(seed, &mut marks);
    }
    for wanted in WANTED {
        assert!(marks.reached.contains(*wanted), "no seed reached {wanted}: {:?}", marks.reached);
    }
}

#[test]
fn the_same_seed_makes_the_same_trace() {
    for seed in 1..=5 {
        let mut marks = Marks::default();
        assert_eq!(one_seed(seed, &mut marks), one_seed(seed, &mut marks));
    }
}
