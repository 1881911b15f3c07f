//! The ingress timeline: packets in, a continuous stream of 20 ms frames out.
//!
//! The far end of this stream is a speech recogniser or a buffer of the agent's own, not a loudspeaker,
//! so audio need not be held back to smooth its arrival. The rule:
//!
//! 1. **The next packet in sequence is handed on the moment it comes.** On a clean network the added
//!    delay is nothing, and the sender's clock drives the stream: no skew can make a gap or a repeat.
//! 2. **A gap in the sequence is waited for** as long as its packets might still come, at most the
//!    *patience* beyond their expected arrival; then as much time as is missing is made up, frame by frame.
//! 3. **When nothing comes at all**, made-up audio (soon silence) is put out at the pace of the clock,
//!    so that the timeline stays continuous through pauses, holds and dead networks.
//! 4. **A jump of the timestamp with no packet missing** is a pause of the sender (RFC 3551 section 4.1):
//!    what rule 3 has not covered of it is filled with silence at once. A jump back, or by more than two
//!    seconds, is a sender that lost its clock: the stream goes on where it is.
//! 5. **Late audio is not thrown away**: a packet in sequence that comes after made-up audio took its
//!    time is still handed on, and puts the timeline ahead of the clock. While it is ahead, rule 3 waits.
//!    Beyond 200 ms ahead, late packets are dropped until it is not. So the stream cannot run away.
//!
//! Patience is what adapts: a little more than the spread of arrivals over the last seconds, between
//! one packet plus 10 ms and 200 ms. It grows with the first late packet and is back within four seconds
//! of calm; because of rule 1 it costs nothing while no packet is missing.
//!
//! 6. **A pause that the sender described** (RFC 3389) is filled with noise of that description instead of
//!    silence, until the next audio.
//!
//! Everything is counted in microseconds of the session's clock and in ticks of the stream's, 8000 a second
//! in every codec: a byte of payload each, and called samples here, as they are in G.711. No packet
//! is parsed here and no source is judged. RFC 3550 section 5.1 (timestamps); RFC 3551 section 4.1.

use std::mem;

use crate::codec::{Codec, Coding};
use crate::conceal::Concealer;
use crate::noise::ComfortNoise;
use crate::payload::PayloadReader;

/// Microseconds in one sample.
const SAMPLE_US: i64 = 125;
const FRAME_US: i64 = 20_000;
/// Samples in a frame.
const FRAME_SAMPLES: usize = 160;
/// Most packets that are held while a gap before them is waited for.
const HELD_MAX: usize = 64;
/// Largest payload that is taken: 200 ms.
const PAYLOAD_MAX: usize = 1_600;
/// Jumps of the timestamp beyond this many samples are no pause but a lost clock: 2 s.
const JUMP_SAMPLES: i64 = 16_000;
/// How far the timeline may run ahead of the clock by late audio.
const LEAD_MAX_US: i64 = 200_000;
/// The lead is forgiven at 500 ppm: more than any clock's skew, too slow to hide a lead.
const FORGIVEN_PER_SAMPLE: i64 = 2_000;
/// Arrivals are judged over this window and the one before it.
const WINDOW_US: i64 = 2_000_000;
/// What patience adds to the spread of arrivals, and to the length of a packet.
const MARGIN_US: i64 = 10_000;
/// The most patience there is.
const PATIENCE_MAX_US: i64 = 200_000;

/// What a packet of the stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A payload of audio.
    Audio(Codec, &'a [u8]),
    /// The description of the noise of a pause that begins here.
    Noise(&'a [u8]),
    /// Nothing of the audio's, such as an event.
    Nothing,
}

/// 20 ms of the timeline, whose audio is [`JitterBuffer::frame_audio`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of the frame, from 0.
    pub index: u64,
    /// Whether some of it was made up.
    pub concealed: bool,
    /// When the packet that completed it came; `None` when that part was made up.
    pub arrival_us: Option<i64>,
}

/// What the timeline has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JitterCounters {
    /// Frames put out.
    pub frames: u64,
    /// Frames of which some was made up.
    pub concealed_frames: u64,
    /// Packets that came after later ones had been handed on, or that put the timeline too far ahead.
    pub late: u64,
    /// Packets refused: too many held, or too large.
    pub refused: u64,
    /// Timestamps that jumped beyond what a pause explains.
    pub timestamp_jumps: u64,
    /// The longest patience so far, in microseconds.
    pub patience_max_us: i64,
}

/// The timeline of one received stream.
#[derive(Debug)]
pub struct JitterBuffer {
    reader: PayloadReader,
    concealer: Concealer,
    /// The sender's background noise, and whether it pauses and is stood in for by it.
    noise: Option<Box<ComfortNoise>>,
    is_noise: bool,
    coding: Coding,
    /// Bytes of a sample, and of a frame.
    width: usize,
    frame_bytes: usize,
    /// Packets not yet handed on, by rising sequence number.
    held: Vec<Held>,
    spare: Vec<Vec<u8>>,
    stream: Option<Place>,
    /// The frame that was put out last, then the samples not yet put out.
    ready: Vec<u8>,
    taken: usize,
    ready_concealed: bool,
    ready_arrival_us: Option<i64>,
    /// Samples ever made ready: where on the timeline the next one lies.
    position: i64,
    started_us: i64,
    /// Samples made up since the last packet was handed on, not yet explained by a timestamp.
    made_up: i64,
    /// Silence still to be put in for a pause of the sender.
    fill: i64,
    /// Samples by which pauses were rounded to whole frames so far.
    rounded: i64,
    /// Made-up samples whose audio came after all, not yet made good.
    surplus: i64,
    surplus_at_us: i64,
    pace: Option<Pace>,
    packet_us: i64,
    counters: JitterCounters,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    last_sequence: u64,
    next_timestamp: u32,
}

#[derive(Debug)]
struct Held {
    sequence: u64,
    timestamp: u32,
    arrival_us: i64,
    kind: Kind,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio(Codec),
    Noise,
    Nothing,
}

/// When packets come, relative to their place on the timeline.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Least and most of (arrival - position) in this window and the one before.
    current: Spread,
    previous: Spread,
    window_us: i64,
    /// The slowest pace lately: what the timeline is ahead of.
    slowest: i64,
    noted_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct Spread {
    least: i64,
    most: i64,
}

enum Step {
    Again,
    Wait,
}

impl JitterBuffer {
    /// A timeline of audio in the form of `coding` that begins at `now_us`.
    pub fn new(coding: Coding, now_us: i64) -> Self {
        let width = coding.bytes_per_ms() / 8;
        let frame_bytes = FRAME_SAMPLES * width;
        Self {
            reader: PayloadReader::new(coding),
            concealer: Concealer::new(coding),
            noise: None,
            is_noise: false,
            coding,
            width,
            frame_bytes,
            held: Vec::new(),
            spare: Vec::new(),
            stream: None,
            ready: Vec::with_capacity(4 * frame_bytes),
            taken: 0,
            ready_concealed: false,
            ready_arrival_us: None,
            position: 0,
            started_us: now_us,
            made_up: 0,
            fill: 0,
            rounded: 0,
            surplus: 0,
            surplus_at_us: now_us,
            pace: None,
            packet_us: FRAME_US,
            counters: JitterCounters::default(),
        }
    }

    /// Takes a packet. `sequence` never wraps.
    pub fn push(&mut self, sequence: u64, timestamp: u32, content: Content<'_>, now_us: i64) {
        let (kind, payload) = match content {
            // A payload without a sample is a packet without audio.
            Content::Audio(_, []) | Content::Nothing => (Kind::Nothing, &[][..]),
            Content::Audio(codec, payload) => (Kind::Audio(codec), payload),
            Content::Noise(description) => (Kind::Noise, description),
        };
        if self.stream.is_some_and(|place| sequence <= place.last_sequence) {
            if let Kind::Audio(_) = kind {
                self.note_late(timestamp, now_us);
            }
            return;
        }
        let at = self.held.partition_point(|held| held.sequence < sequence);
        let twice = self.held.get(at).is_some_and(|held| held.sequence == sequence);
        if twice || self.held.len() == HELD_MAX || payload.len() > PAYLOAD_MAX {
            self.counters.refused += 1;
            return;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(payload);
        self.held.insert(at, Held { sequence, timestamp, arrival_us: now_us, kind, payload: buffer });
    }

    /// Another source, or the same begun anew: sequence numbers and timestamps mean something else from
    /// here on. The timeline goes on.
    pub fn restart(&mut self) {
        // Until the new source is heard, silence is due at the pace kept so far.
        self.started_us = self.starved_at_us() - self.position * SAMPLE_US - FRAME_US;
        self.spare.extend(self.held.drain(..).map(|held| held.payload));
        self.stream = None;
        self.pace = None;
        self.made_up = 0;
        self.surplus = 0;
        self.is_noise = false;
        self.reader.restart();
        self.concealer.reset();
    }

    /// The next frame that is there or overdue. Call until `None`.
    pub fn poll(&mut self, now_us: i64) -> Option<Frame> {
        self.ready.drain(..mem::take(&mut self.taken));
        loop {
            if self.ready.len() >= self.frame_bytes {
                return Some(self.take_frame());
            }
            if let Step::Wait = self.step(now_us) {
                return None;
            }
        }
    }

    /// The audio of the frame that [`JitterBuffer::poll`] gave last, until it is called again.
    pub fn frame_audio(&self) -> &[u8] {
        &self.ready[..self.taken]
    }

    /// When [`JitterBuffer::poll`] will next have a frame though no packet comes.
    pub fn due_us(&self) -> i64 {
        let Some(head) = self.held.first() else { return self.starved_at_us() };
        if !head.is_audio() {
            (head.arrival_us + self.patience_us()).min(self.starved_at_us())
        } else {
            self.missed_at_us()
        }
    }

    /// How long a missing packet is waited for beyond its expected arrival, in microseconds.
    pub fn patience_us(&self) -> i64 {
        let least = self.packet_us + MARGIN_US;
        let spread = self.pace.map_or(0, |pace| pace.most() - pace.least());
        (spread + MARGIN_US).clamp(least, PATIENCE_MAX_US.max(least))
    }

    /// Packets held back behind a gap.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was done so far.
    pub fn counters(&self) -> JitterCounters {
        self.counters
    }

    fn step(&mut self, now_us: i64) -> Step {
        if self.fill > 0 {
            let count = self.fill.min(self.room());
            self.fill -= count;
            self.make_up(count);
            return Step::Again;
        }
        let Some(head) = self.held.first() else { return self.starve(now_us) };
        let Some(place) = self.stream else {
            self.hand_on_head(0);
            return Step::Again;
        };
        let in_sequence = head.sequence == place.last_sequence + 1;
        if !head.is_audio() {
            if in_sequence || now_us >= head.arrival_us + self.patience_us() {
                self.pass_over_head();
                return Step::Again;
            }
            return self.starve(now_us);
        }
        let gap = i64::from(head.timestamp.wrapping_sub(place.next_timestamp) as i32);
        let missing = gap - self.made_up;
        if gap < 0 || missing > JUMP_SAMPLES {
            self.counters.timestamp_jumps += 1;
            self.hand_on_head(0);
        } else if missing <= 0 {
            self.hand_on_head(-missing);
        } else if in_sequence {
            self.begin_fill(missing, head.timestamp);
        } else if now_us >= self.missed_at_us() || self.held.len() == HELD_MAX {
            let count = missing.min(self.room());
            self.made_up += count;
            self.make_up(count);
        } else {
            return Step::Wait;
        }
        Step::Again
    }

    /// Rule 3.
    fn starve(&mut self, now_us: i64) -> Step {
        if now_us < self.starved_at_us() {
            return Step::Wait;
        }
        let count = self.room();
        self.made_up += count;
        self.make_up(count);
        Step::Again
    }

    /// Rule 4: fills a pause, rounded so that the packet after it begins a frame and need not wait for
    /// the next to fill one; what was rounded is made good at the next pause.
    fn begin_fill(&mut self, missing: i64, timestamp: u32) {
        let frame = FRAME_SAMPLES as i64;
        let exact = self.ready_samples() + missing - self.rounded;
        let whole = ((exact + frame / 2).div_euclid(frame) * frame).max(self.ready_samples());
        self.rounded = whole - exact;
        self.fill = whole - self.ready_samples();
        self.made_up = 0;
        if let Some(place) = &mut self.stream {
            place.next_timestamp = timestamp;
        }
    }

    /// Rules 1 and 5. `surplus` samples were made up of time that turns out not to have been missing.
    fn hand_on_head(&mut self, surplus: i64) {
        let head = self.held.remove(0);
        let samples = head.payload.len() as i64;
        let timestamp = head.timestamp.wrapping_add(samples as u32);
        self.stream = Some(Place { last_sequence: head.sequence, next_timestamp: timestamp });
        self.made_up = 0;
        // A surplus counts for as long as its audio may still come in a burst. Packets that come at their
        // usual pace instead show that the sender paused, and stopped its timestamp with it.
        let passed = (head.arrival_us - self.surplus_at_us).max(0) / SAMPLE_US;
        self.surplus = (self.surplus - passed).max(0) + surplus;
        self.surplus_at_us = head.arrival_us;
        let offset_us = head.arrival_us - self.position * SAMPLE_US;
        let lead_us = self.pace.map_or(0, |pace| pace.slowest - offset_us);
        if self.surplus >= samples && lead_us > LEAD_MAX_US {
            self.surplus -= samples;
            self.counters.late += 1;
        } else {
            self.packet_us = samples * SAMPLE_US;
            self.note(offset_us, head.arrival_us);
            if let Kind::Audio(codec) = head.kind {
                let start = self.ready.len();
                self.reader.read(codec, &head.payload, &mut self.ready);
                self.concealer.heard(&mut self.ready[start..]);
                self.is_noise = false;
            }
            self.ready_arrival_us = Some(head.arrival_us);
            self.position += samples;
        }
        self.spare.push(head.payload);
    }

    fn pass_over_head(&mut self) {
        let head = self.held.remove(0);
        if let Some(place) = &mut self.stream {
            place.last_sequence = head.sequence;
        }
        if head.kind == Kind::Noise {
            let coding = self.coding;
            self.noise.get_or_insert_with(|| Box::new(ComfortNoise::new(coding))).describe(&head.payload);
            self.is_noise = true;
        }
        self.spare.push(head.payload);
    }

    fn note(&mut self, offset_us: i64, arrival_us: i64) {
        match &mut self.pace {
            Some(pace) => pace.note(offset_us, arrival_us),
            None => self.pace = Some(Pace::new(offset_us, arrival_us)),
        }
        self.counters.patience_max_us = self.counters.patience_max_us.max(self.patience_us());
    }

    /// A packet whose time has passed still tells how patient to be.
    fn note_late(&mut self, timestamp: u32, now_us: i64) {
        let Some(place) = self.stream else { return };
        self.counters.late += 1;
        let back = i64::from(place.next_timestamp.wrapping_sub(timestamp) as i32);
        if let Some(pace) = self.pace.as_mut().filter(|_| (0..JUMP_SAMPLES).contains(&back)) {
            let offset_us = now_us - (self.position - back) * SAMPLE_US;
            pace.current.most = pace.current.most.max(offset_us);
        }
    }

    fn make_up(&mut self, samples: i64) {
        let start = self.ready.len();
        self.ready.resize(start + samples as usize * self.width, 0);
        match &mut self.noise {
            Some(noise) if self.is_noise => noise.fill(&mut self.ready[start..]),
            Some(_) | None => {
                self.concealer.make_up(&mut self.ready[start..]);
                self.ready_concealed = true;
            }
        }
        self.ready_arrival_us = None;
        self.position += samples;
    }

    fn take_frame(&mut self) -> Frame {
        let frame = Frame {
            index: self.counters.frames,
            concealed: mem::take(&mut self.ready_concealed),
            arrival_us: self.ready_arrival_us,
        };
        self.taken = self.frame_bytes;
        self.counters.frames += 1;
        self.counters.concealed_frames += u64::from(frame.concealed);
        frame
    }

    /// Samples that complete the frame at work. Only called while there is none complete.
    fn room(&self) -> i64 {
        FRAME_SAMPLES as i64 - self.ready_samples()
    }

    fn ready_samples(&self) -> i64 {
        (self.ready.len() / self.width) as i64
    }

    /// When a packet that belongs at the present position is given up.
    fn missed_at_us(&self) -> i64 {
        let expected = self.pace.map_or(self.started_us, |pace| pace.least());
        expected + self.position * SAMPLE_US + self.patience_us()
    }

    /// When, nothing having come, the next frame must be made up.
    fn starved_at_us(&self) -> i64 {
        let position_us = self.position * SAMPLE_US;
        match self.pace {
            None => self.started_us + position_us + FRAME_US,
            Some(pace) => pace.slowest.min(pace.least() + LEAD_MAX_US) + position_us + self.patience_us(),
        }
    }
}

impl Held {
    const fn is_audio(&self) -> bool {
        matches!(self.kind, Kind::Audio(_))
    }
}

impl Pace {
    fn new(offset_us: i64, arrival_us: i64) -> Self {
        let spread = Spread { least: offset_us, most: offset_us };
        Self {
            current: spread,
            previous: spread,
            window_us: arrival_us,
            slowest: offset_us,
            noted_us: arrival_us,
        }
    }

    fn note(&mut self, offset_us: i64, arrival_us: i64) {
        // After a pause of whole windows what was learned is older than a skewed clock lets it be.
        if arrival_us - self.noted_us >= 2 * WINDOW_US {
            *self = Self::new(offset_us, arrival_us);
            return;
        }
        if arrival_us - self.window_us >= WINDOW_US {
            self.previous = self.current;
            self.current = Spread { least: offset_us, most: offset_us };
            self.window_us = arrival_us;
        }
        self.current.least = self.current.least.min(offset_us);
        self.current.most = self.current.most.max(offset_us);
        let forgiven = (arrival_us - self.noted_us).max(0) / FORGIVEN_PER_SAMPLE;
        self.slowest = offset_us.max(self.slowest - forgiven);
        self.noted_us = arrival_us;
    }

    fn least(&self) -> i64 {
        self.current.least.min(self.previous.least)
    }

    fn most(&self) -> i64 {
        self.current.most.max(self.previous.most)
    }
}
