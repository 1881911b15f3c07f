//! The egress queue: what the agent wants the caller to hear, read by the RTP clock.
//!
//! One queue serves every dialect. Audio lies in it as bytes of one form; marks and completion
//! markers lie at exact byte positions between them. The rules (design.md, one audio model):
//! * a marker fires at the first [`Playout::tick`] after the tick that carried the audio before it,
//!   or at the next tick when nothing stood before it; never when it is queued, never by estimate;
//! * [`Playout::flush`] costs no more than the number of pending markers, and twice is as good as once;
//! * the queue is bounded in bytes and in markers, and what does not fit is told to the caller;
//! * a frame is filled up with silence only when the source has stopped; while the source is
//!   still sending, a remainder waits one tick for its rest, which also gives a real-time source that
//!   was late the one frame of cushion it needs;
//! * each marker and each flush knows how much of its utterance had truly been sent.
//!
//! It does not resample, pace, or know the names of marks: a [`MarkId`] stands for whatever the dialect keeps.

use std::collections::VecDeque;

use crate::codec::Coding;

/// Default bound: ten minutes of speech. Agents burst whole replies, and nobody speaks longer at once.
pub const CAPACITY_BYTES: usize = 10 * 60 * 8_000;
/// Most markers that may be pending: one for each 20 ms frame of ten minutes.
pub const MARKERS_MAX: usize = 30_000;
/// Memory an empty queue may keep; a burst's surplus is given back once it is played.
const RETAINED_BYTES: usize = 16 * 1024;

/// A mark as the caller numbers it; its name stays with the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkId(pub u64);

/// What a marker stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerKind {
    /// A mark of the agent.
    Mark,
    /// The end of a bulk of audio the agent wants confirmed.
    Completed,
    /// The report, once asked for, that the queue has run empty.
    Drained,
}

/// Why a marker is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// All audio before it has left.
    Played,
    /// A flush took the audio before it away, and the dialect wants its marks echoed as if played.
    Echoed,
    /// A flush took the audio before it away, and the dialect wants to be told so.
    Cleared,
}

/// A marker whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// The number it was pushed with; `MarkId(0)` for [`MarkerKind::Drained`].
    pub id: MarkId,
    /// What it stands for.
    pub kind: MarkerKind,
    /// Played, or taken away by a flush.
    pub cause: Cause,
    /// Where in which utterance the caller's ear had got to.
    pub heard: Heard,
}

/// The heard position: how much of an utterance has truly been sent to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Number of the utterance, counted from 1; 0 before there was any. An utterance begins with the
    /// first audio after a flush, after the queue ran empty, or at [`Playout::begin_utterance`].
    pub utterance: u64,
    /// Milliseconds of it that left, rounded down.
    pub ms: u64,
}

/// What a flush does with the markers that were pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Report each as [`Cause::Echoed`], in order, before any later one (Twilio, Telnyx, Exotel).
    Echo,
    /// Forget them (Asterisk's chan_websocket, Plivo).
    Drop,
    /// Report each as [`Cause::Cleared`] (mod_audio_stream as Bolna runs it).
    Cleared,
}

/// What a flush took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// Audio that will never be heard, in bytes.
    pub bytes: usize,
    /// Markers that were pending.
    pub markers: usize,
    /// The heard position at the flush.
    pub heard: Heard,
}

/// The queue's bound was met; what fitted was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("playout queue is full, {refused} refused")]
pub struct Full {
    /// Bytes of audio, or markers, that were not taken.
    pub refused: usize,
}

/// What one tick of the RTP clock took from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickResult {
    /// The frame carries this many bytes of the agent's audio; fewer than the frame has when it was
    /// filled up with silence at the end of speech.
    Audio {
        /// Bytes of the agent's audio in the frame.
        bytes: usize,
    },
    /// The frame is all silence: nothing queued, paused, or a remainder waiting for its rest.
    Silence,
}

/// What the queue has done since it was made; all of it only rises, but for the high-water mark's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlayoutCounters {
    /// Bytes taken from the agent.
    pub pushed_bytes: u64,
    /// Bytes handed to the RTP clock.
    pub played_bytes: u64,
    /// Bytes that flushes took away.
    pub flushed_bytes: u64,
    /// Bytes of silence that were left out to make up for a wait.
    pub skipped_bytes: u64,
    /// Bytes refused because the queue was full.
    pub refused_bytes: u64,
    /// Markers refused because too many were pending.
    pub refused_markers: u64,
    /// Times the queue ran empty, or short of a frame, right after carrying audio.
    pub underruns: u64,
    /// Frames filled up with silence at the end of speech.
    pub padded_frames: u64,
    /// Flushes that had something to take away.
    pub flushes: u64,
    /// Markers that fired because their audio had left.
    pub markers_played: u64,
    /// Most bytes that were ever queued at once.
    pub high_water_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Marker {
    id: MarkId,
    kind: MarkerKind,
    /// Bytes ever pushed before this marker.
    at: u64,
    utterance: u64,
    utterance_start: u64,
}

/// The egress queue of one call.
#[derive(Debug)]
pub struct Playout {
    coding: Coding,
    capacity_bytes: usize,
    audio: VecDeque<u8>,
    markers: VecDeque<Marker>,
    fired: VecDeque<Fired>,
    /// Position in the agent's stream of the next byte to play: played plus flushed.
    position: u64,
    /// Number and start of the utterance that audio pushed now belongs to.
    utterance: u64,
    utterance_start: u64,
    utterance_ended: bool,
    /// The same for the audio the caller hears now, and the position up to which it has left.
    heard_utterance: u64,
    heard_start: u64,
    heard_end: u64,
    /// Starts of utterances that are queued but not yet reached.
    starts: VecDeque<(u64, u64)>,
    paused: bool,
    drained_wanted: bool,
    pushed_since_tick: bool,
    waited_for_rest: bool,
    playing: bool,
    counters: PlayoutCounters,
}

impl Playout {
    /// An empty queue of `coding` with the default bound: ten minutes of G.711.
    pub fn new(coding: impl Into<Coding>) -> Self {
        Self::with_capacity_bytes(coding, CAPACITY_BYTES)
    }

    /// An empty queue bounded to `capacity_bytes` of audio. Memory is taken as it is needed.
    pub fn with_capacity_bytes(coding: impl Into<Coding>, capacity_bytes: usize) -> Self {
        Self {
            coding: coding.into(),
            capacity_bytes,
            audio: VecDeque::new(),
            markers: VecDeque::new(),
            fired: VecDeque::new(),
            position: 0,
            utterance: 0,
            utterance_start: 0,
            utterance_ended: true,
            heard_utterance: 0,
            heard_start: 0,
            heard_end: 0,
            starts: VecDeque::new(),
            paused: false,
            drained_wanted: false,
            pushed_since_tick: false,
            waited_for_rest: false,
            playing: false,
            counters: PlayoutCounters::default(),
        }
    }

    /// Queues audio in the queue's form. Takes what fits; the rest is refused and counted, never dropped
    /// in silence.
    pub fn push_audio(&mut self, audio: &[u8]) -> Result<(), Full> {
        let room = self.capacity_bytes - self.audio.len();
        let taken = audio.len().min(room);
        if taken > 0 {
            if self.utterance_ended && self.starts.len() < MARKERS_MAX {
                self.start_utterance();
            }
            self.audio.extend(&audio[..taken]);
            self.pushed_since_tick = true;
            self.counters.pushed_bytes += taken as u64;
            self.counters.high_water_bytes = self.counters.high_water_bytes.max(self.audio.len() as u64);
        }
        let refused = audio.len() - taken;
        if refused > 0 {
            self.counters.refused_bytes += refused as u64;
            return Err(Full { refused });
        }
        Ok(())
    }

    /// Queues a mark behind all audio queued so far.
    pub fn push_mark(&mut self, id: MarkId) -> Result<(), Full> {
        self.push_marker(id, MarkerKind::Mark)
    }

    /// Queues a completion marker behind all audio queued so far.
    pub fn push_completed(&mut self, id: MarkId) -> Result<(), Full> {
        self.push_marker(id, MarkerKind::Completed)
    }

    /// Asks for one [`MarkerKind::Drained`] at the next tick that finds the queue empty. It survives a
    /// flush, which empties the queue.
    pub fn request_drained(&mut self) {
        self.drained_wanted = true;
    }

    /// Lets the audio pushed from now on be an utterance of its own; returns its number. For dialects
    /// that name their replies.
    pub fn begin_utterance(&mut self) -> u64 {
        self.utterance_ended = true;
        self.utterance + 1
    }

    /// Takes everything away and treats the pending markers by `policy`. Does not end a pause.
    pub fn flush(&mut self, policy: FlushPolicy) -> Flushed {
        let flushed = Flushed { bytes: self.audio.len(), markers: self.markers.len(), heard: self.heard() };
        let cause = match policy {
            FlushPolicy::Echo => Some(Cause::Echoed),
            FlushPolicy::Cleared => Some(Cause::Cleared),
            FlushPolicy::Drop => None,
        };
        if let Some(cause) = cause {
            for marker in self.markers.drain(..) {
                let heard = marker.heard_at(self.position, self.coding);
                self.fired.push_back(Fired { id: marker.id, kind: marker.kind, cause, heard });
            }
        }
        self.position += flushed.bytes as u64;
        self.audio.clear();
        self.markers.clear();
        self.starts.clear();
        self.utterance_ended = true;
        self.waited_for_rest = false;
        self.playing = false;
        self.counters.flushed_bytes += flushed.bytes as u64;
        self.counters.flushes += u64::from(flushed.bytes > 0 || flushed.markers > 0);
        self.give_back_memory();
        flushed
    }

    /// Stops taking audio and firing markers; ticks carry silence until [`Playout::resume`].
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// One tick of the RTP clock: fires the markers whose audio has left, then fills `frame` (its length
    /// is the frame size of the negotiated ptime) with the next audio or with silence.
    pub fn tick(&mut self, frame: &mut [u8]) -> TickResult {
        let pushed_since_tick = std::mem::take(&mut self.pushed_since_tick);
        if self.paused {
            frame.fill(self.coding.silence());
            return TickResult::Silence;
        }
        self.fire_played();
        let take = self.audio.len().min(frame.len());
        if take == 0 {
            return self.tick_empty(frame);
        }
        if take < frame.len() {
            if self.playing {
                self.counters.underruns += 1;
                self.playing = false;
            }
            if pushed_since_tick && !self.waited_for_rest {
                self.waited_for_rest = true;
                frame.fill(self.coding.silence());
                return TickResult::Silence;
            }
            self.counters.padded_frames += 1;
        } else {
            self.playing = true;
        }
        self.waited_for_rest = false;
        self.take_audio(frame, take);
        TickResult::Audio { bytes: take }
    }

    /// A tick of the RTP clock that takes no audio because its start is held back, or because its packet carries a
    /// digit: markers with nothing left before them fire, `frame` is silence.
    pub fn hold_tick(&mut self, frame: &mut [u8]) {
        if !self.paused {
            self.fire_played();
        }
        frame.fill(self.coding.silence());
    }

    /// Leaves `bytes` of silence out, if at least twice as many lie next: the way back for a queue that had to wait.
    /// What is left out counts as played, for nothing was to be heard. Returns whether it did.
    pub fn skip_silence(&mut self, bytes: usize) -> bool {
        let next = self.audio.iter().take(2 * bytes);
        let is_silent = next.len() == 2 * bytes && next.copied().all(|code| self.coding.is_silence(code));
        if self.paused || !is_silent {
            return false;
        }
        self.audio.drain(..bytes);
        self.position += bytes as u64;
        self.counters.skipped_bytes += bytes as u64;
        true
    }

    /// The next marker whose time has come, in order.
    pub fn poll_fired(&mut self) -> Option<Fired> {
        self.fired.pop_front()
    }

    /// Bytes queued and not yet played.
    pub fn len(&self) -> usize {
        self.audio.len()
    }

    /// Whether no audio is queued; markers may still be.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty()
    }

    /// Whether neither audio nor markers are queued.
    pub fn is_drained(&self) -> bool {
        self.audio.is_empty() && self.markers.is_empty()
    }

    /// Milliseconds of audio queued, rounded up.
    pub fn queued_ms(&self) -> u64 {
        self.audio.len().div_ceil(self.coding.bytes_per_ms()) as u64
    }

    /// Markers queued and not yet fired.
    pub fn pending_markers(&self) -> usize {
        self.markers.len()
    }

    /// Whether a pause is on.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The form of the queue's audio.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Which utterance the caller hears, or heard last, and how much of it has left.
    pub fn heard(&self) -> Heard {
        Heard { utterance: self.heard_utterance, ms: self.ms(self.heard_end - self.heard_start) }
    }

    /// What the queue has done so far.
    pub fn counters(&self) -> PlayoutCounters {
        self.counters
    }

    fn push_marker(&mut self, id: MarkId, kind: MarkerKind) -> Result<(), Full> {
        if self.markers.len() + self.fired.len() >= MARKERS_MAX {
            self.counters.refused_markers += 1;
            return Err(Full { refused: 1 });
        }
        let at = self.position + self.audio.len() as u64;
        let marker =
            Marker { id, kind, at, utterance: self.utterance, utterance_start: self.utterance_start };
        self.markers.push_back(marker);
        Ok(())
    }

    fn start_utterance(&mut self) {
        self.utterance += 1;
        self.utterance_start = self.position + self.audio.len() as u64;
        self.utterance_ended = false;
        self.starts.push_back((self.utterance_start, self.utterance));
    }

    fn tick_empty(&mut self, frame: &mut [u8]) -> TickResult {
        if self.playing {
            self.counters.underruns += 1;
            self.playing = false;
        }
        self.utterance_ended = true;
        if std::mem::take(&mut self.drained_wanted) {
            let heard = self.heard();
            self.fired.push_back(Fired {
                id: MarkId(0),
                kind: MarkerKind::Drained,
                cause: Cause::Played,
                heard,
            });
        }
        self.give_back_memory();
        frame.fill(self.coding.silence());
        TickResult::Silence
    }

    fn fire_played(&mut self) {
        while let Some(marker) = self.markers.front().copied().filter(|marker| marker.at <= self.position) {
            self.markers.pop_front();
            let heard = marker.heard_at(marker.at, self.coding);
            self.fired.push_back(Fired { id: marker.id, kind: marker.kind, cause: Cause::Played, heard });
            self.counters.markers_played += 1;
        }
    }

    fn take_audio(&mut self, frame: &mut [u8], take: usize) {
        let (audio, rest) = frame.split_at_mut(take);
        let (front, back) = self.audio.as_slices();
        let from_front = front.len().min(take);
        audio[..from_front].copy_from_slice(&front[..from_front]);
        audio[from_front..].copy_from_slice(&back[..take - from_front]);
        rest.fill(self.coding.silence());
        self.audio.drain(..take);
        self.position += take as u64;
        self.counters.played_bytes += take as u64;
        while let Some((start, utterance)) =
            self.starts.front().copied().filter(|(start, _)| *start < self.position)
        {
            self.starts.pop_front();
            (self.heard_start, self.heard_utterance) = (start, utterance);
        }
        self.heard_end = self.position;
    }

    const fn ms(&self, bytes: u64) -> u64 {
        bytes / self.coding.bytes_per_ms() as u64
    }

    fn give_back_memory(&mut self) {
        if self.audio.is_empty() && self.audio.capacity() > RETAINED_BYTES {
            self.audio.shrink_to(RETAINED_BYTES);
        }
    }
}

impl Marker {
    /// The heard position of the marker's own utterance when playing had reached `position`.
    fn heard_at(&self, position: u64, coding: Coding) -> Heard {
        let ms = position.min(self.at).saturating_sub(self.utterance_start) / coding.bytes_per_ms() as u64;
        Heard { utterance: self.utterance, ms }
    }
}
