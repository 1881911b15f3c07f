//! What the agent says and asks for: its commands applied to the egress queue, and what it is to be told of it.
//!
//! Marks and completions go through the queue by number; their names wait here in the same order. Commands that
//! concern the call (hang-up, transfer, hold) leave as events. No sockets, no RTP, no clock of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_agent::{
    AgentCommand, AgentEvent, AudioFormat, Dialect, DialectError, FlushRule, FrameKind, HeardCause,
    MAX_MESSAGE_BYTES, MediaDirection, QueueStatus, Watermarks,
};
use tandem_media::Coding;
use tandem_media::codec::TICKS_PER_MS;
use tandem_media::playout::{Cause, Fired, FlushPolicy, Heard, MarkId, MarkerKind, Playout, TickResult};

use super::clock::{Pace, Pacing};
use super::convert::FromAgent;
use super::plan::{BridgeEvent, BridgeLimits};

/// A frame in chan_websocket's counting.
const FRAME_MS: u64 = 20;

/// Messages and events that wait to be taken; both are taken after every input, so only a driver that fails to
/// meets the bound.
const WAITING_MAX: usize = 16_384;

/// Audio before a paced agent's speech starts, at first; late audio raises it up to the plan's `prebuffer`.
const MARGIN_START: Duration = Duration::from_millis(20);
const MARGIN_STEP: Duration = Duration::from_millis(20);

/// Audio that comes this soon after the queue ran dry was meant to be in time.
const LATE: Duration = Duration::from_millis(60);

/// How long speech may wait, in all, while digits are sent in its place: more than a card number takes. It is caught up
/// with in the silences of an agent that never stops sending; what comes beyond is let go, and counted.
const DIGITS_WAIT_MAX: Duration = Duration::from_secs(5);

/// More than this at once is a burst and need not be waited with.
const BURST_MS: u64 = 60;

/// Something the agent is to be told, with its strings owned.
#[derive(Debug)]
pub(super) enum Notice {
    Digit { digit: char, duration_ms: u32 },
    MarkPlayed { name: Box<str>, cleared: bool },
    Completed { id: Option<Box<str>> },
    QueueDrained,
    PlayoutStarted,
    PlayoutDone,
    Flushed { played_ms: u64 },
    SpeechStarted { at_ms: u64 },
    SpeechStopped { at_ms: u64 },
    BargeIn { heard: Heard, is_cleared: bool },
    Heard { cause: HeardCause, name: Option<Box<str>>, heard: Heard },
    Xoff,
    Xon,
    Status(QueueStatus),
    Error(DialectError),
    Refused(&'static str),
    TransferFailed(Box<str>),
    Held(bool),
    Stop,
}

/// What the caller of [`Speech::apply`] has to do beyond the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    HangUp,
    /// When what is queued has been played.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Nothing to play, or waiting for enough of it.
    Waiting,
    Playing,
}

/// The agent's voice.
#[derive(Debug)]
pub(super) struct Speech {
    pub(super) queue: Playout,
    converter: FromAgent,
    flush_rule: FlushRule,
    watermarks: Option<Watermarks>,
    /// Whether the agent is told what was heard with each mark, clear and end.
    tells_heard: bool,
    limits: BridgeLimits,
    /// Names of the marks and completions in the queue, in its order.
    names: VecDeque<(MarkId, Option<Box<str>>)>,
    next_mark: u64,
    pub(super) notices: VecDeque<Notice>,
    pub(super) events: VecDeque<BridgeEvent>,
    pub(super) digits: VecDeque<char>,
    pub(super) wish: Option<Wish>,
    pub(super) direction: MediaDirection,
    pub(super) lost_notices: u64,
    is_xoff: bool,
    is_buffering: bool,
    is_ended: bool,
    /// The caller talks to somebody else: nothing that the agent says is heard.
    pub(super) is_unheard: bool,
    flow: Flow,
    /// Arrival of the first audio that waits to be played.
    waiting_since: Option<Instant>,
    margin: Duration,
    /// When the queue last ran dry in mid-speech.
    dry_at: Option<Instant>,
    pacing: Pacing,
    pushed_bytes: u64,
    played_bytes: u64,
    /// By how much speech is late because it waited for digits, and whether it has waited as long as it may.
    waited_bytes: usize,
    is_let_go: bool,
    is_skip_due: bool,
    pub(super) flushes: u64,
    pub(super) barge_ins: u64,
    pub(super) marks_played: u64,
    pub(super) overflow_bytes: u64,
}

impl Speech {
    pub(super) fn new(coding: Coding, dialect: &Dialect, tells_heard: bool, limits: BridgeLimits) -> Self {
        Self {
            queue: queue_of(coding, limits.queue),
            converter: FromAgent::new(),
            flush_rule: dialect.flush_rule(),
            watermarks: dialect.watermarks(),
            tells_heard,
            limits,
            names: VecDeque::new(),
            next_mark: 1,
            notices: VecDeque::new(),
            events: VecDeque::new(),
            digits: VecDeque::new(),
            wish: None,
            direction: MediaDirection::Both,
            lost_notices: 0,
            is_xoff: false,
            is_buffering: false,
            is_ended: false,
            is_unheard: false,
            flow: Flow::Waiting,
            waiting_since: None,
            margin: MARGIN_START.min(limits.prebuffer),
            dry_at: None,
            pacing: Pacing::default(),
            pushed_bytes: 0,
            played_bytes: 0,
            waited_bytes: 0,
            is_let_go: false,
            is_skip_due: false,
            flushes: 0,
            barge_ins: 0,
            marks_played: 0,
            overflow_bytes: 0,
        }
    }

    /// Queues audio in another form from here on, if there has been none yet.
    pub(super) fn set_coding(&mut self, coding: Coding) {
        if self.queue.counters().pushed_bytes == 0 && self.queue.coding() != coding && self.queue.is_drained()
        {
            self.queue = queue_of(coding, self.limits.queue);
        }
    }

    /// Milliseconds of so many bytes of the queue.
    pub(super) fn ms_of(&self, bytes: u64) -> u64 {
        bytes / self.queue.coding().bytes_per_ms() as u64
    }

    fn bytes_of(&self, audio: Duration) -> usize {
        bytes_of(self.queue.coding(), audio)
    }

    /// Ticks of 8 kHz, by which the agent's pace is counted whatever the queue's form.
    fn ticks_of(&self, bytes: u64) -> u64 {
        bytes * TICKS_PER_MS as u64 / self.queue.coding().bytes_per_ms() as u64
    }

    /// Reads one message of the agent and does what it says.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        dialect: &mut Dialect,
        kind: FrameKind,
        bytes: &[u8],
    ) -> Result<(), DialectError> {
        let mut outcome = Ok(());
        dialect.decode(kind, bytes, &mut |command| {
            if let Err(error) = self.apply(now, command) {
                outcome = Err(error);
            }
        })?;
        outcome
    }

    /// Fills the next packet: audio if there is enough of it, else silence. Returns the bytes of audio in it.
    pub(super) fn tick(&mut self, due: Instant, frame: &mut [u8]) -> usize {
        if !self.is_ready(due) {
            self.queue.hold_tick(frame);
            self.collect_fired();
            return 0;
        }
        self.catch_up(frame.len());
        let result = self.queue.tick(frame);
        self.collect_fired();
        self.check_watermarks();
        match result {
            TickResult::Audio { bytes } => {
                if self.flow == Flow::Waiting {
                    self.flow = Flow::Playing;
                    self.notify(Notice::PlayoutStarted);
                }
                self.waiting_since = None;
                self.played_bytes += bytes as u64;
                bytes
            }
            TickResult::Silence => {
                if self.queue.is_empty() {
                    self.waited_bytes = 0;
                }
                if self.flow == Flow::Playing && self.queue.is_empty() {
                    self.flow = Flow::Waiting;
                    self.dry_at = Some(due);
                    self.pacing.reset();
                    self.notify(Notice::PlayoutDone);
                }
                0
            }
        }
    }

    /// A tick whose packet carries a digit: what is queued waits for the next, up to the bound, so that nothing of it is
    /// lost; marks whose audio has left are told.
    pub(super) fn wait_tick(&mut self, frame: &mut [u8]) {
        let may_wait = self.waited_bytes + frame.len() <= self.bytes_of(DIGITS_WAIT_MAX);
        if may_wait || self.queue.is_paused() {
            self.queue.hold_tick(frame);
            self.waited_bytes +=
                if self.queue.is_empty() || self.queue.is_paused() { 0 } else { frame.len() };
        } else if let TickResult::Audio { bytes } = self.queue.tick(frame) {
            self.played_bytes += bytes as u64;
            self.overflow_bytes += bytes as u64;
            if !std::mem::replace(&mut self.is_let_go, true) {
                let dropped_ms = u32::try_from(self.ms_of(bytes as u64)).unwrap_or(u32::MAX);
                self.report(BridgeEvent::QueueOverflow { dropped_ms });
            }
        }
        self.collect_fired();
    }

    /// What the tick due at `due`, which carried `bytes` of audio, tells of the agent's pace.
    pub(super) fn pace(&mut self, due: Instant, bytes: usize) -> Pace {
        let (position, ticks) = (self.ticks_of(self.played_bytes), self.ticks_of(bytes as u64));
        self.pacing.played(due, position, ticks, self.queue.queued_ms(), self.margin)
    }

    /// Drops all that is queued, by the dialect's rule for pending marks.
    pub(super) fn flush(&mut self) {
        let policy = match self.flush_rule {
            FlushRule::Echo => FlushPolicy::Echo,
            FlushRule::Drop => FlushPolicy::Drop,
            FlushRule::ReportCleared => FlushPolicy::Cleared,
        };
        let flushed = self.queue.flush(policy);
        self.converter.reset();
        self.pacing.reset();
        self.pushed_bytes = self.played_bytes;
        self.is_buffering = false;
        self.flow = Flow::Waiting;
        self.waiting_since = None;
        self.dry_at = None;
        self.waited_bytes = 0;
        self.flushes += 1;
        self.collect_fired();
        self.names.clear();
        self.tell_heard(HeardCause::Clear, None, flushed.heard);
        self.notify(Notice::Flushed { played_ms: self.ms_of(self.played_bytes) });
        if flushed.bytes > 0 || flushed.markers > 0 {
            let dropped_ms = u32::try_from(self.ms_of(flushed.bytes as u64)).unwrap_or(u32::MAX);
            self.report(BridgeEvent::Flushed { dropped_ms, heard: flushed.heard });
        }
    }

    /// The caller began to speak. What the agent is saying is dropped if `clears`.
    pub(super) fn barge_in(&mut self, at_ms: u64, clears: bool) {
        self.notify(Notice::SpeechStarted { at_ms });
        let is_speaking = self.flow == Flow::Playing || !self.queue.is_drained();
        if !is_speaking {
            return;
        }
        let heard = self.queue.heard();
        if clears {
            self.flush();
        }
        self.barge_ins += 1;
        self.notify(Notice::BargeIn { heard, is_cleared: clears });
    }

    /// The call is over: the last that is told, before the stop itself.
    pub(super) fn stop(&mut self) {
        let heard = self.queue.heard();
        self.tell_heard(HeardCause::End, None, heard);
        self.notify(Notice::Stop);
    }

    fn tell_heard(&mut self, cause: HeardCause, name: Option<Box<str>>, heard: Heard) {
        if self.tells_heard {
            self.notify(Notice::Heard { cause, name, heard });
        }
    }

    /// Whether more of the agent's audio is welcome. A paused queue is always read on: only the agent can end its
    /// pause, and what does not fit is counted.
    pub(super) fn wants_input(&self) -> bool {
        self.queue.is_paused() || self.queue.len() < self.bytes_of(self.limits.queue)
    }

    /// The agent has said all: what is queued may play out, paused or not, and nothing is added to it.
    pub(super) fn end_input(&mut self) {
        self.is_ended = true;
        self.queue.resume();
        self.margin = Duration::ZERO;
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        if self.notices.len() < WAITING_MAX {
            self.notices.push_back(notice);
        } else {
            self.lost_notices += 1;
        }
    }

    pub(super) fn report(&mut self, event: BridgeEvent) {
        if self.events.len() < WAITING_MAX {
            self.events.push_back(event);
        } else {
            self.lost_notices += 1;
        }
    }

    fn apply(&mut self, now: Instant, command: AgentCommand<'_>) -> Result<(), DialectError> {
        match command {
            AgentCommand::Audio { format, data } => self.push_audio(now, format, data)?,
            AgentCommand::Mark { name } => self.push_marker(MarkerKind::Mark, Some(name))?,
            AgentCommand::Flush => self.flush(),
            AgentCommand::HangUp => self.wish = Some(Wish::HangUp),
            AgentCommand::Finish => self.wish = Some(Wish::Finish),
            // An agent's stream starts after the answer.
            AgentCommand::Answer => {}
            AgentCommand::StartBuffering => {
                self.is_buffering = true;
                self.queue.begin_utterance();
            }
            AgentCommand::StopBuffering { id } => {
                self.is_buffering = false;
                self.push_marker(MarkerKind::Completed, id)?;
            }
            AgentCommand::Pause => self.queue.pause(),
            AgentCommand::Continue => self.queue.resume(),
            AgentCommand::ReportDrained => self.queue.request_drained(),
            AgentCommand::GetStatus => self.notify(Notice::Status(self.status())),
            AgentCommand::SetDirection(direction) => self.direction = direction,
            AgentCommand::SendDtmf { digits } => {
                if self.digits.len() + digits.len() > self.limits.digits {
                    return Err(DialectError::TooMany);
                }
                self.digits.extend(digits.chars());
            }
            AgentCommand::Transfer { target, mode } => {
                self.report(BridgeEvent::Transfer { target: target.to_owned(), mode });
            }
            AgentCommand::Hold => self.report(BridgeEvent::Hold { is_held: true }),
            AgentCommand::Unhold => self.report(BridgeEvent::Hold { is_held: false }),
        }
        Ok(())
    }

    fn push_audio(&mut self, now: Instant, format: AudioFormat, data: &[u8]) -> Result<(), DialectError> {
        if self.direction == MediaDirection::In || self.is_ended || self.is_unheard || data.is_empty() {
            return Ok(());
        }
        let was_empty = self.queue.is_empty();
        let before = self.queue.len();
        let refused = self.converter.push(format, data, &mut self.queue)?;
        let start = self.pushed_bytes;
        self.pushed_bytes += (self.queue.len() - before) as u64;
        self.pacing.pushed(now, self.ticks_of(start), self.ticks_of(self.pushed_bytes));
        if self.flow == Flow::Waiting && was_empty {
            self.waiting_since = Some(now);
            // Such an agent needs more of a start.
            let is_late = self.dry_at.is_some_and(|dry| now.saturating_duration_since(dry) < LATE);
            if is_late {
                self.margin = (self.margin + MARGIN_STEP).min(self.limits.prebuffer);
            }
        }
        if refused > 0 {
            self.overflow_bytes += refused as u64;
            let dropped_ms = refused.div_ceil(self.queue.coding().bytes_per_ms());
            let dropped_ms = u32::try_from(dropped_ms).unwrap_or(u32::MAX);
            self.report(BridgeEvent::QueueOverflow { dropped_ms });
        }
        self.check_watermarks();
        Ok(())
    }

    fn push_marker(&mut self, kind: MarkerKind, name: Option<&str>) -> Result<(), DialectError> {
        if self.names.len() >= self.limits.marks {
            return Err(DialectError::TooMany);
        }
        let id = MarkId(self.next_mark);
        let pushed = match kind {
            MarkerKind::Mark => self.queue.push_mark(id),
            MarkerKind::Completed => self.queue.push_completed(id),
            MarkerKind::Drained => {
                self.queue.request_drained();
                return Ok(());
            }
        };
        pushed.map_err(|_| DialectError::TooMany)?;
        self.next_mark += 1;
        self.names.push_back((id, name.map(Box::from)));
        Ok(())
    }

    /// Speech that waited for digits leaves out every second frame of the agent's silence until it is in time again.
    fn catch_up(&mut self, frame_bytes: usize) {
        self.is_let_go = false;
        if self.waited_bytes < frame_bytes {
            return;
        }
        self.is_skip_due = !self.is_skip_due;
        if self.is_skip_due && self.queue.skip_silence(frame_bytes) {
            self.waited_bytes -= frame_bytes;
            self.played_bytes += frame_bytes as u64;
        }
    }

    /// Speech of a paced agent starts a little after its first audio came, so that the next may come a little late.
    fn is_ready(&self, due: Instant) -> bool {
        if self.flow == Flow::Playing || self.queue.is_empty() || self.queue.queued_ms() > BURST_MS {
            return true;
        }
        self.waiting_since.is_none_or(|since| due.saturating_duration_since(since) >= self.margin)
    }

    fn collect_fired(&mut self) {
        while let Some(Fired { id, kind, cause, heard }) = self.queue.poll_fired() {
            if kind == MarkerKind::Drained {
                self.notify(Notice::QueueDrained);
                continue;
            }
            let name = loop {
                match self.names.pop_front() {
                    Some((named, name)) if named == id => break name,
                    Some(_) => {}
                    None => break None,
                }
            };
            if kind == MarkerKind::Completed {
                self.notify(Notice::Completed { id: name });
                continue;
            }
            let name = name.unwrap_or_default();
            let is_cleared = cause != Cause::Played;
            self.marks_played += u64::from(!is_cleared);
            self.report(BridgeEvent::MarkPlayed { name: String::from(&*name), is_cleared, heard });
            if self.tells_heard {
                self.tell_heard(HeardCause::Mark, Some(name.clone()), heard);
            }
            self.notify(Notice::MarkPlayed { name, cleared: cause == Cause::Cleared });
        }
    }

    /// XOFF at once, XON at a tick or when nothing is left, never while paused.
    fn check_watermarks(&mut self) {
        let Some(Watermarks { xoff_ms, xon_ms }) = self.watermarks else { return };
        let queued_ms = self.queue.queued_ms();
        if !self.is_xoff && queued_ms >= u64::from(xoff_ms) {
            self.is_xoff = true;
            self.notify(Notice::Xoff);
        } else if self.is_xoff && !self.queue.is_paused() && queued_ms < u64::from(xon_ms) {
            self.is_xoff = false;
            self.notify(Notice::Xon);
        }
    }

    fn status(&self) -> QueueStatus {
        QueueStatus {
            length_frames: u32::try_from(self.queue.queued_ms().div_ceil(FRAME_MS)).unwrap_or(u32::MAX),
            is_full: self.is_xoff,
            is_buffering: self.is_buffering,
            is_paused: self.queue.is_paused(),
        }
    }
}

impl Notice {
    /// The notice as dialects know it.
    pub(super) fn as_event<'a>(&'a self, text: &'a mut String) -> AgentEvent<'a> {
        match self {
            Self::Digit { digit, duration_ms } => {
                AgentEvent::Digit { digit: *digit, duration_ms: *duration_ms }
            }
            Self::MarkPlayed { name, cleared } => AgentEvent::MarkPlayed { name, cleared: *cleared },
            Self::Completed { id } => AgentEvent::Completed { id: id.as_deref() },
            Self::QueueDrained => AgentEvent::QueueDrained,
            Self::PlayoutStarted => AgentEvent::PlayoutStarted,
            Self::PlayoutDone => AgentEvent::PlayoutDone,
            Self::Flushed { played_ms } => AgentEvent::Flushed { played_ms: *played_ms },
            Self::SpeechStarted { at_ms } => AgentEvent::SpeechStarted { at_ms: *at_ms },
            Self::SpeechStopped { at_ms } => AgentEvent::SpeechStopped { at_ms: *at_ms },
            Self::BargeIn { heard, is_cleared } => AgentEvent::BargeIn {
                utterance: heard.utterance,
                heard_ms: heard.ms,
                is_cleared: *is_cleared,
            },
            Self::Heard { cause, name, heard } => AgentEvent::Heard {
                cause: *cause,
                name: name.as_deref(),
                utterance: heard.utterance,
                heard_ms: heard.ms,
            },
            Self::Xoff => AgentEvent::Xoff,
            Self::Xon => AgentEvent::Xon,
            Self::Status(status) => AgentEvent::Status(*status),
            Self::Error(error) => {
                text.clear();
                text.push_str(&error.to_string());
                AgentEvent::Error { text }
            }
            Self::Refused(text) => AgentEvent::Error { text },
            Self::Held(is_held) => AgentEvent::Held { is_held: *is_held },
            Self::TransferFailed(text) => AgentEvent::TransferFailed { text },
            Self::Stop => AgentEvent::Stop,
        }
    }
}

/// A queue for `audio` of one form. What the socket had delivered before it was read no further must still fit.
fn queue_of(coding: Coding, audio: Duration) -> Playout {
    let burst = MAX_MESSAGE_BYTES * coding.bytes_per_ms() / TICKS_PER_MS;
    Playout::with_capacity_bytes(coding, bytes_of(coding, audio) + burst)
}

fn bytes_of(coding: Coding, audio: Duration) -> usize {
    usize::try_from(audio.as_millis()).unwrap_or(usize::MAX / 128).saturating_mul(coding.bytes_per_ms())
}
