//! One agent's end of one call.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tandem_media::Law;

use super::plan::{AgentPlan, Mode, Speech, Turn};
use super::wire::{self, Frame, Meaning, Said};
use crate::audio::{Alphabet, Tone, Voice};
use crate::dice::Dice;

/// What an agent does to its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentDeed {
    /// Sends a frame.
    Send(Frame),
    /// Closes with this code.
    Close(u16),
    /// Breaks the connection.
    Drop,
    /// Reads nothing until then.
    StopReading(Instant),
}

/// The agent.
#[derive(Debug)]
pub struct ScriptedAgent {
    /// Its script.
    pub plan: AgentPlan,
    /// The identity its own audio carries.
    pub voice: u16,
    alphabet: Rc<Alphabet>,
    dice: Dice,
    stream: String,
    law: Option<Law>,
    coded: Voice,
    tone: Tone,
    todo: Vec<(Instant, Todo)>,
    marks: u32,
    pieces: u32,
    paused_by_xoff: bool,
    started: bool,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Todo {
    Turn(Turn),
    Piece,
    Burst,
    Flush,
}

/// The largest message an agent sends, in bytes of audio.
const MESSAGE_MAX: usize = 32_000;

impl ScriptedAgent {
    /// An agent whose connection has just been accepted.
    pub fn new(plan: AgentPlan, voice: u16, alphabet: Rc<Alphabet>, dice: Dice) -> Self {
        Self {
            plan,
            voice,
            alphabet,
            dice,
            stream: String::new(),
            law: None,
            coded: Voice::new(voice, Law::Mulaw),
            tone: Tone::new(voice, 24_000),
            todo: Vec::new(),
            marks: 0,
            pieces: 0,
            paused_by_xoff: false,
            started: false,
            gone: false,
        }
    }

    /// When it wants to be woken.
    pub fn wake(&self) -> Option<Instant> {
        self.todo.iter().map(|(at, _)| *at).min()
    }

    /// The connection is over.
    pub fn handle_closed(&mut self) {
        self.gone = true;
        self.todo.clear();
    }

    /// Hears what Tandem said.
    pub fn handle(&mut self, now: Instant, said: &Said, deeds: &mut Vec<AgentDeed>) {
        if self.gone {
            return;
        }
        match said {
            Said::Start { stream, format } => {
                self.stream.clone_from(stream);
                self.law = wire::law_of(format);
                if let Some(law) = self.law {
                    self.coded.set_law(law);
                }
                self.start(now);
            }
            // Bolna's stream may start without a word: its first audio is the start.
            Said::Linear(_) if !self.started => self.start(now),
            Said::Coded { audio, .. } if self.plan.mode == Mode::Echo && !self.paused_by_xoff => {
                let meaning =
                    Meaning::Audio { millis: audio.len() as u32 / 8, last_place: None, is_echo: true };
                deeds.push(AgentDeed::Send(wire::say_coded(self.plan.speech, &self.stream, audio, meaning)));
            }
            Said::Linear(samples) if self.plan.mode == Mode::Echo => {
                let meaning =
                    Meaning::Audio { millis: samples.len() as u32 / 16, last_place: None, is_echo: true };
                deeds.push(AgentDeed::Send(wire::say_linear(samples, 16_000, meaning)));
            }
            Said::Xoff => self.paused_by_xoff = true,
            Said::Xon => self.paused_by_xoff = false,
            Said::Mark { name, .. } if name.starts_with("burst") => {
                let pause = self.dice.millis(0, 300);
                self.todo.push((now + pause, Todo::Burst));
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, deeds: &mut Vec<AgentDeed>) {
        while let Some(position) = self.todo.iter().position(|(at, _)| *at <= now) {
            let (at, todo) = self.todo.remove(position);
            match todo {
                Todo::Turn(turn) => self.turn(now, turn, deeds),
                Todo::Piece => self.piece(at, deeds),
                Todo::Burst => self.burst(now, deeds),
                Todo::Flush => {
                    let name = self.next_mark("before");
                    deeds.push(AgentDeed::Send(wire::say_mark(self.plan.speech, &self.stream, &name)));
                    deeds.push(AgentDeed::Send(wire::say_flush(self.plan.speech, &self.stream)));
                    let name = self.next_mark("burst");
                    deeds.push(AgentDeed::Send(wire::say_mark(self.plan.speech, &self.stream, &name)));
                }
            }
        }
    }

    fn start(&mut self, now: Instant) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        for (after, turn) in &self.plan.turns {
            self.todo.push((now + *after, Todo::Turn(*turn)));
        }
        match self.plan.mode {
            Mode::Echo | Mode::Silent => {}
            Mode::RealTime { .. } => self.todo.push((now, Todo::Piece)),
            Mode::Burst { .. } | Mode::BargeIn { .. } => self.todo.push((now, Todo::Burst)),
        }
    }

    fn next_mark(&mut self, kind: &str) -> String {
        self.marks += 1;
        format!("{kind}-{}", self.marks)
    }

    fn piece(&mut self, at: Instant, deeds: &mut Vec<AgentDeed>) {
        let Mode::RealTime { piece_ms } = self.plan.mode else { return };
        self.say(piece_ms, deeds);
        self.pieces += 1;
        if self.pieces.is_multiple_of(10) {
            let name = self.next_mark("piece");
            deeds.push(AgentDeed::Send(wire::say_mark(self.plan.speech, &self.stream, &name)));
        }
        self.todo.push((at + Duration::from_millis(u64::from(piece_ms)), Todo::Piece));
    }

    fn burst(&mut self, now: Instant, deeds: &mut Vec<AgentDeed>) {
        let (length_ms, flush_after_ms) = match self.plan.mode {
            Mode::Burst { length_ms } => (length_ms, None),
            Mode::BargeIn { length_ms, flush_after_ms } => (length_ms, Some(flush_after_ms)),
            _ => return,
        };
        self.say(length_ms, deeds);
        match flush_after_ms {
            None => {
                let name = self.next_mark("burst");
                deeds.push(AgentDeed::Send(wire::say_mark(self.plan.speech, &self.stream, &name)));
            }
            Some(after) => self.todo.push((now + Duration::from_millis(u64::from(after)), Todo::Flush)),
        }
    }

    /// Says so many milliseconds of its own voice, in messages of bounded length.
    fn say(&mut self, millis: u32, deeds: &mut Vec<AgentDeed>) {
        if self.plan.speech == Speech::Bolna {
            let mut left = millis;
            while left > 0 {
                let part = left.min(160);
                let samples: Vec<i16> = (0..part * 24).map(|_| self.tone.sample()).collect();
                let meaning = Meaning::Audio { millis: part, last_place: None, is_echo: false };
                deeds.push(AgentDeed::Send(wire::say_linear(&samples, 24_000, meaning)));
                left -= part;
            }
            return;
        }
        let mut left = millis as usize * 8;
        while left > 0 {
            let part = left.min(MESSAGE_MAX);
            let mut audio = Vec::with_capacity(part);
            self.coded.speak(&self.alphabet, part, &mut audio);
            let last_place = Some(self.coded.place().wrapping_sub(1) & 0x00ff_ffff);
            let meaning = Meaning::Audio { millis: part as u32 / 8, last_place, is_echo: false };
            deeds.push(AgentDeed::Send(wire::say_coded(self.plan.speech, &self.stream, &audio, meaning)));
            left -= part;
        }
    }

    fn turn(&mut self, now: Instant, turn: Turn, deeds: &mut Vec<AgentDeed>) {
        let (speech, stream) = (self.plan.speech, self.stream.clone());
        match turn {
            Turn::Drop => deeds.push(AgentDeed::Drop),
            Turn::Close => deeds.push(AgentDeed::Close(1000)),
            Turn::HangUp => match wire::say_hang_up(speech) {
                Some(frame) => deeds.push(AgentDeed::Send(frame)),
                None => deeds.push(AgentDeed::Close(1000)),
            },
            Turn::Rubbish(count) => {
                for _ in 0..count {
                    let length = self.dice.below(90) as usize;
                    let bytes: Vec<u8> = (0..length).map(|_| 32 + self.dice.below(90) as u8).collect();
                    let kind = tandem_agent::FrameKind::Text;
                    deeds.push(AgentDeed::Send(Frame { kind, bytes, meaning: Meaning::Other }));
                }
            }
            Turn::Flood(seconds) => self.say(u32::from(seconds) * 1000, deeds),
            Turn::IdleFlush => {
                deeds.extend((0..3).map(|_| AgentDeed::Send(wire::say_flush(speech, &stream))));
            }
            Turn::IdleMark => {
                let name = self.next_mark("idle");
                deeds.push(AgentDeed::Send(wire::say_mark(speech, &stream, &name)));
            }
            Turn::StopReading(millis) => {
                deeds.push(AgentDeed::StopReading(now + Duration::from_millis(u64::from(millis))));
            }
            Turn::Wishes => deeds.extend(wire::say_wishes(speech).into_iter().map(AgentDeed::Send)),
            Turn::SendDigits => deeds.extend(wire::say_digits(speech).map(AgentDeed::Send)),
            Turn::Odd => deeds.extend(wire::say_odd(speech, &stream).into_iter().map(AgentDeed::Send)),
        }
    }
}
