//! Planted bugs: faults put between the product and the world, so that the checks can be seen to bite.
//!
//! Each acts at the boundary which the simulation holds anyway (a message dropped, changed or added as if the product
//! had done so); no product code knows of them. A simulator that finds no planted bug proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tandem_agent::FrameKind;
use tandem_call::CallId;

use crate::message::SipText;
use crate::swarm::STRANGER;

/// A bug that can be planted, and the invariants that must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// 200 to INVITE is sent once and never repeated.
    Answer200Once,
    /// An ACK is answered.
    AnswersAck,
    /// In-dialog requests forget the route set.
    ForgetsRouteSet,
    /// The To tag of the 200 is not that of the 180.
    ChangesToTag,
    /// A repeated final response has other bytes.
    ChangesRepeat,
    /// A repeated BYE is a new request with the next CSeq.
    RepeatsAsNew,
    /// Requests and final responses are repeated on streams too.
    RepeatsOnStreams,
    /// Repeats of 200 come 100 ms late.
    RepeatsLate,
    /// The answer has one m= line, whatever was offered.
    FewerSections,
    /// BYE goes to a target that is not the dialog's.
    WrongTarget,
    /// No BYE follows a 200 that was never acknowledged.
    NoByeWithoutAck,
    /// A stranger's BYE gets 200.
    ObeysStrangers,
    /// The answer names a codec that was not offered.
    ForeignFormat,
    /// A second, different final response follows the first.
    TwoFinals,
    /// Responses go to the port after the one they should.
    WrongPort,
    /// An RTP sequence number is used twice.
    RepeatsSequence,
    /// The SSRC changes in mid-stream.
    ChangesSsrc,
    /// The RTP timestamp stands still once.
    TimestampStalls,
    /// A caller hears another call for a frame.
    SwapsAudio,
    /// After a flush, a frame from before it leaves.
    ReplaysAfterFlush,
    /// Whoever sends RTP gets the audio.
    LatchesToStrangers,
    /// A last RTP packet leaves after the BYE.
    RtpAfterBye,
    /// A packet is sent twice as fast as it should, now and then.
    DoublePace,
    /// A frame of the caller is lost on the way to the agent.
    LosesAgentAudio,
    /// A frame of the caller is told to the agent twice.
    RepeatsAgentAudio,
    /// The agent of one call hears the caller of another for a frame.
    MixesAgentAudio,
    /// Marks are reported when they are set.
    EarlyMarks,
    /// Marks are reported 100 ms late.
    LateMarks,
    /// The start message is left out.
    NoStart,
    /// The record is lost.
    LosesRecord,
    /// The record comes twice.
    DoublesRecord,
    /// The record says that the call ended five seconds later than it did.
    LyingRecord,
    /// The port of a call that ended is given to the next at once.
    ReusesPort,
    /// The bridge is not closed.
    LeaksBridge,
    /// The engine's timers stop after a while.
    LosesTimers,
    /// Strangers to a number are told 486.
    WrongDecision,
    /// An error is logged.
    LogsError,
    /// The first frame of the caller never reaches the agent.
    LosesFirstWord,
    /// Where Tandem is to refresh the session it does not.
    NeverRefreshes,
    /// Reports say that one packet more was lost.
    LiesInReports,
}

impl Planted {
    /// Every planted bug with one invariant that must be among those that find it.
    pub const ALL: [(Self, &'static str); 40] = [
        (Self::Answer200Once, "retransmission-missing"),
        (Self::AnswersAck, "ack-answered"),
        (Self::ForgetsRouteSet, "route-set"),
        (Self::ChangesToTag, "to-tag"),
        (Self::ChangesRepeat, "repeat-differs"),
        (Self::RepeatsAsNew, "no-such-dialog"),
        (Self::RepeatsOnStreams, "reliable-retransmission"),
        (Self::RepeatsLate, "retransmission-timing"),
        (Self::FewerSections, "sdp-sections"),
        (Self::WrongTarget, "remote-target"),
        (Self::NoByeWithoutAck, "unacked-without-bye"),
        (Self::ObeysStrangers, "stranger-obeyed"),
        (Self::ForeignFormat, "sdp-formats"),
        (Self::TwoFinals, "two-finals"),
        (Self::WrongPort, "response-route"),
        (Self::RepeatsSequence, "rtp-sequence"),
        (Self::ChangesSsrc, "rtp-sequence"),
        (Self::TimestampStalls, "rtp-timestamp"),
        (Self::SwapsAudio, "cross-talk"),
        (Self::ReplaysAfterFlush, "flushed-audio"),
        (Self::LatchesToStrangers, "rtp-target"),
        (Self::RtpAfterBye, "rtp-late"),
        (Self::DoublePace, "rtp-pacing"),
        (Self::LosesAgentAudio, "audio-gap"),
        (Self::RepeatsAgentAudio, "audio-order"),
        (Self::MixesAgentAudio, "cross-talk"),
        (Self::EarlyMarks, "mark"),
        (Self::LateMarks, "mark"),
        (Self::NoStart, "agent-start"),
        (Self::LosesRecord, "record"),
        (Self::DoublesRecord, "record"),
        (Self::LyingRecord, "record"),
        (Self::ReusesPort, "stuck"),
        (Self::LeaksBridge, "stuck"),
        (Self::LosesTimers, "retransmission-missing"),
        (Self::WrongDecision, "decision"),
        (Self::LogsError, "error-log"),
        (Self::LosesFirstWord, "first-word"),
        (Self::NeverRefreshes, "session-timer"),
        (Self::LiesInReports, "rtcp"),
    ];
}

/// A message as the product would have sent it, changed or added.
#[derive(Debug, Clone)]
pub struct Altered {
    /// The bytes.
    pub payload: Bytes,
    /// How much later it leaves.
    pub delay: Duration,
    /// The remote port is shifted by this.
    pub port_shift: u16,
}

/// An agent frame, changed or added.
#[derive(Debug, Clone)]
pub struct AlteredFrame {
    /// Kind.
    pub kind: FrameKind,
    /// Bytes.
    pub bytes: Vec<u8>,
    /// How much later it leaves.
    pub delay: Duration,
}

/// The planted bug at work, if there is one.
#[derive(Debug, Default)]
pub struct Sabotage {
    planted: Option<Planted>,
    seen: BTreeSet<Vec<u8>>,
    unacked: BTreeSet<String>,
    packets: u64,
    frames: u64,
    last_rtp: Option<(CallId, Vec<u8>)>,
    last_frame: Option<(CallId, Vec<u8>)>,
    before_flush: BTreeMap<CallId, Vec<u8>>,
    flushed: BTreeMap<CallId, u32>,
    stranger: Option<SocketAddr>,
    spoken_to: BTreeSet<CallId>,
}

fn edit(payload: &Bytes, change: impl Fn(&str) -> String) -> Bytes {
    Bytes::from(change(&String::from_utf8_lossy(payload)))
}

fn without_lines(text: &str, prefix: &str) -> String {
    text.split_inclusive("\r\n").filter(|line| !line.starts_with(prefix)).collect()
}

/// Replaces the body and makes Content-Length right.
fn with_body(text: &str, change: impl Fn(&str) -> String) -> String {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return text.to_owned() };
    let body = change(body);
    let head: Vec<String> = head
        .split("\r\n")
        .map(|line| match line.to_ascii_lowercase().starts_with("content-length") {
            true => format!("Content-Length: {}", body.len()),
            false => line.to_owned(),
        })
        .collect();
    format!("{}\r\n\r\n{body}", head.join("\r\n"))
}

impl Sabotage {
    /// With a planted bug, or none.
    pub fn new(planted: Option<Planted>) -> Self {
        Self { planted, ..Self::default() }
    }

    /// Which one.
    pub fn planted(&self) -> Option<Planted> {
        self.planted
    }

    /// A SIP message that the product sends: what leaves instead.
    pub fn transmit(&mut self, payload: Bytes, reliable: bool) -> Vec<Altered> {
        let same = |payload: Bytes| Altered { payload, delay: Duration::ZERO, port_shift: 0 };
        let Some(planted) = self.planted else { return vec![same(payload)] };
        let Some(text) = SipText::parse(&payload) else { return vec![same(payload)] };
        let (cseq, method) = text.cseq();
        let is_response = text.method().is_empty();
        let is_200_invite = is_response && text.status == 200 && method == "INVITE";
        let is_repeat = !self.seen.insert(payload.to_vec());
        match planted {
            Planted::Answer200Once if is_200_invite && is_repeat => vec![],
            Planted::ForgetsRouteSet if !is_response => {
                vec![same(edit(&payload, |text| without_lines(text, "Route:")))]
            }
            Planted::ChangesToTag if is_200_invite => {
                let tag = format!("tag={}", text.to_tag());
                vec![same(edit(&payload, |text| text.replace(&tag, &format!("{tag}x"))))]
            }
            Planted::ChangesRepeat if is_response && is_repeat && text.status >= 200 => {
                vec![same(edit(&payload, |text| text.replacen("\r\n\r\n", "\r\nX-Again: 1\r\n\r\n", 1)))]
            }
            Planted::RepeatsAsNew if !is_response && is_repeat => {
                let branch = text.transaction().0.to_owned();
                let (old, new) = (format!("CSeq: {cseq} "), format!("CSeq: {} ", cseq + 1));
                vec![same(edit(&payload, |text| {
                    text.replace(&branch, &format!("{branch}n")).replace(&old, &new)
                }))]
            }
            Planted::RepeatsOnStreams if reliable && !is_response => {
                let again = Altered { delay: Duration::from_millis(500), ..same(payload.clone()) };
                vec![same(payload), again]
            }
            Planted::RepeatsLate if is_200_invite && is_repeat => {
                vec![Altered { delay: Duration::from_millis(100), ..same(payload) }]
            }
            Planted::FewerSections if is_200_invite => vec![same(edit(&payload, |text| {
                with_body(text, |body| {
                    let second = body.match_indices("m=").nth(1).map_or(body.len(), |(at, _)| at);
                    body[..second].to_owned()
                })
            }))],
            Planted::WrongTarget if text.method() == "BYE" => {
                let uri = text.uri().to_owned();
                vec![same(edit(&payload, |text| text.replacen(&uri, "sip:nobody@198.51.100.200", 1)))]
            }
            Planted::NoByeWithoutAck if text.method() == "BYE" && self.unacked.contains(text.call_id()) => {
                vec![]
            }
            Planted::NoByeWithoutAck if is_200_invite && !is_repeat => {
                self.unacked.insert(text.call_id().to_owned());
                vec![same(payload)]
            }
            Planted::ForeignFormat if is_200_invite => vec![same(edit(&payload, |text| {
                with_body(text, |body| body.replacen("RTP/AVP ", "RTP/AVP 18 ", 1))
            }))],
            Planted::TwoFinals if is_200_invite && !is_repeat => {
                let other = edit(&payload, |text| text.replacen("SIP/2.0 200", "SIP/2.0 486", 1));
                vec![same(payload), Altered { delay: Duration::from_millis(30), ..same(other) }]
            }
            Planted::WrongPort if is_response && !reliable => {
                vec![Altered { port_shift: 1, ..same(payload) }]
            }
            Planted::WrongDecision
                if is_response && matches!(text.status, 403 | 404) && method == "INVITE" =>
            {
                let from = format!("SIP/2.0 {}", text.status);
                vec![same(edit(&payload, |text| text.replacen(&from, "SIP/2.0 486", 1)))]
            }
            Planted::NeverRefreshes if matches!(text.method(), "INVITE" | "UPDATE") => vec![],
            Planted::LogsError if is_200_invite => {
                tracing::error!("planted");
                vec![same(payload)]
            }
            _ => vec![same(payload)],
        }
    }

    /// A SIP message reaches the product: what leaves besides.
    pub fn arrive(&mut self, text: &SipText, trusted: bool) -> Option<Bytes> {
        let answer = |to_tag: &str| {
            let mut lines = String::from("SIP/2.0 200 OK\r\n");
            for via in text.values("via") {
                lines.push_str(&format!("Via: {via}\r\n"));
            }
            for (name, key) in [("From", "from"), ("To", "to"), ("Call-ID", "call-id"), ("CSeq", "cseq")] {
                lines.push_str(&format!(
                    "{name}: {}{}\r\n",
                    text.header(key).unwrap_or(""),
                    if key == "to" { to_tag } else { "" }
                ));
            }
            lines.push_str("Content-Length: 0\r\n\r\n");
            Bytes::from(lines)
        };
        match (self.planted?, text.method()) {
            (Planted::NoByeWithoutAck, "ACK") => {
                self.unacked.remove(text.call_id());
                None
            }
            (Planted::AnswersAck, "ACK") => Some(answer("")),
            (Planted::ObeysStrangers, "BYE") if !trusted => Some(answer("")),
            _ => None,
        }
    }

    /// RTP reaches the product.
    pub fn rtp_arrives(&mut self, source: SocketAddr) {
        if source.ip() == STRANGER.ip() {
            self.stranger = Some(source);
        }
    }

    /// The agent flushed.
    pub fn flushed(&mut self, call: CallId) {
        self.flushed.insert(call, 3);
    }

    /// An RTP packet that the product sends: how many times it leaves, and changed how.
    pub fn rtp(&mut self, call: CallId, to: &mut SocketAddr, bytes: &mut [u8]) -> usize {
        let Some(planted) = self.planted else { return 1 };
        self.packets += 1;
        if bytes.len() < 172 {
            return 1;
        }
        let is_hundredth = self.packets.is_multiple_of(97);
        match planted {
            Planted::RepeatsSequence if is_hundredth => {
                let sequence = u16::from_be_bytes([bytes[2], bytes[3]]).wrapping_sub(1).to_be_bytes();
                bytes[2..4].copy_from_slice(&sequence);
            }
            Planted::ChangesSsrc if self.packets > 150 => bytes[8] ^= 0x40,
            Planted::TimestampStalls if is_hundredth => {
                let timestamp =
                    u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]).wrapping_sub(160);
                bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
            }
            Planted::SwapsAudio => {
                let own = bytes[12..].to_vec();
                if let Some((other, audio)) = self.last_rtp.replace((call, own))
                    && other != call
                    && audio.len() == bytes.len() - 12
                    && self.packets.is_multiple_of(7)
                {
                    bytes[12..].copy_from_slice(&audio);
                }
            }
            Planted::ReplaysAfterFlush => match self.flushed.get_mut(&call) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    if let Some(before) =
                        self.before_flush.get(&call).filter(|before| before.len() == bytes.len() - 12)
                    {
                        bytes[12..].copy_from_slice(before);
                    }
                }
                _ => {
                    if bytes[12..].iter().any(|byte| !matches!(byte, 0xff | 0xd5)) {
                        self.before_flush.insert(call, bytes[12..].to_vec());
                    }
                }
            },
            Planted::LatchesToStrangers => *to = self.stranger.unwrap_or(*to),
            Planted::DoublePace if is_hundredth => return 2,
            _ => {}
        }
        1
    }

    /// A report that the product sends: what leaves instead.
    pub fn rtcp(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        // The last byte of the cumulative loss, in a sender report with a block.
        if self.planted == Some(Planted::LiesInReports) && bytes.starts_with(&[0x81, 200]) {
            bytes[35] = bytes[35].wrapping_add(1);
        }
        bytes
    }

    /// A frame that the product sends to an agent: what leaves instead.
    pub fn frame(
        &mut self,
        call: CallId,
        kind: FrameKind,
        bytes: Vec<u8>,
        droppable: bool,
    ) -> Vec<AlteredFrame> {
        let same = |bytes: Vec<u8>| AlteredFrame { kind, bytes, delay: Duration::ZERO };
        let Some(planted) = self.planted else { return vec![same(bytes)] };
        self.frames += u64::from(droppable);
        let is_hundredth = droppable && self.frames.is_multiple_of(97);
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        match planted {
            Planted::LosesFirstWord if droppable && self.spoken_to.insert(call) => vec![],
            Planted::LosesAgentAudio if is_hundredth => vec![],
            Planted::RepeatsAgentAudio if is_hundredth => vec![same(bytes.clone()), same(bytes)],
            Planted::MixesAgentAudio if droppable && kind == FrameKind::Binary => {
                let before = self.last_frame.replace((call, bytes.clone()));
                match before {
                    Some((other, audio)) if other != call && self.frames.is_multiple_of(5) => {
                        vec![same(audio)]
                    }
                    _ => vec![same(bytes)],
                }
            }
            Planted::LateMarks if kind == FrameKind::Text && is_mark(&text()) => {
                vec![AlteredFrame { delay: Duration::from_millis(100), ..same(bytes) }]
            }
            Planted::EarlyMarks if kind == FrameKind::Text && is_mark(&text()) => vec![],
            Planted::NoStart if kind == FrameKind::Text && is_start(&text()) => vec![],
            _ => vec![same(bytes)],
        }
    }

    /// Whether a record leaves, how often, and how many milliseconds are added to its end.
    pub fn record(&self) -> (usize, u64) {
        match self.planted {
            Some(Planted::LosesRecord) => (0, 0),
            Some(Planted::DoublesRecord) => (2, 0),
            Some(Planted::LyingRecord) => (1, 5000),
            _ => (1, 0),
        }
    }

    /// What a mark is repeated for as soon as it is set, under [`Planted::EarlyMarks`].
    pub fn is_early(&self) -> bool {
        self.planted == Some(Planted::EarlyMarks)
    }
}

fn is_mark(text: &str) -> bool {
    text.contains("MARK_PROCESSED") || text.contains("markPlayed") || text.contains("\"mark\"")
}

fn is_start(text: &str) -> bool {
    text.starts_with("MEDIA_START")
        || text.contains("\"MEDIA_START\"")
        || text.contains("\"event\":\"start\"")
}
