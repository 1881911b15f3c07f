//! Marks: which races, refusals and faults truly came about in a run, as seen at Tandem's edge.
//!
//! A campaign in which no CANCEL ever crossed a 200 proves nothing of that race. So each entry of the catalogue has a mark,
//! and the fixed seeds together must hit them all. A mark judges nothing.

use std::collections::BTreeMap;

use tandem_call::bridge::{AgentHangUpCause, BridgeEvent};

use crate::carrier::sdp;
use crate::message::SipText;

/// Something worth having seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the catalogue below says each in words")]
pub enum Mark {
    Answered,
    CancelWhileRinging,
    CancelCrossesAnswer,
    ByeBeforeAck,
    ByeInEarlyDialog,
    BothBye,
    AckAfterRepeats,
    NoAckAtAll,
    AnswerLost,
    AckLost,
    RefusalAckLost,
    ByeLost,
    RefusalRepeated,
    InviteAfterAnswer,
    Glare,
    Hold,
    Resume,
    SessionExpired,
    RefreshByTandem,
    RefreshByCaller,
    Update,
    DelayedOffer,
    OfferlessChange,
    Prack,
    Merged,
    StaleNonce,
    WrongDigest,
    Info,
    Key,
    DigitsToCaller,
    AgentRefuses,
    AgentTooLate,
    AgentDrops,
    AgentHangsUp,
    AgentRubbish,
    AgentFlood,
    AgentStopsReading,
    BargeIn,
    WishRefused,
    BurstLoss,
    Jitter,
    Reordered,
    PortMoved,
    Latched,
    MediaTimeout,
    ChangeRefused,
    CodecRefused,
    ComfortNoise,
    SplitMessage,
    PipelinedMessages,
    StreamReset,
    Drain,
    EndedByDrain,
    Overload,
    TrunkFull,
    NoPorts,
    SwapInCall,
    Unplugged,
    StrangerBye,
    StrangerRtp,
    RubbishRtp,
    Garbled,
    Cut,
    EarlyWords,
    ReportsBothWays,
    PlacedAnswered,
    NextGateway,
    GatewayNotFound,
    CalleeRefuses,
    CredentialsAsked,
    PlacedCancelled,
    AnswerCrossesCancel,
    ForkAnswers,
    NotPlaced,
    PlacedRefreshed,
}

impl Mark {
    /// Every mark with what it stands for.
    pub const CATALOGUE: [(Self, &'static str); 75] = [
        (Self::Answered, "a call is answered"),
        (Self::CancelWhileRinging, "CANCEL while it rings"),
        (Self::CancelCrossesAnswer, "CANCEL crosses 200 (RFC 5407 3.1.2)"),
        (Self::ByeBeforeAck, "BYE overtakes the ACK (RFC 5407 3.1.1)"),
        (Self::ByeInEarlyDialog, "BYE in the early dialog"),
        (Self::BothBye, "both sides say BYE at once (RFC 5407 3.2)"),
        (Self::AckAfterRepeats, "ACK after the 200 had to be repeated"),
        (Self::NoAckAtAll, "no ACK in 64*T1, and BYE"),
        (Self::AnswerLost, "a 200 to INVITE is lost"),
        (Self::AckLost, "an ACK to a 200 is lost"),
        (Self::RefusalAckLost, "an ACK to a refusal is lost"),
        (Self::ByeLost, "a BYE is lost"),
        (Self::RefusalRepeated, "a refusal is repeated (timer G)"),
        (Self::InviteAfterAnswer, "the INVITE comes again after its 200"),
        (Self::Glare, "491: both sides change the session at once"),
        (Self::Hold, "hold"),
        (Self::Resume, "resume"),
        (Self::SessionExpired, "a session that its caller did not refresh expires"),
        (Self::RefreshByTandem, "Tandem refreshes the session"),
        (Self::RefreshByCaller, "the caller refreshes the session"),
        (Self::Update, "UPDATE"),
        (Self::DelayedOffer, "the answer comes in the ACK"),
        (Self::OfferlessChange, "a re-INVITE without an offer"),
        (Self::Prack, "PRACK"),
        (Self::Merged, "482: the same request by two paths"),
        (Self::StaleNonce, "a nonce that grew old"),
        (Self::WrongDigest, "a digest answer that is wrong"),
        (Self::Info, "a key told by INFO"),
        (Self::Key, "a key by RFC 4733"),
        (Self::DigitsToCaller, "digits to the caller by RFC 4733"),
        (Self::AgentRefuses, "the agent refuses"),
        (Self::AgentTooLate, "the agent does not accept in time"),
        (Self::AgentDrops, "the agent's connection breaks"),
        (Self::AgentHangsUp, "the agent hangs up"),
        (Self::AgentRubbish, "the agent sends what is not understood"),
        (Self::AgentFlood, "the agent is told to stop sending"),
        (Self::AgentStopsReading, "the agent does not read"),
        (Self::BargeIn, "the agent drops what it said"),
        (Self::WishRefused, "the agent wishes a transfer or a hold"),
        (Self::BurstLoss, "RTP is lost"),
        (Self::Jitter, "RTP comes late"),
        (Self::Reordered, "RTP comes in another order"),
        (Self::PortMoved, "the caller's RTP moves to a port it names"),
        (Self::Latched, "the caller's RTP comes from a port it did not name"),
        (Self::MediaTimeout, "the caller's RTP stops"),
        (Self::ChangeRefused, "488 to a change: fax, or no codec"),
        (Self::CodecRefused, "488 to the INVITE"),
        (Self::ComfortNoise, "comfort noise instead of audio"),
        (Self::SplitMessage, "a message split on a stream"),
        (Self::PipelinedMessages, "several messages in one piece of a stream"),
        (Self::StreamReset, "a stream breaks in mid-call"),
        (Self::Drain, "503: the node drains"),
        (Self::EndedByDrain, "a call is ended by the bound of a drain"),
        (Self::Overload, "503: the node is full"),
        (Self::TrunkFull, "486: the trunk is full"),
        (Self::NoPorts, "no media port is free"),
        (Self::SwapInCall, "the routing table is swapped in mid-call"),
        (Self::Unplugged, "the number is gone"),
        (Self::StrangerBye, "a stranger says BYE"),
        (Self::StrangerRtp, "a stranger sends RTP"),
        (Self::RubbishRtp, "rubbish comes to a media port"),
        (Self::Garbled, "a SIP datagram is garbled on its way"),
        (Self::Cut, "a path is cut for a while"),
        (Self::EarlyWords, "the caller speaks before its ACK is there"),
        (Self::ReportsBothWays, "RTCP both ways"),
        (Self::PlacedAnswered, "a call that Tandem places is answered"),
        (Self::NextGateway, "a gateway fails, and the next is tried"),
        (Self::GatewayNotFound, "a gateway's name leads to nothing"),
        (Self::CalleeRefuses, "busy or declined: the call is over"),
        (Self::CredentialsAsked, "a gateway asks for credentials"),
        (Self::PlacedCancelled, "Tandem cancels a call that it places"),
        (Self::AnswerCrossesCancel, "a callee's 200 crosses Tandem's CANCEL (RFC 5407 3.1.2)"),
        (Self::ForkAnswers, "two telephones answer one INVITE (RFC 3261 13.2.2.4)"),
        (Self::NotPlaced, "no room for a call that is to be placed"),
        (Self::PlacedRefreshed, "Tandem refreshes the session of a call that it placed"),
    ];
}

/// What was seen of one Call-ID so far.
#[derive(Debug, Default)]
struct Seen {
    invite_cseq: u32,
    answers: u32,
    is_acked: bool,
    is_cancelled: bool,
    is_leaving: bool,
    bye_sent: bool,
    bye_sent_done: bool,
    is_held: bool,
    /// Tandem places it; the branches that it gave up, and the tags that answered it.
    is_placed: bool,
    given_up: Vec<String>,
    tags: Vec<String>,
    refusal: Option<(u16, u32)>,
}

impl Seen {
    /// A final response to an INVITE that places a call.
    fn concluded(&mut self, text: &SipText, hits: &mut Vec<Mark>) {
        match text.status {
            401 | 407 => hits.push(Mark::CredentialsAsked),
            486 | 600 | 603 => hits.push(Mark::CalleeRefuses),
            200..300 if !self.tags.iter().any(|tag| tag == text.to_tag()) => {
                self.tags.push(text.to_tag().to_owned());
                hits.push(if self.tags.len() > 1 { Mark::ForkAnswers } else { Mark::PlacedAnswered });
                if self.given_up.iter().any(|branch| branch == text.transaction().0) {
                    hits.push(Mark::AnswerCrossesCancel);
                }
                (self.answers, self.is_acked) = (1, true);
            }
            _ => {}
        }
    }
}

/// The marks of one run.
#[derive(Debug, Default)]
pub struct Marks {
    counts: BTreeMap<Mark, u32>,
    calls: BTreeMap<String, Seen>,
}

impl Marks {
    /// It came about.
    pub fn hit(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
    }

    /// How often each came about.
    pub fn counts(&self) -> &BTreeMap<Mark, u32> {
        &self.counts
    }

    /// A SIP message reaches Tandem.
    pub fn arrive(&mut self, text: &SipText, trusted: bool) {
        let seen = self.calls.entry(text.call_id().to_owned()).or_default();
        let is_answered = seen.answers > 0;
        let (cseq, of) = text.cseq();
        let mut hits: Vec<Mark> = Vec::new();
        match text.method() {
            "INVITE" if text.to_tag().is_empty() => {
                if is_answered && cseq == seen.invite_cseq {
                    hits.push(Mark::InviteAfterAnswer);
                }
                seen.invite_cseq = cseq;
            }
            "INVITE" if text.body.is_empty() => hits.push(Mark::OfferlessChange),
            "INVITE" | "UPDATE" if text.header("session-expires").is_some() => {
                hits.push(Mark::RefreshByCaller);
            }
            "CANCEL" => {
                if is_answered {
                    hits.push(Mark::CancelCrossesAnswer);
                }
                seen.is_cancelled = true;
            }
            "ACK" if is_answered && cseq == seen.invite_cseq => {
                if !seen.is_acked && seen.answers > 1 {
                    hits.push(Mark::AckAfterRepeats);
                }
                seen.is_acked = true;
                if !text.body.is_empty() {
                    hits.push(Mark::DelayedOffer);
                }
            }
            "BYE" if !trusted => hits.push(Mark::StrangerBye),
            "BYE" => {
                if seen.bye_sent && !seen.bye_sent_done {
                    hits.push(Mark::BothBye);
                }
                if !is_answered {
                    hits.push(Mark::ByeInEarlyDialog);
                } else if !seen.is_acked {
                    hits.push(Mark::ByeBeforeAck);
                }
                seen.is_leaving = true;
            }
            "PRACK" => hits.push(Mark::Prack),
            "INFO" => hits.push(Mark::Info),
            "" if text.status == 491 => hits.push(Mark::Glare),
            "" if seen.is_placed && of == "INVITE" && text.status >= 200 => seen.concluded(text, &mut hits),
            "" if of == "BYE" && text.status >= 200 => seen.bye_sent_done = true,
            _ => {}
        }
        hits.into_iter().for_each(|mark| self.hit(mark));
    }

    /// A SIP message leaves Tandem.
    pub fn depart(&mut self, text: &SipText) {
        let seen = self.calls.entry(text.call_id().to_owned()).or_default();
        let (cseq, of) = text.cseq();
        let is_first_invite = of == "INVITE" && cseq == seen.invite_cseq;
        let mut hits: Vec<Mark> = Vec::new();
        match (text.method(), text.status) {
            ("BYE", _) => {
                if seen.answers > 0 && !seen.is_acked {
                    hits.push(Mark::NoAckAtAll);
                }
                seen.bye_sent = true;
            }
            ("INVITE", _) if text.to_tag().is_empty() => seen.is_placed = true,
            ("CANCEL", _) => {
                seen.given_up.push(text.transaction().0.to_owned());
                hits.push(Mark::PlacedCancelled);
            }
            ("INVITE" | "UPDATE", _) if seen.is_placed => hits.push(Mark::PlacedRefreshed),
            ("INVITE" | "UPDATE", _) => hits.push(Mark::RefreshByTandem),
            ("", 200..300) if matches!(of, "INVITE" | "UPDATE") => {
                if is_first_invite {
                    seen.answers += 1;
                    hits.push(Mark::Answered);
                }
                if of == "UPDATE" {
                    hits.push(Mark::Update);
                }
                if let Some(section) = sdp::audio(&text.body) {
                    let is_held = section.direction != "sendrecv";
                    if is_held {
                        hits.push(Mark::Hold);
                    } else if seen.is_held {
                        hits.push(Mark::Resume);
                    }
                    seen.is_held = is_held;
                }
            }
            ("", 300..) if of == "INVITE" => {
                if seen.refusal == Some((text.status, cseq)) {
                    hits.push(Mark::RefusalRepeated);
                }
                seen.refusal = Some((text.status, cseq));
                hits.extend(Self::of_refusal(text, is_first_invite, seen.is_cancelled));
            }
            ("", 488) => hits.push(Mark::ChangeRefused),
            ("", 491) => hits.push(Mark::Glare),
            _ => {}
        }
        hits.into_iter().for_each(|mark| self.hit(mark));
    }

    fn of_refusal(text: &SipText, is_first: bool, is_cancelled: bool) -> Option<Mark> {
        match text.status {
            487 if is_cancelled => Some(Mark::CancelWhileRinging),
            482 => Some(Mark::Merged),
            486 => Some(Mark::TrunkFull),
            488 if is_first => Some(Mark::CodecRefused),
            488 => Some(Mark::ChangeRefused),
            491 => Some(Mark::Glare),
            401 if text.header("www-authenticate").is_some_and(|value| value.contains("stale=true")) => {
                Some(Mark::StaleNonce)
            }
            _ => None,
        }
    }

    /// A SIP message is lost on its way.
    pub fn lost(&mut self, text: &SipText) {
        let seen = self.calls.entry(text.call_id().to_owned()).or_default();
        let mark = match (text.method(), text.status, text.cseq().1) {
            ("ACK", ..) if seen.answers > 0 => Mark::AckLost,
            ("ACK", ..) => Mark::RefusalAckLost,
            ("BYE", ..) => Mark::ByeLost,
            ("", 200..300, "INVITE") => Mark::AnswerLost,
            _ => return,
        };
        self.hit(mark);
    }

    /// A bridge reports.
    pub fn bridge(&mut self, event: &BridgeEvent) {
        let mark = match event {
            BridgeEvent::Flushed { .. } => Mark::BargeIn,
            BridgeEvent::MediaTimeout => Mark::MediaTimeout,
            BridgeEvent::ProtocolError { .. } => Mark::AgentRubbish,
            BridgeEvent::Transfer { .. } | BridgeEvent::Hold { .. } => Mark::WishRefused,
            BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Lost } => Mark::AgentDrops,
            BridgeEvent::AgentHangUp { .. } => Mark::AgentHangsUp,
            BridgeEvent::Digit { .. } => Mark::Key,
            _ => return,
        };
        self.hit(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_stands_in_the_catalogue_once() {
        for (index, (mark, _)) in Mark::CATALOGUE.iter().enumerate() {
            assert_eq!(*mark as usize, index, "{mark:?}");
        }
        assert_eq!(Mark::PlacedRefreshed as usize + 1, Mark::CATALOGUE.len());
    }
}
