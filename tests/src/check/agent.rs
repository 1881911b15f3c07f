//! What an agent is told: start, numbering, audio, marks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_media::Law;

use super::Findings;
use super::rtp::{Egress, Recent};
use crate::agent::plan::Speech;
use crate::agent::wire::{Meaning, Said, law_of};
use crate::audio::{Alphabet, Heard, Reader};

/// A mark the agent set.
#[derive(Debug)]
struct Mark {
    name: String,
    set_at: Instant,
    /// The last block of audio before it, if there was any since the last flush.
    after: Option<u32>,
    /// Milliseconds of audio before it since the stream's start.
    spoken_ms: u64,
    flushed_at: Option<Instant>,
}

/// The agent's side of one call.
#[derive(Debug)]
pub struct Ingress {
    speech: Speech,
    caller: u16,
    started: bool,
    said_before: bool,
    stopped: bool,
    law: Option<Law>,
    reader: Reader,
    last_place: Option<u32>,
    recent: Recent,
    numbers: Option<(u64, u64, u64)>,
    sequence: u64,
    first_audio_at: Option<Instant>,
    /// Milliseconds of caller audio told.
    pub audio_ms: u64,
    /// Blocks of the caller's voice told.
    pub blocks: u64,
    /// Keys told.
    pub digits: String,
    /// Marks reported, in order.
    pub marks_reported: Vec<String>,
    /// Times the agent was asked to stop sending.
    pub xoffs: u32,
    marks: VecDeque<Mark>,
    forgotten: Vec<String>,
    spoken: Option<u32>,
    spoken_ms: u64,
    spoken_since_flush: bool,
    /// Some of its audio has no places, so its end cannot be told.
    is_unplaced: bool,
    is_echo: bool,
    paused_for_good: bool,
}

/// What is agreed about the caller's audio.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// SIP Call-ID.
    pub call_id: &'a str,
    /// The caller's audio comes whole and unchanged.
    pub clean: bool,
    /// Packets are changed on their way, so that even their order may lie.
    pub corrupt: bool,
    /// The law the caller speaks.
    pub law: Option<Law>,
    /// All the caller said since the answer is to be told.
    pub from_the_first: bool,
}

impl Ingress {
    /// For an agent of this speech, hearing this caller.
    pub fn new(speech: Speech, caller: u16) -> Self {
        Self {
            speech,
            caller,
            started: false,
            said_before: false,
            stopped: false,
            law: None,
            reader: Reader::default(),
            last_place: None,
            recent: Recent::default(),
            numbers: None,
            sequence: 0,
            first_audio_at: None,
            audio_ms: 0,
            blocks: 0,
            digits: String::new(),
            marks_reported: Vec::new(),
            xoffs: 0,
            marks: VecDeque::new(),
            forgotten: Vec::new(),
            spoken: None,
            spoken_ms: 0,
            spoken_since_flush: false,
            is_unplaced: false,
            is_echo: false,
            paused_for_good: false,
        }
    }

    /// Marks set and neither reported nor dropped.
    pub fn marks_pending(&self) -> usize {
        self.marks.len()
    }

    /// Tandem told the agent something.
    pub fn said(
        &mut self,
        now: Instant,
        said: &Said,
        alphabet: &Alphabet,
        expected: Expected<'_>,
        egress: &Egress,
        findings: &mut Findings,
    ) {
        let call = expected.call_id;
        if self.stopped {
            findings.note("agent-form", now, call, format!("{said:?} after stop"));
        }
        self.check_start(now, said, call, findings);
        match said {
            Said::Coded { audio, numbers } => {
                if let Some(numbers) = numbers {
                    self.check_numbers(now, *numbers, call, findings);
                }
                if audio.len() != 160 {
                    findings.note(
                        "agent-form",
                        now,
                        call,
                        format!("{} bytes of audio in a message", audio.len()),
                    );
                }
                self.first_audio_at.get_or_insert(now);
                self.audio_ms += audio.len() as u64 / 8;
                self.listen(now, audio, alphabet, expected, findings);
            }
            Said::Linear(samples) => {
                if samples.len() != 320 {
                    findings.note("agent-form", now, call, format!("{} samples in a message", samples.len()));
                }
                self.first_audio_at.get_or_insert(now);
                self.audio_ms += samples.len() as u64 / 16;
            }
            Said::Mark { name, cleared } => self.check_mark(now, name, *cleared, egress, call, findings),
            Said::Digit(digit) => self.digits.push(*digit),
            Said::Xoff => self.xoffs += 1,
            Said::Stop => self.stopped = true,
            Said::Unknown(text) => findings.note("agent-form", now, call, text.clone()),
            Said::Connected
            | Said::Start { .. }
            | Said::BufferingCompleted(_)
            | Said::Xon
            | Said::Drained
            | Said::Other(_) => {}
        }
        if self.speech == Speech::Twilio && !matches!(said, Said::Connected | Said::Coded { .. }) {
            self.sequence += 1;
        }
    }

    /// The agent's frame reached the bridge.
    pub fn meant(&mut self, now: Instant, meaning: &Meaning, egress: &mut Egress) {
        match meaning {
            Meaning::Audio { millis, last_place, is_echo } => {
                self.is_echo |= is_echo;
                self.spoken = last_place.or(self.spoken);
                self.spoken_ms += u64::from(*millis);
                self.spoken_since_flush |= last_place.is_some();
                self.is_unplaced |= last_place.is_none();
                egress.agent_spoke();
            }
            Meaning::Mark(name) => self.marks.push_back(Mark {
                name: name.clone(),
                set_at: now,
                after: self.spoken.filter(|_| self.spoken_since_flush),
                spoken_ms: self.spoken_ms,
                flushed_at: None,
            }),
            Meaning::Flush => {
                egress.flushed(now, self.spoken.map(|place| place + 1));
                self.spoken_since_flush = false;
                if matches!(self.speech, Speech::AsteriskPlain | Speech::AsteriskJson) {
                    self.forgotten.extend(self.marks.drain(..).map(|mark| mark.name));
                }
                for mark in &mut self.marks {
                    mark.flushed_at.get_or_insert(now);
                }
            }
            Meaning::HangUp | Meaning::Other => {}
        }
    }

    /// The agent paused its audio, so marks may wait.
    pub fn paused(&mut self) {
        self.paused_for_good = true;
    }

    /// The stream is over: whether the audio kept pace with the clock until `now`.
    pub fn finish(&self, now: Instant, call: &str, findings: &mut Findings) {
        let Some(first) = self.first_audio_at else { return };
        let elapsed = now.saturating_duration_since(first).as_millis() as i64;
        let behind = elapsed - self.audio_ms as i64;
        if behind.abs() > 160 {
            findings.note(
                "audio-gap",
                now,
                call,
                format!("{} ms of audio told in {elapsed} ms", self.audio_ms),
            );
        }
    }

    fn check_start(&mut self, now: Instant, said: &Said, call: &str, findings: &mut Findings) {
        match said {
            Said::Start { format, .. } => {
                if std::mem::replace(&mut self.started, true) {
                    findings.note("agent-start", now, call, "a second start");
                }
                if self.said_before {
                    findings.note("agent-start", now, call, "the start is not the first word");
                }
                self.law = law_of(format);
            }
            Said::Connected => {
                if self.started {
                    findings.note("agent-start", now, call, "connected after start");
                }
            }
            Said::Unknown(_) => {}
            other => {
                if !self.started && self.speech != Speech::Bolna {
                    findings.note("agent-start", now, call, format!("{other:?} before the start"));
                }
                self.said_before = true;
            }
        }
    }

    fn check_numbers(&mut self, now: Instant, numbers: (u64, u64, u64), call: &str, findings: &mut Findings) {
        self.sequence += 1;
        let (sequence, chunk, timestamp) = numbers;
        let right = match self.numbers {
            None => chunk == 1 && timestamp == 0,
            Some((_, last_chunk, last_timestamp)) => {
                chunk == last_chunk + 1 && timestamp == last_timestamp + 20
            }
        };
        if !right || sequence != self.sequence {
            let detail =
                format!("{numbers:?} follows {:?}, sequence {} expected", self.numbers, self.sequence);
            findings.note("agent-form", now, call, detail);
            self.sequence = sequence;
        }
        self.numbers = Some(numbers);
    }

    fn listen(
        &mut self,
        now: Instant,
        audio: &[u8],
        alphabet: &Alphabet,
        expected: Expected<'_>,
        findings: &mut Findings,
    ) {
        let Some(law) = self.law else { return };
        let mut blocks: Vec<Heard> = Vec::new();
        self.reader.read(alphabet, law, audio, |heard| blocks.push(heard));
        let call = expected.call_id;
        for heard in blocks {
            self.blocks += 1;
            if heard.voice != self.caller {
                findings.note("cross-talk", now, call, format!("the agent hears voice {:#x}", heard.voice));
                continue;
            }
            let is_recent = self.recent.note(heard.place);
            let last = self.last_place.replace(heard.place);
            let Some(last) = last else {
                if expected.clean && expected.from_the_first && heard.place != 0 {
                    let detail = format!("the first block the agent hears is {}", heard.place);
                    findings.note("first-word", now, call, detail);
                }
                continue;
            };
            let next = heard.place == last + 1;
            if expected.clean {
                if heard.place <= last {
                    findings.note(
                        "audio-order",
                        now,
                        call,
                        format!("the agent hears block {} after {last}", heard.place),
                    );
                } else if !next || heard.unread_before > 0 {
                    let detail = format!(
                        "the agent hears block {} after {last}, {} bytes between",
                        heard.place, heard.unread_before
                    );
                    findings.note("audio-gap", now, call, detail);
                } else if !heard.exact && expected.law == Some(law) {
                    findings.note(
                        "audio-gap",
                        now,
                        call,
                        format!("block {} was changed on its way", heard.place),
                    );
                }
            } else if heard.place <= last && !is_recent && !expected.corrupt {
                findings.note(
                    "audio-order",
                    now,
                    call,
                    format!("the agent hears block {} after {last}", heard.place),
                );
            }
        }
    }

    fn check_mark(
        &mut self,
        now: Instant,
        name: &str,
        cleared: bool,
        egress: &Egress,
        call: &str,
        findings: &mut Findings,
    ) {
        let tick = egress.packet_time();
        self.marks_reported.push(name.to_owned());
        if self.forgotten.iter().any(|forgotten| forgotten == name) {
            findings.note("mark", now, call, format!("{name} was dropped by a flush and is reported"));
            return;
        }
        if self.marks.front().is_none_or(|mark| mark.name != name) {
            let waiting: Vec<&str> = self.marks.iter().map(|mark| mark.name.as_str()).collect();
            findings.note("mark", now, call, format!("{name} is reported, {waiting:?} wait"));
            return;
        }
        let Some(mark) = self.marks.pop_front() else { return };
        if cleared != (mark.flushed_at.is_some() && self.speech == Speech::Bolna) {
            findings.note("mark", now, call, format!("{name} is reported as cleared={cleared}"));
        }
        if let Some(flushed_at) = mark.flushed_at {
            if now > flushed_at + tick * 2 {
                findings.note(
                    "mark",
                    now,
                    call,
                    format!("{name} was flushed and is reported {:?} later", now - flushed_at),
                );
            }
            return;
        }
        if egress.was_held {
            return;
        }
        let played_at = match mark.after {
            Some(place) if egress.heard_at(place).is_none() => {
                findings.note("mark", now, call, format!("{name} is reported before block {place} has left"));
                return;
            }
            Some(place) => egress.heard_at(place).map_or(mark.set_at, |at| at + tick),
            None => mark.set_at,
        };
        if self.speech == Speech::Bolna {
            if !self.is_echo
                && !egress.was_held
                && egress.sounding_ms + 60 < mark.spoken_ms.saturating_sub(self.lost_to_flush(mark.spoken_ms))
            {
                let detail =
                    format!("{name} is reported after {} of {} ms", egress.sounding_ms, mark.spoken_ms);
                findings.note("mark", now, call, detail);
            }
            return;
        }
        let due = played_at.max(mark.set_at);
        if mark.after.is_some() && now + TRIM < played_at {
            findings.note("mark", now, call, format!("{name} is reported {:?} early", played_at - now));
        }
        if now > due + tick + TRIM && !self.paused_for_good && !self.is_unplaced {
            findings.note("mark", now, call, format!("{name} is reported {:?} late", now - due));
        }
    }

    /// Once something was flushed, tones cannot be counted any more.
    fn lost_to_flush(&self, spoken_ms: u64) -> u64 {
        if self.spoken_since_flush && self.forgotten.is_empty() && self.marks_reported.len() < 2 {
            0
        } else {
            spoken_ms
        }
    }
}

/// What a trimmed clock may be off in a tick.
const TRIM: Duration = Duration::from_micros(50);
