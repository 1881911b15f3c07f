//! The ladder a caller sees: one line for each SIP message, as it passes.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tandem_sip::message::{Message, Method};

/// Which way a message went, from the caller's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the caller to the called side.
    Out,
    /// From the called side to the caller.
    In,
}

/// One rung: a message at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// Since the call was begun.
    pub at: Duration,
    /// Which way it went.
    pub way: Way,
    /// Method and target, or status and phrase with the method it answers.
    pub summary: String,
    /// Whether the message carries SDP.
    pub has_sdp: bool,
    /// Whether the message answers a BYE.
    pub is_answer_to_bye: bool,
}

impl Rung {
    /// The rung of a message; `None` for bytes that are none (keep-alives).
    pub(super) fn of(at: Duration, way: Way, payload: &Bytes) -> Option<Self> {
        let message = Message::parse_datagram(payload.clone()).ok()?;
        let line = payload.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        Some(match &message {
            Message::Request(request) => Self {
                at,
                way,
                summary: line.trim_end_matches(" SIP/2.0").to_owned(),
                has_sdp: !request.body().is_empty(),
                is_answer_to_bye: false,
            },
            Message::Response(response) => {
                let method = response.cseq().method;
                Self {
                    at,
                    way,
                    summary: format!("{} ({method})", line.trim_start_matches("SIP/2.0 ")),
                    has_sdp: !response.body().is_empty(),
                    is_answer_to_bye: way == Way::In && method == Method::Bye,
                }
            }
        })
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.way {
            Way::Out => "──▶",
            Way::In => "◀──",
        };
        let sdp = if self.has_sdp { "  [SDP]" } else { "" };
        write!(f, "{:>8.1} ms  caller {arrow} tandem   {}{sdp}", self.at.as_secs_f64() * 1e3, self.summary)
    }
}
