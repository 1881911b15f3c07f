//! The bridge when somebody else than the agent has the caller: the second leg comes, is joined, and goes.
//!
//! What passes between the two legs is [`super::second`]'s; here is who hears whom.

use std::net::SocketAddr;
use std::time::Instant;

use tandem_media::session::{Component, Received};
use tandem_media::{FRAME_BYTES_MAX, IngressFrame, LatchPolicy, MediaParameters};

use super::second::{Relayed, Second};
use super::speech::Notice;
use super::{Bridge, BridgeEvent, BridgeTransmit, CLOSE_NORMAL, Socket, State, Talk};

impl Bridge {
    /// Takes a datagram from the second leg's RTP port.
    pub fn handle_second_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        self.handle_second(now, source, datagram, false);
    }

    /// Takes a datagram from the second leg's RTCP port.
    pub fn handle_second_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        self.handle_second(now, source, datagram, true);
    }

    fn handle_second(&mut self, now: Instant, source: SocketAddr, datagram: &[u8], is_rtcp: bool) {
        let Some(second) = self.second.as_mut().filter(|second| !second.is_parting) else { return };
        match second.handle_datagram(now, source, datagram, is_rtcp) {
            Received::Latched(source) => self.speech.report(BridgeEvent::SecondLatched { source }),
            Received::Troubled(trouble) => self.speech.report(BridgeEvent::MediaTroubled { trouble }),
            Received::Accepted | Received::Stranger | Received::Ignored => {}
        }
    }

    /// The second leg is there, or has another form.
    pub(super) fn second_media(&mut self, now: Instant, media: MediaParameters, latch: LatchPolicy) {
        match self.second.as_mut().filter(|second| !second.is_parting) {
            Some(second) => second.leg.set_media(now, media),
            None => {
                self.seed = self.seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                self.second = Some(Box::new(Second::new(latch, media, self.media_timeout, self.seed, now)));
            }
        }
    }

    /// The caller is the second leg's. What the agent had queued is let go by its own rule for a flush; one that is kept is
    /// told as of a hold, for it hears nothing meanwhile.
    pub(super) fn join(&mut self, now: Instant, keeps_agent: bool) {
        let Some(second) = self.second.as_mut().filter(|second| !second.is_parting) else { return };
        if self.state == State::Nothing {
            return;
        }
        second.join(now);
        self.talk = Talk::Second;
        self.state = State::End;
        self.caller.set_relayed(true, now);
        self.speech.flush();
        self.speech.is_unheard = true;
        if !keeps_agent && self.socket == Socket::Open {
            self.speech.notify(Notice::Stop);
            self.socket = Socket::Closing(CLOSE_NORMAL);
        } else if keeps_agent {
            self.speech.notify(Notice::Held(true));
        }
    }

    /// The caller is the agent's again.
    pub(super) fn part(&mut self, now: Instant) {
        let Some(second) = &mut self.second else { return };
        second.is_parting = true;
        if self.talk == Talk::Second {
            self.talk = Talk::Agent;
            self.speech.is_unheard = false;
            self.caller.set_relayed(false, now);
            self.speech.notify(Notice::Held(false));
        }
    }

    /// The next packet between the two legs, or of the second leg's reports.
    pub(super) fn poll_second(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<BridgeTransmit> {
        let second = self.second.as_mut()?;
        if let Some((component, to)) = second.leg.poll_check(buffer) {
            return Some(match component {
                Component::Rtp => BridgeTransmit::SecondRtp { to },
                Component::Rtcp => BridgeTransmit::SecondRtcp { to },
            });
        }
        if second.is_parting || self.state == State::Nothing {
            let to = second.leg.poll_goodbye(now, buffer);
            if second.is_parting && to.is_none() {
                self.statistics.second = Some(second.statistics());
                self.second = None;
            }
            return to.map(|to| BridgeTransmit::SecondRtcp { to });
        }
        if self.talk != Talk::Second {
            return None;
        }
        match second.poll_relay(now, &mut self.caller, buffer) {
            Some(Relayed::ToCaller(to)) => Some(BridgeTransmit::Rtp { to }),
            Some(Relayed::ToSecond(to)) => Some(BridgeTransmit::SecondRtp { to }),
            None => second.leg.poll_rtcp(now, buffer).map(|to| BridgeTransmit::SecondRtcp { to }),
        }
    }

    /// 20 ms of what the caller said, for whom it talks to. An agent that waits meanwhile hears silence.
    pub(super) fn take_caller_frame(&mut self, frame: &IngressFrame) {
        let Some((coding, audio)) = self.caller.ingress_audio() else { return };
        match (self.talk, &mut self.second) {
            (Talk::Second, Some(second)) => {
                second.hear_caller(coding, audio);
                let silence = [coding.silence(); FRAME_BYTES_MAX];
                self.to_agent.push(coding, &silence[..audio.len().min(FRAME_BYTES_MAX)], None);
            }
            (Talk::Second | Talk::Agent, _) => {
                self.to_agent.push(coding, audio, frame.arrived);
                if self.state == State::End {
                    self.listener.listen(coding, audio, frame, &mut self.speech);
                }
            }
        }
    }
}
