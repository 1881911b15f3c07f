//! What a session does in every situation with everything that can come: plain tables, compared with the
//! committed ones. On a difference the whole new table is printed, to be read before it is committed.

use tandem_sip::{Event, Misuse, Refusal, SessionId};

use crate::outgoing::{call, calling};
use crate::solo::{ANSWER, Ask, OFFER, Sent, Solo};

/// A session in some situation.
struct Scene {
    solo: Solo,
    session: SessionId,
    /// Our tag.
    tag: String,
    /// Our INVITE or re-INVITE, where there is one.
    invite: Option<Sent>,
}

/// A situation's name and how it comes about.
type Situation = (&'static str, fn() -> Scene);

const CALLEE: [Situation; 9] = [
    ("inviting", || {
        let mut solo = Solo::new();
        let session = solo.accept(&Ask::invite());
        Scene { solo, session, tag: String::new(), invite: None }
    }),
    ("ringing", || {
        let mut solo = Solo::new();
        let session = solo.accept(&Ask::invite());
        solo.ring(session);
        let tag = solo.take_one().to_tag().to_owned();
        Scene { solo, session, tag, invite: None }
    }),
    ("answered", || {
        let mut solo = Solo::new();
        let session = solo.accept(&Ask::invite());
        let tag = solo.answer(session).to_tag().to_owned();
        Scene { solo, session, tag, invite: None }
    }),
    ("rejected", || {
        let mut scene = CALLEE[1].1();
        scene.solo.endpoint.reject(scene.solo.now, scene.session, Refusal::new(486)).unwrap();
        scene.settle()
    }),
    ("cancelled", || {
        let mut scene = CALLEE[1].1();
        scene.solo.feed(&Ask::new("CANCEL").branch("invite-1"));
        scene.settle()
    }),
    ("confirmed", confirmed),
    ("offered", || {
        let mut scene = confirmed();
        let tag = scene.tag.clone();
        scene.solo.feed(&Ask::new("INVITE").sdp(OFFER).within(&tag).cseq(2).branch("re"));
        scene.settle()
    }),
    ("offering", || {
        let mut scene = confirmed();
        scene.solo.endpoint.reinvite(scene.solo.now, scene.session, OFFER.into()).unwrap();
        scene.solo.drain();
        scene.invite = Some(scene.solo.take_one());
        scene
    }),
    ("hung up", || {
        let mut scene = confirmed();
        scene.solo.endpoint.hangup(scene.solo.now, scene.session, None).unwrap();
        scene.settle()
    }),
];

fn confirmed() -> Scene {
    let mut solo = Solo::new();
    let (session, tag) = solo.established_by(&Ask::invite().header("Allow: UPDATE"));
    Scene { solo, session, tag, invite: None }
}

const CALLER: [Situation; 7] = [
    ("calling", || {
        let (solo, session, invite) = calling(call());
        let tag = crate::solo::tag(invite.header("From").unwrap()).to_owned();
        Scene { solo, session, tag, invite: Some(invite) }
    }),
    ("proceeding", || {
        let mut scene = CALLER[0].1();
        scene.respond(100, "");
        scene.settle()
    }),
    ("early", || {
        let mut scene = CALLER[0].1();
        scene.respond(180, "far");
        scene.settle()
    }),
    ("cancelling", || {
        let mut scene = CALLER[2].1();
        scene.solo.endpoint.hangup(scene.solo.now, scene.session, None).unwrap();
        scene.settle()
    }),
    ("confirmed", || {
        let mut scene = CALLER[2].1();
        scene.respond(200, "far");
        scene.settle()
    }),
    ("refused", || {
        let mut scene = CALLER[2].1();
        scene.respond(486, "far");
        scene.settle()
    }),
    ("hung up", || {
        let mut scene = CALLER[4].1();
        scene.solo.endpoint.hangup(scene.solo.now, scene.session, None).unwrap();
        scene.settle()
    }),
];

impl Scene {
    /// Forgets what led here.
    fn settle(mut self) -> Self {
        self.solo.drain();
        self.solo.take_sent();
        self.solo.take_events();
        self
    }

    fn respond(&mut self, status: u16, tag: &str) {
        let invite = self.invite.as_ref().unwrap();
        let response = invite.response(status, tag).contact().header("Allow: UPDATE");
        let response = if status == 200 { response.sdp(ANSWER) } else { response };
        self.solo.reply(&response);
    }

    /// A request of the peer's within the dialog.
    fn ask(&mut self, method: &str) -> Ask {
        let ask = Ask::new(method).branch("row").within(&self.tag).cseq(9);
        match &self.invite {
            Some(invite) if invite.header("CSeq") == Some("1 INVITE") && !self.is_callee() => {
                ask.call(invite.header("Call-ID").unwrap()).sender("far")
            }
            _ => ask,
        }
    }

    fn is_callee(&self) -> bool {
        self.solo.endpoint.call_id(self.session) == Some(b"call-1")
    }

    /// What came out.
    fn outcome(mut self, result: Result<(), Misuse>) -> String {
        self.solo.drain();
        if let Err(misuse) = result {
            assert!(self.solo.take_sent().is_empty() && self.solo.take_events().is_empty());
            return format!("refused: {misuse:?}");
        }
        let sent: Vec<String> = self.solo.take_sent().iter().map(show_sent).collect();
        let events: Vec<String> = self.solo.take_events().iter().map(show_event).collect();
        match (sent.is_empty(), events.is_empty()) {
            (true, true) => "nothing".to_owned(),
            (false, true) => sent.join(", "),
            (true, false) => format!("tells {}", events.join(", ")),
            (false, false) => format!("{}; tells {}", sent.join(", "), events.join(", ")),
        }
    }
}

fn show_sent(sent: &Sent) -> String {
    let what = sent.what();
    match what.parse::<u16>() {
        Ok(_) => format!("{what} to {}", sent.header("CSeq").unwrap().split(' ').nth(1).unwrap()),
        Err(_) => what.to_owned(),
    }
}

fn show_event(event: &Event) -> String {
    let whole = format!("{event:?}");
    match event {
        Event::Ended { by, .. } => {
            let by = format!("{by:?}");
            format!("Ended({})", by.split(" {").next().unwrap())
        }
        Event::Incoming(incoming) => {
            let objection = incoming.objection().map(|refusal| format!(" objection {}", refusal.status));
            format!("Incoming({}{})", incoming.request().method(), objection.unwrap_or_default())
        }
        _ => whole.split([' ', '(']).next().unwrap().to_owned(),
    }
}

type Input = (&'static str, fn(&mut Scene) -> Result<(), Misuse>);

fn feed(scene: &mut Scene, ask: &Ask) -> Result<(), Misuse> {
    scene.solo.feed(ask);
    Ok(())
}

/// What the peer can send to either side, and what the engine can ask for.
const COMMON: [Input; 20] = [
    ("re-INVITE", |scene| {
        let ask = scene.ask("INVITE").sdp(OFFER);
        feed(scene, &ask)
    }),
    ("re-INVITE, no offer", |scene| {
        let ask = scene.ask("INVITE");
        feed(scene, &ask)
    }),
    ("UPDATE", |scene| {
        let ask = scene.ask("UPDATE");
        feed(scene, &ask)
    }),
    ("UPDATE, offer", |scene| {
        let ask = scene.ask("UPDATE").sdp(OFFER);
        feed(scene, &ask)
    }),
    ("PRACK", |scene| {
        let ask = scene.ask("PRACK").header("RAck: 1 1 INVITE");
        feed(scene, &ask)
    }),
    ("INFO", |scene| {
        let ask = scene.ask("INFO");
        feed(scene, &ask)
    }),
    ("OPTIONS", |scene| {
        let ask = scene.ask("OPTIONS");
        feed(scene, &ask)
    }),
    ("REFER", |scene| {
        let ask = scene.ask("REFER");
        feed(scene, &ask)
    }),
    ("BYE", |scene| {
        let ask = scene.ask("BYE");
        feed(scene, &ask)
    }),
    ("provisional", |scene| scene.solo.endpoint.provisional(scene.solo.now, scene.session, 183, None)),
    ("answer", |scene| scene.solo.endpoint.answer(scene.solo.now, scene.session, ANSWER.into())),
    ("reject", |scene| scene.solo.endpoint.reject(scene.solo.now, scene.session, Refusal::new(603))),
    ("hangup", |scene| scene.solo.endpoint.hangup(scene.solo.now, scene.session, None)),
    ("answer_offer", |scene| scene.solo.endpoint.answer_offer(scene.solo.now, scene.session, ANSWER.into())),
    ("refuse_offer", |scene| scene.solo.endpoint.refuse_offer(scene.solo.now, scene.session, 488)),
    ("reinvite", |scene| scene.solo.endpoint.reinvite(scene.solo.now, scene.session, OFFER.into())),
    ("update", |scene| scene.solo.endpoint.update(scene.solo.now, scene.session, None)),
    ("info", |scene| scene.solo.endpoint.info(scene.solo.now, scene.session, "a/b", &"x".into())),
    ("acknowledge", |scene| scene.solo.endpoint.acknowledge(scene.solo.now, scene.session, ANSWER.into())),
    ("64*T1 pass", |scene| {
        scene.solo.advance_ms(32_000);
        // Repeats have their own tests; here only what is new counts.
        Ok(())
    }),
];

const OF_CALLER: [Input; 4] = [
    ("INVITE again", |scene| feed(scene, &Ask::invite())),
    ("ACK", |scene| {
        let tag = scene.tag.clone();
        feed(scene, &Ask::new("ACK").branch("row").within(&tag))
    }),
    ("ACK, same branch", |scene| {
        let tag = scene.tag.clone();
        feed(scene, &Ask::new("ACK").branch("invite-1").within(&tag))
    }),
    ("CANCEL", |scene| feed(scene, &Ask::new("CANCEL").branch("invite-1"))),
];

const OF_CALLEE: [Input; 7] = [
    ("100", |scene| {
        scene.respond(100, "");
        Ok(())
    }),
    ("180", |scene| {
        scene.respond(180, "far");
        Ok(())
    }),
    ("200", |scene| {
        scene.respond(200, "far");
        Ok(())
    }),
    ("200, other fork", |scene| {
        scene.respond(200, "fork");
        Ok(())
    }),
    ("302", |scene| {
        scene.respond(302, "far");
        Ok(())
    }),
    ("401", |scene| {
        scene.respond(401, "far");
        Ok(())
    }),
    ("503", |scene| {
        scene.respond(503, "far");
        Ok(())
    }),
];

fn table(scenes: &[Situation], inputs: &[Input]) -> String {
    let mut table = String::new();
    for (name, scene) in scenes {
        for (input, act) in inputs {
            let mut scene = scene();
            if scene.tag.is_empty() && input.starts_with("re-") {
                continue;
            }
            let result = act(&mut scene);
            let mut outcome = scene.outcome(result);
            if *input == "64*T1 pass" {
                outcome = squeezed(&outcome);
            }
            table.push_str(format!("{name:<11} {input:<20} {outcome}").trim_end());
            table.push('\n');
        }
    }
    table
}

/// Repeats in a row count as one.
fn squeezed(outcome: &str) -> String {
    let (sent, told) = outcome.split_once("; ").unwrap_or((outcome, ""));
    let mut parts: Vec<&str> = sent.split(", ").collect();
    parts.dedup();
    let sent = parts.join(", ");
    if told.is_empty() { sent } else { format!("{sent}; {told}") }
}

fn assert_same(table: &str, committed: &str) {
    assert!(table == committed, "the session differs from the committed table; it now is:\n{table}");
}

#[test]
fn a_callees_session_does_in_each_situation_what_the_table_says() {
    let inputs: Vec<Input> = OF_CALLER.into_iter().chain(COMMON).collect();
    assert_same(&table(&CALLEE, &inputs), include_str!("tables/callee.txt"));
}

#[test]
fn a_callers_session_does_in_each_situation_what_the_table_says() {
    let inputs: Vec<Input> = OF_CALLEE.into_iter().chain(COMMON).collect();
    assert_same(&table(&CALLER, &inputs), include_str!("tables/caller.txt"));
}
