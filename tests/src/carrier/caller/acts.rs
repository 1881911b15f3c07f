//! What the script has a caller do: each act as messages, RTP or mischief.

use std::time::Instant;

use bytes::Bytes;
use tandem_sip::Transport;

use super::{Caller, Deed, PATIENCE, Purpose, Todo};
use crate::carrier::messages::Line;
use crate::carrier::script::{Act, Change};
use crate::carrier::sdp::{self, ExtraSection, Flowing};
use crate::carrier::speaker::Speaker;

impl Caller {
    pub(super) fn act(&mut self, now: Instant, act: Act, deeds: &mut Vec<Deed>) {
        let answered = self.outcome.answered_at.is_some();
        let over = self.is_over() || self.is_leaving;
        match act {
            Act::Cancel if !answered && !over => {
                self.cancelled = true;
                self.todo.push((now + PATIENCE, Todo::GiveUp));
                let bytes = self.cancel();
                self.send(
                    now,
                    "CANCEL",
                    bytes,
                    self.invite_branch.clone() + "/CANCEL",
                    Purpose::Request,
                    deeds,
                );
            }
            Act::Cancel | Act::Bye if answered && !over => {
                self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds)
            }
            Act::Bye if !over => self.act(now, Act::Cancel, deeds),
            Act::ByeNow if !over && !self.to_tag.is_empty() => {
                self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds);
            }
            Act::Reinvite(change) if answered && !over => self.change(now, "INVITE", change, deeds),
            Act::Update(change) if answered && !over => self.change(now, "UPDATE", change, deeds),
            Act::Info(digit) if answered && !over => {
                let body = format!("Signal={digit}\r\nDuration=160\r\n").into_bytes();
                let line = Line("Content-Type", "application/dtmf-relay".into());
                self.request(now, "INFO", vec![line], body, Purpose::Request, deeds);
            }
            Act::Options if answered && !over => {
                self.request(now, "OPTIONS", vec![], vec![], Purpose::Request, deeds)
            }
            Act::Nonsense if answered && !over => {
                self.request(now, "PUBLISH", vec![], vec![], Purpose::Request, deeds)
            }
            Act::OldCseq if answered && !over => self.old_request(now, deeds),
            Act::Press(digit) => self.speaker.iter_mut().for_each(|speaker| speaker.press(digit)),
            Act::MovePort => self.rtp_from.set_port(self.rtp_from.port() + 20_000),
            Act::RestartRtp => {
                let bits = self.dice.bits();
                self.speaker.iter_mut().for_each(|speaker| speaker.restart(bits));
            }
            Act::Mute => self.speaker.iter_mut().for_each(|speaker| speaker.muted = true),
            Act::Speak => self.speaker.iter_mut().for_each(|speaker| speaker.muted = false),
            Act::Hush(millis) => self.speaker.iter_mut().for_each(|speaker| speaker.hush(millis)),
            Act::Forget => self.forget(now),
            // Nobody repeats a request on a stream.
            Act::RepeatInvite if self.plan.transport == Transport::Udp => {
                deeds.push(Deed::Sip(self.invite.clone()))
            }
            Act::RepeatAck => deeds.extend(self.acks.values().next().cloned().map(Deed::Sip)),
            Act::Merge => self.merge(now, deeds),
            Act::ReplayDigest => self.replay_digest(now, deeds),
            Act::StrangerRtp(count) | Act::RubbishRtp(count) => self.intrude(now, &act, count, deeds),
            Act::StrangerBye | Act::StrangerReinvite if answered => {
                let method = if act == Act::StrangerBye { "BYE" } else { "INVITE" };
                let (bytes, _) = self.in_dialog(method, self.cseq + 1, vec![], vec![]);
                deeds.push(Deed::Stranger(bytes));
            }
            Act::Reset => deeds.push(Deed::Reset),
            _ => {}
        }
    }

    fn intrude(&mut self, now: Instant, act: &Act, count: u16, deeds: &mut Vec<Deed>) {
        let Some(to) = self.rtp_to else { return };
        let bits = self.dice.bits();
        if let Act::RubbishRtp(_) = act {
            for _ in 0..count {
                let length = self.dice.below(60) as usize;
                let payload: Vec<u8> = (0..length).map(|_| self.dice.bits() as u8).collect();
                deeds.push(Deed::Rtp { from: self.rtp_from, to, payload: Bytes::from(payload) });
            }
            return;
        }
        // A stranger's voice is 0xdead: if it is ever heard, the checks know whose it was.
        let law = self.offer.laws.first().copied().unwrap_or(tandem_media::Law::Mulaw);
        let mut stranger = Speaker::new(0xdead, law, 20, None, now, bits);
        for _ in 0..count {
            deeds.extend(stranger.packet(&self.alphabet).map(|payload| Deed::StrangerRtp { to, payload }));
        }
    }

    fn change(&mut self, now: Instant, method: &'static str, change: Change, deeds: &mut Vec<Deed>) {
        // RFC 3261 14.1: no new INVITE while one is in progress.
        if self.pending.values().any(|pending| matches!(pending.purpose, Purpose::Change(_))) {
            return;
        }
        if change == Change::NewPort {
            self.place.rtp.set_port(self.place.rtp.port() + 2000);
        }
        if change == Change::NewContact {
            self.place.contact.set_port(self.place.contact.port() + 100);
        }
        self.sdp_version += 1;
        let mut offer = self.offer.clone();
        let mut flowing = Flowing::SendReceive;
        match change {
            Change::Direction(direction) => flowing = direction,
            Change::SwitchLaw(law) => offer.laws = vec![law],
            Change::Fax => offer.extra = ExtraSection::T38Alone,
            Change::NoCodec => offer.laws.clear(),
            _ => {}
        }
        let body = match change {
            Change::NoOffer => Vec::new(),
            _ => sdp::write(&offer, self.place.rtp, self.sdp_version, flowing),
        };
        let mut lines =
            if body.is_empty() { vec![] } else { vec![Line("Content-Type", "application/sdp".into())] };
        if let (Change::Refresh, Some((seconds, _)), true) =
            (change, self.plan.session_timer, self.plan.refreshes)
        {
            // RFC 4028 7.4: a refresh says again who is to refresh.
            lines.push(Line("Supported", "timer".into()));
            lines.push(Line("Session-Expires", format!("{seconds};refresher=uac")));
        }
        self.request(now, method, lines, body, Purpose::Change(change), deeds);
        if change == Change::NoOffer {
            self.offerless.insert(self.cseq);
        }
    }

    fn old_request(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        if self.cseq < 2 {
            self.cseq += 5;
            self.request(now, "OPTIONS", vec![], vec![], Purpose::Request, deeds);
        }
        let (bytes, branch) = self.in_dialog("INFO", self.cseq - 1, vec![], vec![]);
        self.send(now, "INFO", bytes, branch, Purpose::Request, deeds);
    }

    fn merge(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let branch = self.branch();
        let text = String::from_utf8_lossy(&self.invite).replace(&self.invite_branch, &branch);
        self.send(now, "INVITE", Bytes::from(text), branch, Purpose::Aside, deeds);
    }

    fn replay_digest(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        // The branch holds the Call-ID, so it is put in last.
        let again = format!("{}-again", self.call_id);
        let old_branch = self.invite_branch.replace(&self.call_id, &again);
        let branch = self.branch();
        let text = String::from_utf8_lossy(&self.invite)
            .replace(&self.from_tag, "replayed")
            .replace(&self.call_id, &again)
            .replace(&old_branch, &branch);
        self.send(now, "INVITE", Bytes::from(text), branch, Purpose::Aside, deeds);
    }
}
