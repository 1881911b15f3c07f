//! What leaves as RTP: numbers, pace, target, whose audio it is and when (RFC 3550, 3551, 4733).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::Law;

use super::Findings;
use crate::audio::{self, Alphabet, Heard, Reader};

/// What is agreed about a call's RTP at this moment.
#[derive(Debug)]
pub struct Agreed<'a> {
    /// SIP Call-ID.
    pub call_id: &'a str,
    /// The answer is out.
    pub negotiated: bool,
    /// The call is over since then.
    pub ended_at: Option<Instant>,
    /// The bridge was told of a change a moment ago, before the answer is out.
    pub renegotiating: bool,
    /// Tandem may send.
    pub may_send: bool,
    /// Payload types in answers so far.
    pub formats: &'a [String],
    /// Addresses the caller named in SDP, and those RTP rightly came from.
    pub targets: &'a [SocketAddr],
    /// The caller's audio travels clean in both directions, so echoes are exact.
    pub clean: bool,
    /// Packets are changed on their way, so that even their order may lie.
    pub corrupt: bool,
}

/// Blocks whose time of leaving is remembered: ten seconds of them.
const PLACES_MAX: usize = 4000;

/// The egress clock may be trimmed by so many millionths to follow a real-time agent's.
const TRIM_PPM: u64 = 500;

/// Blocks that concealment may repeat: 160 ms of what was heard last, whenever that was said.
const CONCEALED_MAX: usize = 64;

/// The blocks heard last.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<u32>);

impl Recent {
    /// Notes a block; whether it is among those heard last, as when concealment says it again.
    pub fn note(&mut self, place: u32) -> bool {
        // Near in place or near in time: what was heard in part is concealed too.
        let last = self.0.back().copied().unwrap_or(place);
        let is_recent = last.saturating_sub(place) <= CONCEALED_MAX as u32 || self.0.contains(&place);
        if self.0.len() == CONCEALED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(place);
        is_recent
    }
}

/// The egress of one call.
#[derive(Debug)]
pub struct Egress {
    caller: u16,
    agent: u16,
    ssrc: Option<u32>,
    sequence: u16,
    timestamp: u32,
    samples: u32,
    last_at: Option<Instant>,
    origin: Option<(Instant, u32)>,
    digit_timestamp: Option<u32>,
    reader: Reader,
    law: Law,
    last_place: BTreeMap<u16, u32>,
    recent: BTreeMap<u16, Recent>,
    /// When each block of the agent's voice left, the last ones.
    places: VecDeque<(u32, Instant)>,
    interrupted: bool,
    /// How often an agent that echoes was asked to pause: so often its echo leaves something out.
    echo_pauses: u32,
    /// Packets were left out for a hold or a key at some time, so marks cannot be held against them.
    pub was_held: bool,
    floor: Option<u32>,
    silence_wanted_since: Option<Instant>,
    tone: Vec<i16>,
    is_tonal: bool,
    /// Packets sent.
    pub packets: u64,
    /// Payload octets of them.
    pub octets: u64,
    /// Milliseconds of packets that were not silence.
    pub sounding_ms: u64,
    /// Blocks of the agent's own voice that left.
    pub agent_blocks: u64,
}

impl Egress {
    /// For the call of `caller` and `agent`, whose agent speaks tones where `is_tonal`.
    pub fn new(caller: u16, agent: u16, is_tonal: bool) -> Self {
        Self {
            caller,
            agent,
            ssrc: None,
            sequence: 0,
            timestamp: 0,
            samples: 0,
            last_at: None,
            origin: None,
            digit_timestamp: None,
            reader: Reader::default(),
            law: Law::Mulaw,
            last_place: BTreeMap::new(),
            recent: BTreeMap::new(),
            places: VecDeque::new(),
            interrupted: false,
            echo_pauses: 0,
            was_held: false,
            floor: None,
            silence_wanted_since: None,
            tone: Vec::new(),
            is_tonal,
            packets: 0,
            octets: 0,
            sounding_ms: 0,
            agent_blocks: 0,
        }
    }

    /// Whose packets they are.
    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// The packet time of what leaves.
    pub fn packet_time(&self) -> Duration {
        Duration::from_micros(u64::from(self.samples.max(80)) * 125)
    }

    /// When the block at `place` of the agent's voice, or a later one, left.
    pub fn heard_at(&self, place: u32) -> Option<Instant> {
        self.places.iter().find(|(last, _)| *last >= place).map(|(_, at)| *at)
    }

    /// The agent flushed; nothing it said before `floor` may leave from now on.
    pub fn flushed(&mut self, now: Instant, floor: Option<u32>) {
        self.floor = floor.or(self.floor);
        // Echoes of the caller are flushed like all else.
        self.last_place.remove(&self.caller);
        self.silence_wanted_since = Some(now);
    }

    /// The agent, which echoes, was told to pause: what the caller says until it may go on never comes back.
    pub fn echo_paused(&mut self) {
        self.echo_pauses += 1;
    }

    /// The agent speaks again.
    pub fn agent_spoke(&mut self) {
        self.silence_wanted_since = None;
    }

    /// Media was negotiated anew.
    pub fn renegotiated(&mut self, may_send: bool) {
        self.interrupted = true;
        self.was_held |= !may_send;
    }

    /// Frames of the queue were lost with notice.
    pub fn overflowed(&mut self) {
        self.last_place.clear();
    }

    /// A packet left.
    pub fn packet(
        &mut self,
        now: Instant,
        alphabet: &Alphabet,
        to: SocketAddr,
        bytes: &[u8],
        agreed: &Agreed<'_>,
        findings: &mut Findings,
    ) {
        self.packets += 1;
        self.octets += bytes.len().saturating_sub(12) as u64;
        let call = agreed.call_id;
        if bytes.len() < 12 || bytes[0] != 0x80 {
            findings.note(
                "rtp-format",
                now,
                call,
                format!("{} bytes, first {:#x}", bytes.len(), bytes.first().unwrap_or(&0)),
            );
            return;
        }
        if !agreed.negotiated {
            findings.note("rtp-early", now, call, "RTP before the answer");
        }
        if agreed.ended_at.is_some_and(|ended| now > ended) {
            findings.note("rtp-late", now, call, "RTP after BYE");
        }
        if !agreed.may_send && !agreed.renegotiating {
            findings.note("rtp-late", now, call, "RTP while the caller asked for none");
        }
        if !agreed.targets.contains(&to) {
            findings.note("rtp-target", now, call, format!("RTP to {to}, agreed are {:?}", agreed.targets));
        }
        let payload_type = bytes[1] & 0x7f;
        let is_agreed = agreed.formats.iter().any(|format| *format == payload_type.to_string());
        if !is_agreed && !agreed.renegotiating {
            findings.note(
                "rtp-format",
                now,
                call,
                format!("payload type {payload_type} of {:?}", agreed.formats),
            );
        }
        self.numbers(now, bytes, payload_type, call, findings);
        match payload_type {
            0 => self.listen(now, alphabet, Law::Mulaw, &bytes[12..], agreed, findings),
            8 => self.listen(now, alphabet, Law::Alaw, &bytes[12..], agreed, findings),
            _ => {}
        }
    }

    fn numbers(&mut self, now: Instant, bytes: &[u8], payload_type: u8, call: &str, findings: &mut Findings) {
        let marker = bytes[1] & 0x80 != 0;
        let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
        let timestamp = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let ssrc = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let is_digit = !matches!(payload_type, 0 | 8);
        // Packets of a digit come at the packet time of the audio they stand for.
        let samples = if is_digit { self.samples.max(80) } else { bytes.len() as u32 - 12 };
        let Some(before) = self.ssrc.replace(ssrc) else {
            if !marker {
                findings.note("rtp-marker", now, call, "no marker on the first packet");
            }
            self.accept(now, sequence, timestamp, samples);
            self.origin = Some((now, timestamp));
            return;
        };
        if before != ssrc || sequence != self.sequence.wrapping_add(1) {
            let detail = format!("{ssrc:#x}/{sequence} follows {before:#x}/{}", self.sequence);
            findings.note("rtp-sequence", now, call, detail);
        }
        let elapsed = self.last_at.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let within_digit = is_digit && self.digit_timestamp == Some(timestamp);
        // RFC 4733 2.5.1.4: the three ends of a digit may follow each other at the packet time too.
        let nominal_ns = u64::from(self.samples.min(samples)) * 125_000;
        let trim_ns = nominal_ns * TRIM_PPM / 1_000_000;
        if elapsed < Duration::from_nanos(nominal_ns - trim_ns) {
            findings.note("rtp-pacing", now, call, format!("{elapsed:?} after the packet before"));
        }
        let is_interrupted = std::mem::take(&mut self.interrupted);
        if is_interrupted {
            self.last_place.clear();
        } else if !is_digit
            && self.digit_timestamp.is_none()
            && elapsed > Duration::from_nanos(nominal_ns + trim_ns)
        {
            findings.note("rtp-pacing", now, call, format!("only {elapsed:?} after the packet before"));
        }
        let progress = timestamp.wrapping_sub(self.timestamp);
        if !within_digit {
            let is_gap = elapsed > Duration::from_micros(u64::from(self.samples) * 125 + 1000);
            let expected = elapsed.as_micros() as u32 / 125;
            // While a digit is being sent its timestamp stands still; the audio's goes on beneath.
            let is_right = progress == self.samples
                || self.digit_timestamp.is_some()
                || (is_gap && progress.abs_diff(expected) <= 160);
            if !is_right {
                findings.note("rtp-timestamp", now, call, format!("+{progress} after {elapsed:?}"));
            }
        }
        self.digit_timestamp = is_digit.then_some(timestamp);
        if let (Some((origin, first)), false) = (self.origin, is_digit) {
            let clock = now.saturating_duration_since(origin).as_micros() as i64 / 125;
            let drift = i64::from(timestamp.wrapping_sub(first) as i32) - clock;
            if drift.abs() > 480 + clock * TRIM_PPM as i64 / 1_000_000 {
                findings.note("rtp-timestamp", now, call, format!("{drift} samples off the clock"));
            }
        }
        self.accept(now, sequence, timestamp, samples);
    }

    fn accept(&mut self, now: Instant, sequence: u16, timestamp: u32, samples: u32) {
        (self.sequence, self.timestamp, self.samples) = (sequence, timestamp, samples);
        self.last_at = Some(now);
    }

    fn listen(
        &mut self,
        now: Instant,
        alphabet: &Alphabet,
        law: Law,
        audio: &[u8],
        agreed: &Agreed<'_>,
        findings: &mut Findings,
    ) {
        let call = agreed.call_id;
        if law != self.law {
            (self.law, self.reader) = (law, Reader::default());
        }
        let silence = if law == Law::Mulaw { 0xff } else { 0xd5 };
        let sounding =
            audio.iter().filter(|byte| audio::linear(law, **byte).abs() > 400).count() * 8 > audio.len();
        if sounding {
            self.sounding_ms += audio.len() as u64 / 8;
        }
        if self.is_tonal {
            self.listen_to_tone(now, law, audio, sounding, call, findings);
            return;
        }
        let mut blocks: Vec<Heard> = Vec::new();
        if audio.iter().any(|byte| *byte != silence) {
            self.reader.read(alphabet, law, audio, |heard| blocks.push(heard));
        }
        for heard in blocks {
            self.block(now, heard, agreed, findings);
        }
    }

    fn block(&mut self, now: Instant, heard: Heard, agreed: &Agreed<'_>, findings: &mut Findings) {
        let call = agreed.call_id;
        if heard.voice != self.caller && heard.voice != self.agent {
            findings.note("cross-talk", now, call, format!("the caller hears voice {:#x}", heard.voice));
            return;
        }
        let is_agent = heard.voice == self.agent;
        if is_agent {
            self.agent_blocks += 1;
            if self.places.len() == PLACES_MAX {
                self.places.pop_front();
            }
            self.places.push_back((heard.place, now));
            if self.floor.is_some_and(|floor| heard.place < floor) {
                findings.note("flushed-audio", now, call, format!("block {} after the flush", heard.place));
            }
        }
        let last = self.last_place.get(&heard.voice).copied();
        if !is_agent && !heard.exact && heard.unread_before > 0 && last.is_some_and(|last| heard.place < last)
        {
            // Concealment fades and mixes what it heard: once in many million times that reads as a block nobody spoke.
            return;
        }
        let is_recent = self.recent.entry(heard.voice).or_default().note(heard.place);
        let last = self.last_place.insert(heard.voice, heard.place);
        let Some(last) = last else { return };
        let was_flushed = is_agent && self.floor.is_some_and(|floor| last < floor && heard.place >= floor);
        if heard.place == last + 1 || was_flushed {
            return;
        }
        if heard.place <= last {
            // Concealment of a loss may say the last frame again, where the caller's own voice comes back.
            let is_concealment = !agreed.clean && (agreed.corrupt || is_recent);
            if is_agent || !is_concealment {
                findings.note(
                    "audio-order",
                    now,
                    call,
                    format!("block {} of {:#x} after {last}", heard.place, heard.voice),
                );
            }
        } else if !is_agent && self.echo_pauses > 0 {
            self.echo_pauses -= 1;
        } else if is_agent || agreed.clean {
            findings.note(
                "audio-gap",
                now,
                call,
                format!("block {} of {:#x} after {last}", heard.place, heard.voice),
            );
        }
    }

    fn listen_to_tone(
        &mut self,
        now: Instant,
        law: Law,
        audio: &[u8],
        sounding: bool,
        call: &str,
        findings: &mut Findings,
    ) {
        if sounding && self.silence_wanted_since.is_some_and(|since| now > since + Duration::from_millis(20))
        {
            findings.note("flushed-audio", now, call, "sound after the flush");
        }
        if !sounding {
            self.tone.clear();
            return;
        }
        self.tone.extend(audio.iter().map(|byte| audio::linear(law, *byte) as i16));
        if self.tone.len() < 1600 {
            return;
        }
        // The caller's own coded voice, echoed through resamplers, is no tone; another's tone is cross-talk.
        if let Some(voice) = audio::strongest_tone(&self.tone[320..1280], 8000)
            && voice != self.agent % 64
            && voice != self.caller % 64
        {
            findings.note("cross-talk", now, call, format!("the caller hears the tone of {voice}"));
        }
        self.tone.clear();
    }
}
