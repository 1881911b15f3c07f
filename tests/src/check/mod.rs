//! The invariants, checked at Tandem's edge at every step.
//!
//! The checks see what enters and what leaves, with its virtual time, and nothing of the inside. They share no parser
//! with the product. Numbers in brackets are those of the list in [`INVARIANTS`].

pub mod agent;
pub mod ledger;
pub mod retransmission;
pub mod rtcp;
pub mod rtp;
pub mod sip;
pub mod timer;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The invariants' stable names with what they say.
pub const INVARIANTS: [(&str, &str); 46] = [
    ("ack-answered", "no response to an ACK (RFC 3261 17)"),
    ("two-finals", "at most one final response in a server transaction"),
    ("to-tag", "one To tag throughout a transaction and dialog (RFC 3261 12.1.1)"),
    ("repeat-differs", "a repeated request gets the same bytes as before (RFC 3261 17.2)"),
    ("no-such-request", "every response answers a request that came"),
    ("response-route", "a response goes where its request came from (RFC 3581 4)"),
    ("reliable-retransmission", "no request is retransmitted on a stream (RFC 3261 17.1.2.2)"),
    ("retransmission-timing", "retransmissions follow T1 and T2 exactly (RFC 3261 17)"),
    ("retransmission-missing", "a 2xx to INVITE repeats until ACK (RFC 3261 13.3.1.4)"),
    ("unacked-without-bye", "a 2xx unacknowledged for 64*T1 is followed by BYE (RFC 3261 13.3.1.4)"),
    ("cseq", "CSeq rises by one per dialog and direction; ACK has its INVITE's (RFC 3261 12.2.1.1)"),
    ("route-set", "in-dialog requests carry the whole route set (RFC 3261 12.2.1.1)"),
    ("remote-target", "in-dialog requests go to the remote target (RFC 3261 12.2.1.1)"),
    ("no-such-dialog", "in-dialog requests belong to a dialog that lives"),
    ("ack-missing", "every 2xx to an INVITE of ours is acknowledged, every time (RFC 3261 13.2.2.4)"),
    ("cancel", "a CANCEL repeats its INVITE's numbers and waits for a provisional response (RFC 3261 9.1)"),
    ("order", "a call that is placed goes from gateway to gateway as the model does, and its record says so"),
    ("sdp-sections", "an answer has as many m= lines as its offer, in its order (RFC 3264 6)"),
    ("sdp-formats", "an answer's formats were offered (RFC 3264 6.1)"),
    ("sdp-direction", "an answer's direction mirrors its offer's (RFC 3264 6.1)"),
    ("stranger-obeyed", "in-dialog requests from strangers have no effect"),
    ("malformed", "what leaves is a SIP message, and rsip can read it"),
    ("rtp-sequence", "RTP sequence numbers rise by one, under one SSRC (RFC 3550 5.1)"),
    ("rtp-timestamp", "RTP timestamps rise by the samples sent and keep pace with the clock"),
    ("rtp-pacing", "at most one RTP packet per packet time"),
    ("rtp-early", "no RTP before the answer"),
    ("rtp-late", "no RTP after the end of the call"),
    ("rtp-marker", "the marker stands on the first packet of a talk spurt (RFC 3551 4.1)"),
    ("rtp-target", "RTP goes to the negotiated or rightly latched address alone"),
    ("rtp-format", "RTP payload types were negotiated"),
    ("cross-talk", "nobody hears another call"),
    ("audio-order", "audio is delivered once and in order"),
    ("audio-gap", "on a clean path audio is delivered whole and bit-exact"),
    ("agent-start", "an agent's stream begins with its start messages"),
    ("agent-form", "agents are told words of their dialect, rightly numbered"),
    ("mark", "each mark is reported once, after its audio and not later than a frame"),
    ("flushed-audio", "after a flush no older audio leaves"),
    ("decision", "route and admission decide as the model does"),
    ("record", "exactly one record a call, and it tells the truth"),
    ("closed-call", "nothing names a call that was closed"),
    ("stuck", "everything ends, and nothing is left behind"),
    ("panic", "no panic, no deadline that does not move"),
    ("error-log", "no error is logged"),
    ("first-word", "what the caller says from the answer on reaches the agent from the first sample"),
    ("session-timer", "sessions are refreshed, or ended, in their time (RFC 4028 9, 10)"),
    ("rtcp", "reports tell what was sent and what came, and the round trip (RFC 3550 6.4)"),
];

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name in [`INVARIANTS`].
    pub invariant: &'static str,
    /// When, from the start of the run.
    pub at: Duration,
    /// SIP Call-ID or call identifier, where there is one.
    pub call: String,
    /// What was seen.
    pub detail: String,
}

/// Collects violations, so that the checks need no results to hand on.
#[derive(Debug)]
pub struct Findings {
    /// What was found, first first.
    pub all: Vec<Violation>,
    /// Calls of which a message was garbled on its way: what they look like from outside is not to be judged by what was
    /// sent. That they end, and leave nothing, is.
    doubtful: BTreeSet<String>,
    start: Instant,
}

/// Invariants that hold whatever came in.
const UNDOUBTED: [&str; 4] = ["panic", "error-log", "stuck", "closed-call"];

/// Violations kept in one run: the first tells the story, the rest is echo.
const MAX_FINDINGS: usize = 16;

impl Findings {
    /// Nothing found yet.
    pub fn new(start: Instant) -> Self {
        Self { all: Vec::new(), doubtful: BTreeSet::new(), start }
    }

    /// A message of this call was garbled.
    pub fn doubt(&mut self, call: &str) {
        self.doubtful.insert(call.to_owned());
    }

    /// Whether a message of this call was garbled.
    pub fn is_doubtful(&self, call: &str) -> bool {
        self.doubtful.contains(call)
    }

    /// Notes a violation.
    pub fn note(&mut self, invariant: &'static str, now: Instant, call: &str, detail: impl Into<String>) {
        debug_assert!(INVARIANTS.iter().any(|(name, _)| *name == invariant), "{invariant} is listed");
        let is_doubtful = self.doubtful.contains(call) || (call.is_empty() && !self.doubtful.is_empty());
        if is_doubtful && !UNDOUBTED.contains(&invariant) {
            return;
        }
        if self.all.len() < MAX_FINDINGS {
            let at = now.saturating_duration_since(self.start);
            self.all.push(Violation { invariant, at, call: call.to_owned(), detail: detail.into() });
        }
    }
}
