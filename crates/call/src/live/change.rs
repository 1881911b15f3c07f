//! Changes within a call that is up: offers of the caller, keys told by INFO, digits to send.
//!
//! What it refuses to do: end the call because of a change that cannot be. RFC 3261 section 14.2, RFC 3264 section 8,
//! RFC 3311, RFC 6086.

use std::time::Instant;

use bytes::Bytes;
use tandem_media::sdp::SdpError;
use tandem_sip::{SessionId, Transport};

use super::{Awaiting, LiveCall};
use crate::bridge::BridgeCommand;
use crate::dtmf_info;
use crate::incident::IncidentKind;
use crate::node::Node;
use crate::output::Output;

/// Said of a change whose answer would hold a key that anybody could read.
const CHANGE_EXPOSED: &str = "the carrier's change of the call came without TLS and was refused: a key in its answer could be \
                              read by anybody; let it send re-INVITEs as it sent the call";

impl LiveCall {
    /// Re-INVITE or UPDATE: hold, resume, another address, another codec; an offer of ours if none came.
    pub(super) fn change_offered(&mut self, offer: Option<Bytes>, now: Instant, node: &mut Node) {
        let Some(session) = self.session else {
            node.counters.late_inputs += 1;
            return;
        };
        let transport = node.arrived_by;
        let is_secured = self.negotiation.suite().is_some();
        if is_secured && transport.is_some_and(|transport| transport != Transport::Tls) {
            // Whatever is answered would hold a key.
            node.counters.refused_changes += 1;
            self.incident(IncidentKind::EncryptionRefused, CHANGE_EXPOSED, now, node);
            let _ = node.endpoint.refuse_offer(now, session, 488);
            return;
        }
        match self.awaits {
            // The ACK under way could not be told from the one that would bring the answer: later (RFC 5407 section 3.1
            // has the races of this moment).
            Awaiting::Ack if offer.is_none() => {
                node.counters.refused_changes += 1;
                let _ = node.endpoint.refuse_offer(now, session, 491);
            }
            Awaiting::Ack | Awaiting::Listener | Awaiting::End => {
                let answer = match offer {
                    None => Ok(self.negotiation.offer()),
                    Some(offer) => self.negotiation.answer_change(&offer),
                };
                match answer {
                    Ok(description) => self.change_accepted(session, description, now, node),
                    Err(error) => {
                        // RFC 3261 section 14.2: 488 refuses the change, and the call goes on as it was.
                        node.counters.refused_changes += 1;
                        self.note_encryption(error, now, node);
                        let _ = node.endpoint.refuse_offer(now, session, error.sip_status());
                    }
                }
            }
            // RFC 3311 section 5.2: an offer while the INVITE's own stands unanswered is refused with 500. The endpoint does
            // that by itself, so this is a second fence.
            Awaiting::Way | Awaiting::Bridge | Awaiting::Answer | Awaiting::Agent => {
                node.counters.refused_changes += 1;
                let _ = node.endpoint.refuse_offer(now, session, 500);
            }
            Awaiting::BridgeClose | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }

    fn note_encryption(&mut self, error: SdpError, now: Instant, node: &Node) {
        if matches!(
            error,
            SdpError::EncryptionRequired
                | SdpError::EncryptionMissing
                | SdpError::KeysMissing
                | SdpError::KeyUnusable(_)
        ) {
            let detail =
                format!("the carrier's change of the call was refused, which goes on as it was: {error}");
            self.incident(IncidentKind::EncryptionRefused, detail, now, node);
        }
    }

    fn change_accepted(&mut self, session: SessionId, description: Bytes, now: Instant, node: &mut Node) {
        if node.endpoint.answer_offer(now, session, description).is_err() {
            node.counters.late_inputs += 1;
            return;
        }
        if self.negotiation.awaits_answer() {
            return;
        }
        if let Some(media) = self.negotiation.agreed().copied() {
            node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Media(media) });
        }
    }

    /// A key pressed, told by INFO.
    pub(super) fn info(&mut self, content_type: Option<&Bytes>, body: &Bytes, node: &mut Node) {
        match self.awaits {
            Awaiting::End => {
                let Some((digit, duration_ms)) = dtmf_info::read(content_type.map(|value| &value[..]), body)
                else {
                    return;
                };
                node.emit(Output::Bridge {
                    call: self.id,
                    command: BridgeCommand::Digit { digit, duration_ms },
                });
            }
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::BridgeClose
            | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }

    pub(super) fn send_dtmf(&mut self, digits: String, duration_ms: u16, node: &mut Node) {
        match self.awaits {
            Awaiting::End => {
                let command = BridgeCommand::SendDtmf { digits, duration_ms };
                node.emit(Output::Bridge { call: self.id, command });
            }
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::BridgeClose
            | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }
}
