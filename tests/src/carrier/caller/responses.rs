//! What a caller makes of responses, and its ACKs (RFC 3261 13.2.2, 17.1.1.3; RFC 3262).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_media::Law;

use super::{Caller, Deed, Ending, PATIENCE, Pending, Purpose, RINGING_MAX, Todo};
use crate::carrier::digest::{self, DigestTrick};
use crate::carrier::messages::{self, Line, Received};
use crate::carrier::script::{AckPlan, Act, Change, Talk, When};
use crate::carrier::sdp::{self, Flowing};
use crate::carrier::speaker::Speaker;

/// Times a caller says BYE that is not understood.
const BYES_MAX: usize = 5;

impl Caller {
    pub(super) fn handle_response(&mut self, now: Instant, received: Received, deeds: &mut Vec<Deed>) {
        let key = if received.method == "CANCEL" {
            received.branch.clone() + "/CANCEL"
        } else {
            received.branch.clone()
        };
        let is_invite = received.method == "INVITE";
        if received.status < 200 {
            self.handle_provisional(now, &key, &received, deeds);
            return;
        }
        if is_invite && received.status >= 300 {
            // RFC 3261 17.1.1.3: every repeat of the final response is acknowledged again, in the same transaction.
            let ack = self.ack_failure(&received);
            deeds.push(Deed::Sip(ack));
        }
        let Some(pending) = self.pending.remove(&key) else {
            if is_invite && received.status < 300 {
                self.acknowledge(now, &received, deeds);
            }
            return;
        };
        self.outcome.finals.push((pending.method.clone(), received.status));
        match pending.purpose {
            Purpose::Invite => self.handle_final(now, received, deeds),
            Purpose::Change(change) => self.handle_changed(now, change, &pending, &received, deeds),
            // A BYE that was not understood, for it was garbled, is said again; not for ever, for it may be the dialog that
            // was learned from something garbled.
            Purpose::Request
                if pending.method == "BYE" && received.status == 400 && self.byes() < BYES_MAX =>
            {
                self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds);
            }
            Purpose::Request if pending.method == "BYE" => self.end(now, Ending::Caller),
            Purpose::Request | Purpose::Aside => {}
        }
    }

    fn byes(&self) -> usize {
        self.outcome.finals.iter().filter(|(method, _)| method == "BYE").count()
    }

    fn handle_provisional(&mut self, now: Instant, key: &str, received: &Received, deeds: &mut Vec<Deed>) {
        if let Some(pending) = self.pending.get_mut(key) {
            if pending.method == "INVITE" {
                pending.next = None;
                pending.deadline = now + RINGING_MAX + PATIENCE * 2;
            } else {
                pending.proceeding = true;
            }
        }
        if received.status == 100 || received.method != "INVITE" {
            return;
        }
        if !received.to_tag.is_empty() && self.to_tag.is_empty() {
            self.to_tag.clone_from(&received.to_tag);
        }
        if let Some(contact) = &received.contact {
            self.remote_target.clone_from(contact);
        }
        if let Some(rseq) = received.rseq {
            let rack = Line("RAck", format!("{rseq} {} INVITE", received.cseq));
            self.request(now, "PRACK", vec![rack], vec![], Purpose::Request, deeds);
        }
        if self.outcome.rang_at.is_none() {
            self.outcome.rang_at = Some(now);
            self.todo.push((now + RINGING_MAX, Todo::GiveUp));
            self.plan_steps(now, |when| match when {
                When::Ringing(after) => Some(after),
                _ => None,
            });
        }
    }

    fn handle_final(&mut self, now: Instant, received: Received, deeds: &mut Vec<Deed>) {
        if matches!(received.status, 401 | 407) && self.plan.credentials.is_some() && self.challenged < 2 {
            self.challenged += 1;
            self.answer_challenge(now, &received, deeds);
        } else if received.status >= 300 {
            self.end(now, if self.cancelled { Ending::Caller } else { Ending::Refused(received.status) });
        } else {
            self.handle_answer(now, &received, deeds);
        }
    }

    fn answer_challenge(&mut self, now: Instant, received: &Received, deeds: &mut Vec<Deed>) {
        let Some(mut credentials) = self.plan.credentials.clone() else { return };
        let mut after = Duration::ZERO;
        if let DigestTrick::StaleNonce(seconds) = credentials.trick {
            if self.challenged == 1 {
                after = Duration::from_secs(u64::from(seconds));
            }
            credentials.trick = DigestTrick::Honest;
        }
        let uri = format!("sip:{}@{}", self.plan.number, self.place.tandem);
        self.authorization = digest::answer(&received.challenges, &credentials, "INVITE", &uri);
        match self.authorization {
            None => self.end(now, Ending::Refused(received.status)),
            Some(_) if after.is_zero() => self.send_invite(now, deeds),
            Some(_) => self.todo.push((now + after, Todo::Authorize)),
        }
    }

    /// RFC 4028 7.2 and 9: the refresher refreshes when half of the interval is over.
    fn plan_refresh(&mut self, now: Instant, received: &Received) {
        let Some(value) = &received.session_expires else { return };
        self.todo.retain(|(_, todo)| *todo != Todo::Refresh);
        let seconds: u64 = value.split(';').next().and_then(|text| text.trim().parse().ok()).unwrap_or(1800);
        if self.plan.refreshes && value.contains("refresher=uac") {
            self.todo.push((now + Duration::from_secs(seconds) / 2, Todo::Refresh));
        }
    }

    fn handle_answer(&mut self, now: Instant, received: &Received, deeds: &mut Vec<Deed>) {
        self.to_tag.clone_from(&received.to_tag);
        if let Some(contact) = &received.contact {
            self.remote_target.clone_from(contact);
        }
        self.outcome.answered_at = Some(now);
        if self.is_over() {
            // Its BYE from before the answer came to nothing, and it has long left: RFC 3261 13.2.2.4 has it say BYE anew.
            self.acknowledge(now, received, deeds);
            self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds);
            return;
        }
        self.plan_refresh(now, received);
        if let Some(section) = sdp::audio(&received.body) {
            self.begin_to_speak(now, section.rtp(), section.law());
        }
        self.acknowledge(now, received, deeds);
        if self.cancelled {
            // RFC 3261 9.1 and RFC 5407 3.1.2: the 200 won the race, so the call is ended by BYE.
            self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds);
            return;
        }
        self.plan_steps(now, |when| match when {
            When::Answered(after) => Some(after),
            _ => None,
        });
        self.speak(now, deeds);
    }

    /// Both sides' descriptions are there: audio goes to this address, in this law.
    pub(super) fn begin_to_speak(&mut self, now: Instant, to: Option<SocketAddr>, law: Option<Law>) {
        self.rtp_to = to;
        if self.plan.talk != Talk::Voice {
            return;
        }
        let bits = self.dice.bits();
        let events = self.offer.telephone_event;
        let (voice, law, ptime_ms) = (self.plan.voice, law.unwrap_or(Law::Mulaw), self.offer.ptime_ms);
        let mut speaker = Speaker::new(voice, law, ptime_ms, events, now, bits);
        speaker.skew_ppm = self.plan.skew_ppm;
        self.speaker = Some(speaker);
        if self.plan.reports {
            let first = self.dice.millis(200, 1500);
            self.todo.push((now + first, Todo::Report));
        }
    }

    fn acknowledge(&mut self, now: Instant, received: &Received, deeds: &mut Vec<Deed>) {
        if !self.acks.contains_key(&received.cseq) {
            // RFC 3261 13.2.2.4: the CSeq number of the INVITE, a branch of its own.
            let body = if self.offerless.contains(&received.cseq) && !received.body.is_empty() {
                sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive)
            } else {
                Vec::new()
            };
            let lines =
                if body.is_empty() { vec![] } else { vec![Line("Content-Type", "application/sdp".into())] };
            let (ack, _) = self.in_dialog("ACK", received.cseq, lines, body);
            self.acks.insert(received.cseq, ack);
        }
        let first = *self.first_answer_to.entry(received.cseq).or_insert(now);
        let Some(ack) = self.acks.get(&received.cseq).cloned() else { return };
        match self.plan.ack {
            AckPlan::Never => {}
            AckPlan::Late(after) if now == first => self.todo.push((now + after, Todo::Ack(received.cseq))),
            AckPlan::Late(after) if now < first + after => {}
            AckPlan::Twice => deeds.extend([Deed::Sip(ack.clone()), Deed::Sip(ack)]),
            AckPlan::Prompt | AckPlan::Late(_) => deeds.push(Deed::Sip(ack)),
        }
    }

    fn ack_failure(&self, received: &Received) -> Bytes {
        // RFC 3261 17.1.1.3: the same Via and Request-URI as the INVITE, To as in the response.
        let uri = if received.branch == self.invite_branch || received.call_id != self.call_id {
            format!("sip:{}@{}", self.plan.number, self.place.tandem)
        } else {
            self.remote_target.clone()
        };
        let mut lines = vec![];
        lines.extend(received.vias.iter().take(1).map(|via| Line("Via", strip_received(via))));
        lines.push(Line("Max-Forwards", "70".into()));
        lines.push(Line("From", received.from.clone()));
        lines.push(Line("To", received.to.clone()));
        lines.push(Line("Call-ID", received.call_id.clone()));
        lines.push(Line("CSeq", format!("{} ACK", received.cseq)));
        messages::request("ACK", &uri, lines, b"")
    }

    fn handle_changed(
        &mut self,
        now: Instant,
        change: Change,
        pending: &Pending,
        received: &Received,
        deeds: &mut Vec<Deed>,
    ) {
        if received.status == 491 && !self.is_over() {
            // RFC 3261 14.1: the owner of the Call-ID waits 2.1 to 4 s.
            let act = if pending.method == "INVITE" { Act::Reinvite(change) } else { Act::Update(change) };
            self.todo.push((now + Duration::from_millis(2100), Todo::Step(act)));
        }
        if received.status >= 300 {
            if matches!(received.status, 408 | 481) {
                // RFC 3261 12.2.1.2: the dialog is gone.
                self.end(now, Ending::Tandem);
            }
            return;
        }
        if pending.method == "INVITE" {
            self.acknowledge(now, received, deeds);
        }
        self.plan_refresh(now, received);
        let silent = matches!(
            change,
            Change::Direction(Flowing::ReceiveOnly | Flowing::Inactive | Flowing::ZeroAddress)
        );
        if change == Change::NewPort {
            self.rtp_from = self.place.rtp;
        }
        if let Some(section) = sdp::audio(&received.body) {
            self.rtp_to = section.rtp();
            if let (Some(speaker), Some(law)) = (&mut self.speaker, section.law()) {
                speaker.set_law(law);
            }
        }
        self.speaker.iter_mut().for_each(|speaker| speaker.muted = silent);
    }
}

fn strip_received(via: &str) -> String {
    let kept = via.split(';').filter(|part| !part.starts_with("received=") && !part.starts_with("rport"));
    let mut text = kept.collect::<Vec<_>>().join(";");
    text.push_str(";rport");
    text
}
