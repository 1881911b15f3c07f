//! The SIP ladder of a call: who sent what when, kept in bounded memory.
//!
//! What it refuses to do: keep whole messages, or let one call, or strangers without number, push out the ladder of
//! another: each ladder belongs to an admitted call and has its own bound. A call that talks too much keeps its first and
//! its last messages, for set-up and end are what anybody asks about.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Messages kept from the beginning of a call.
pub const MAX_FIRST: usize = 24;

/// Messages kept from its end.
pub const MAX_LAST: usize = 24;

/// Longest start line kept, in bytes.
pub const MAX_LINE_BYTES: usize = 160;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heading {
    /// To us.
    In,
    /// From us.
    Out,
}

/// One message of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// When, in milliseconds since 1970 UTC.
    pub at_unix_ms: u64,
    /// Which way.
    pub heading: Heading,
    /// The peer; `None` when a name was still to be resolved.
    pub peer: Option<SocketAddr>,
    /// The start line, shortened if need be.
    pub start_line: String,
    /// The CSeq header, which tells what a response answers.
    pub cseq: String,
    /// Length of the whole message in bytes.
    pub bytes: u32,
}

/// The messages of one call.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    first: Vec<Rung>,
    last: VecDeque<Rung>,
    dropped: u32,
}

impl Ladder {
    /// Adds a message.
    pub fn push(&mut self, rung: Rung) {
        if self.first.len() < MAX_FIRST {
            self.first.push(rung);
            return;
        }
        if self.last.len() == MAX_LAST {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(rung);
    }

    /// The messages in order.
    pub fn rungs(&self) -> impl Iterator<Item = &Rung> {
        self.first.iter().chain(&self.last)
    }

    /// How many messages between the first and the last were left out.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

/// What a ladder shows of a message, read from its bytes alone: it need not be valid SIP.
pub(crate) struct Glimpse<'a> {
    /// The first line.
    pub(crate) start_line: &'a [u8],
    /// The value of Call-ID, empty if there is none.
    pub(crate) call_id: &'a [u8],
    /// The value of CSeq, empty if there is none.
    pub(crate) cseq: &'a [u8],
}

/// Headers looked through for Call-ID and CSeq: an honest message has them among the first few.
const MAX_HEADERS: usize = 64;

impl<'a> Glimpse<'a> {
    /// Reads start line, Call-ID and CSeq (RFC 3261 sections 7.1, 7.2, 7.3.3).
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let mut lines = message
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .skip_while(|line| line.is_empty());
        let start_line = lines.next().unwrap_or_default();
        let mut glimpse = Self { start_line, call_id: b"", cseq: b"" };
        for line in lines.take(MAX_HEADERS).take_while(|line| !line.is_empty()) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
                glimpse.call_id = value;
            } else if name.eq_ignore_ascii_case(b"cseq") {
                glimpse.cseq = value;
            }
            if !glimpse.call_id.is_empty() && !glimpse.cseq.is_empty() {
                break;
            }
        }
        glimpse
    }
}

/// At most so many bytes as text.
pub(crate) fn short_text(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]);
    text.chars().map(|character| if character.is_control() { '\u{FFFD}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_keeps_the_first_and_the_last_messages() {
        let mut ladder = Ladder::default();
        for number in 0..200 {
            ladder.push(rung(number));
        }
        let kept: Vec<u64> = ladder.rungs().map(|rung| rung.at_unix_ms).collect();
        assert_eq!(kept.len(), MAX_FIRST + MAX_LAST);
        assert_eq!(kept[..3], [0, 1, 2]);
        assert_eq!(kept[kept.len() - 1], 199);
        assert_eq!(ladder.dropped(), 200 - 48);
    }

    #[test]
    fn a_glimpse_reads_long_and_compact_names_and_bare_line_ends() {
        let glimpse = Glimpse::of(b"\r\nBYE sip:a SIP/2.0\r\ni : x@y\r\nCSEQ: 2 BYE\r\n\r\ni: body\r\n");
        assert_eq!(glimpse.start_line, b"BYE sip:a SIP/2.0");
        assert_eq!(glimpse.call_id, b"x@y");
        assert_eq!(glimpse.cseq, b"2 BYE");
        let glimpse = Glimpse::of(b"SIP/2.0 200 OK\nCSeq: 1 INVITE\nCall-ID: z\n\n");
        assert_eq!((glimpse.call_id, glimpse.cseq), (&b"z"[..], &b"1 INVITE"[..]));
        assert_eq!(Glimpse::of(b"").start_line, b"");
        assert_eq!(Glimpse::of(b"\xff\x00").call_id, b"");
    }

    fn rung(number: u64) -> Rung {
        Rung {
            at_unix_ms: number,
            heading: Heading::In,
            peer: None,
            start_line: String::new(),
            cseq: String::new(),
            bytes: 0,
        }
    }
}
