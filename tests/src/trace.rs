//! What happened in a run: a hash over everything, and for each call the ladder that a failure prints.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Entries kept for one call: enough for its whole signalling and the last of its media.
const ENTRIES_MAX: usize = 220;

/// One line of a ladder.
#[derive(Debug, Clone)]
enum Line {
    /// A SIP message, whole.
    Sip { to_tandem: bool, bytes: Bytes },
    /// Anything else.
    Note(String),
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    hash: u64,
    lines: BTreeMap<String, VecDeque<(Duration, Line)>>,
    names: BTreeMap<String, String>,
}

impl Trace {
    /// An empty trace.
    pub fn new(start: Instant) -> Self {
        Self { start, hash: 0xcbf2_9ce4_8422_2325, lines: BTreeMap::new(), names: BTreeMap::new() }
    }

    /// The hash so far: FNV-1a over every event's time and bytes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds bytes to the hash alone.
    pub fn mix(&mut self, now: Instant, kind: u8, bytes: &[u8]) {
        let at = now.saturating_duration_since(self.start).as_nanos() as u64;
        self.eat(at);
        self.eat(u64::from(kind) | (bytes.len() as u64) << 8);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.eat(u64::from_le_bytes([
                word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
            ]));
        }
        for byte in words.remainder() {
            self.eat(u64::from(*byte));
        }
    }

    /// Names an identifier by which a call is known besides its Call-ID.
    pub fn alias(&mut self, other: String, call_id: &str) {
        self.names.insert(other, call_id.to_owned());
    }

    /// A SIP message passed Tandem's edge.
    pub fn sip(&mut self, now: Instant, call_id: &str, to_tandem: bool, bytes: &Bytes) {
        self.mix(now, u8::from(to_tandem), bytes);
        self.push(now, call_id, Line::Sip { to_tandem, bytes: bytes.clone() });
    }

    /// Something else worth a line.
    pub fn note(&mut self, now: Instant, call_id: &str, text: String) {
        self.mix(now, 9, text.as_bytes());
        self.push(now, call_id, Line::Note(text));
    }

    /// The calls that have a ladder.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        self.lines.keys().map(String::as_str)
    }

    /// The ladder of one call, with whole messages where `whole`.
    pub fn ladder(&self, call: &str, whole: bool) -> String {
        let call_id = self.names.get(call).map_or(call, String::as_str);
        let mut text = format!("  time        carrier        tandem        {call_id}\n");
        for (at, line) in self.lines.get(call_id).into_iter().flatten() {
            let _ = write!(text, "{:>10.4}  ", at.as_secs_f64());
            match line {
                Line::Note(note) => {
                    let _ = writeln!(text, "{:>28}  {note}", "");
                }
                Line::Sip { to_tandem, bytes } => {
                    let message = String::from_utf8_lossy(bytes);
                    let first = message.lines().next().unwrap_or("");
                    let cseq = message.lines().find(|line| line.starts_with("CSeq")).unwrap_or("");
                    let arrow = if *to_tandem { "------------->" } else { "<-------------" };
                    let _ = writeln!(text, "{arrow:>22}        {first}  ({cseq})");
                    if whole {
                        for line in message.lines() {
                            let _ = writeln!(text, "{:>44}{line}", "| ");
                        }
                    }
                }
            }
        }
        text
    }

    fn push(&mut self, now: Instant, call_id: &str, line: Line) {
        let lines = self.lines.entry(call_id.to_owned()).or_default();
        if lines.len() == ENTRIES_MAX {
            // The beginning tells how it came to be, the end how it went wrong.
            lines.remove(ENTRIES_MAX / 2);
        }
        lines.push_back((now.saturating_duration_since(self.start), line));
    }

    fn eat(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash ^= self.hash >> 32;
    }
}
