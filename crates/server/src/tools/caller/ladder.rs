//! The ladder a caller sees: one line for each SIP message, as it passes.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tandem_sip::message::Message;

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
}

impl Rung {
    /// The rung of a message; `None` for bytes that are none (keep-alives).
    pub(super) fn of(at: Duration, way: Way, payload: &Bytes) -> Option<Self> {
        let message = Message::parse_datagram(payload.clone()).ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (summary, has_sdp) = match &message {
            Message::Request(request) => {
                let line = payload.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = text(line);
                (line.trim_end_matches(" SIP/2.0").to_owned(), !request.body().is_empty())
            }
            Message::Response(response) => {
                let line = payload.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = text(line);
                let method = response.cseq().method.to_string();
                (format!("{} ({method})", line.trim_start_matches("SIP/2.0 ")), !response.body().is_empty())
            }
        };
        Some(Self { at, way, summary, has_sdp })
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
