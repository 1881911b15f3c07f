//! What a caller answers to Tandem's requests: BYE, session refreshes, whatever else.

use std::time::Instant;

use super::{Caller, Deed, Ending, Purpose};
use crate::carrier::messages::{self, Line, Received};
use crate::carrier::sdp::{self, Flowing};

impl Caller {
    pub(super) fn handle_request(&mut self, now: Instant, received: Received, deeds: &mut Vec<Deed>) {
        if received.method == "ACK" {
            return;
        }
        let key = format!("{}/{}", received.branch, received.method);
        if let Some(bytes) = self.served.get(&key) {
            deeds.push(Deed::Sip(bytes.clone()));
            return;
        }
        self.outcome.requests.push(received.method.clone());
        let busy = self.pending.values().any(|pending| matches!(pending.purpose, Purpose::Change(_)));
        let contact = || Line("Contact", self.contact());
        let (status, extra, body) = match received.method.as_str() {
            "BYE" => (200, vec![], vec![]),
            "INVITE" | "UPDATE" if busy => (491, vec![], vec![]),
            "INVITE" | "UPDATE" => {
                let mut lines = vec![contact()];
                if let Some(expires) = &received.session_expires {
                    lines.push(Line("Session-Expires", expires.clone()));
                    lines.push(Line("Require", "timer".into()));
                }
                let wants_offer = received.method == "INVITE" && received.body.is_empty();
                if received.body.is_empty() && !wants_offer {
                    (200, lines, vec![])
                } else {
                    lines.push(Line("Content-Type", "application/sdp".into()));
                    let body =
                        sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive);
                    (200, lines, body)
                }
            }
            "OPTIONS" | "INFO" => (200, vec![], vec![]),
            _ => (501, vec![], vec![]),
        };
        let bytes = messages::response(&received, status, &self.from_tag, extra, &body);
        if self.served.len() > 16 {
            self.served.pop_first();
        }
        self.served.insert(key, bytes.clone());
        deeds.push(Deed::Sip(bytes));
        if received.method == "BYE" {
            self.end(now, Ending::Tandem);
        }
    }
}
