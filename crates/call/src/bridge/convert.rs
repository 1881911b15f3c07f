//! From the call's form of audio to the agent's, cut into messages; and from the agent's into the queue's.
//!
//! What is converted, and that nothing is where both are the same, is `tandem_media::Converter`'s. All buffers are kept:
//! after the first frames nothing is allocated. No queue and no timing here.

use std::time::Instant;

use tandem_agent::{AudioFormat, DialectError};
use tandem_media::playout::Playout;
use tandem_media::{Coding, Converter, Law};

/// Longest piece of agent audio that is converted at once, in bytes; bounds the buffer whatever a burst's size.
const PIECE_BYTES: usize = 4096;

/// The agent's coding as the media core knows it.
pub(super) const fn coding_of(format: AudioFormat) -> Coding {
    match format {
        AudioFormat::Mulaw => Coding::G711(Law::Mulaw),
        AudioFormat::Alaw => Coding::G711(Law::Alaw),
        AudioFormat::Linear16 { rate_hz } => Coding::Linear { rate_hz },
    }
}

/// Caller audio on its way to the agent: converted and cut into messages of the agent's frame length.
#[derive(Debug)]
pub(super) struct ToAgent {
    format: AudioFormat,
    frame_ms: u16,
    frame_bytes: usize,
    converter: Option<Converter>,
    /// Converted audio; the first `taken` bytes have been handed out.
    pending: Vec<u8>,
    taken: usize,
    arrived: Option<Instant>,
    messages: u64,
}

/// One message's worth of caller audio.
pub(super) struct Message<'a> {
    pub(super) timestamp_ms: u64,
    pub(super) audio: &'a [u8],
    /// Arrival of the oldest packet in it; nothing if all of it was made up.
    pub(super) arrived: Option<Instant>,
}

impl ToAgent {
    pub(super) const fn new(format: AudioFormat, frame_ms: u16) -> Self {
        Self {
            format,
            frame_ms,
            frame_bytes: format.bytes_per_ms() * frame_ms as usize,
            converter: None,
            pending: Vec::new(),
            taken: 0,
            arrived: None,
            messages: 0,
        }
    }

    /// Goes on in another coding where the agent has chosen one; what is half converted is let go.
    pub(super) fn set_format(&mut self, format: AudioFormat) {
        if self.format != format {
            let messages = self.messages;
            *self = Self { messages, ..Self::new(format, self.frame_ms) };
        }
    }

    /// Takes audio of `coding` that arrived when `arrived` says.
    pub(super) fn push(&mut self, coding: Coding, audio: &[u8], arrived: Option<Instant>) {
        self.pending.drain(..self.taken);
        self.taken = 0;
        self.arrived = self.arrived.or(arrived);
        let converter = match &mut self.converter {
            Some(converter) if converter.from() == coding => converter,
            other => other.insert(
                Converter::new(coding, coding_of(self.format))
                    .expect("dialects speak rates that have filters"),
            ),
        };
        converter.convert(audio, &mut self.pending);
    }

    /// The next whole message. Call until nothing comes.
    pub(super) fn pop(&mut self) -> Option<Message<'_>> {
        let end = self.taken + self.frame_bytes;
        let audio = self.pending.get(self.taken..end)?;
        self.taken = end;
        let timestamp_ms = self.messages * u64::from(self.frame_ms);
        self.messages += 1;
        Some(Message { timestamp_ms, audio, arrived: self.arrived.take() })
    }
}

/// Agent audio on its way into the queue.
#[derive(Debug)]
pub(super) struct FromAgent {
    converter: Option<Converter>,
    bytes: Vec<u8>,
}

impl FromAgent {
    pub(super) const fn new() -> Self {
        Self { converter: None, bytes: Vec::new() }
    }

    /// Queues `audio`; returns how many bytes of the queue's form did not fit.
    pub(super) fn push(
        &mut self,
        format: AudioFormat,
        audio: &[u8],
        queue: &mut Playout,
    ) -> Result<usize, DialectError> {
        let (from, to) = (coding_of(format), queue.coding());
        if from == to && matches!(from, Coding::G711(_)) {
            return Ok(refused(queue, audio));
        }
        let converter = match &mut self.converter {
            Some(converter) if converter.from() == from && converter.to() == to => converter,
            other => other.insert(Converter::new(from, to).map_err(|_| DialectError::Audio)?),
        };
        let mut lost = 0;
        for piece in audio.chunks(PIECE_BYTES) {
            self.bytes.clear();
            converter.convert(piece, &mut self.bytes);
            lost += refused(queue, &self.bytes);
        }
        Ok(lost)
    }

    /// Forgets what is half converted, so that nothing from before a flush is heard after it.
    pub(super) fn reset(&mut self) {
        if let Some(converter) = &mut self.converter {
            converter.reset();
        }
    }
}

fn refused(queue: &mut Playout, audio: &[u8]) -> usize {
    match queue.push_audio(audio) {
        Ok(()) => 0,
        Err(full) => full.refused,
    }
}
