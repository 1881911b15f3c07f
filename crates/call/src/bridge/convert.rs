//! From the trunk's law to the agent's audio, and from the agent's audio to the queue's law.
//!
//! Equal laws are copied, two laws meet by G.711's own tables, linear audio is decoded, resampled, encoded.
//! All buffers are kept: after the first frames nothing is allocated. No queue and no timing here.

use std::time::Instant;

use tandem_agent::{AudioFormat, DialectError};
use tandem_media::playout::Playout;
use tandem_media::resample::Resampler;
use tandem_media::{Law, SAMPLE_RATE_HZ, g711};

/// Longest piece of agent audio that is converted at once, in bytes; bounds the buffers whatever a burst's size.
const PIECE_BYTES: usize = 4096;

/// Caller audio on its way to the agent: converted and cut into messages of the agent's frame length.
#[derive(Debug)]
pub(super) struct ToAgent {
    format: AudioFormat,
    frame_ms: u16,
    frame_bytes: usize,
    resampler: Option<Resampler>,
    samples: Vec<i16>,
    resampled: Vec<i16>,
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
    pub(super) fn new(format: AudioFormat, frame_ms: u16) -> Self {
        let resampler = match format {
            AudioFormat::Linear16 { rate_hz } if rate_hz != SAMPLE_RATE_HZ => {
                Some(Resampler::new(SAMPLE_RATE_HZ, rate_hz).expect("dialects speak rates that have filters"))
            }
            AudioFormat::Linear16 { .. } | AudioFormat::Mulaw | AudioFormat::Alaw => None,
        };
        Self {
            format,
            frame_ms,
            frame_bytes: format.bytes_per_ms() * usize::from(frame_ms),
            resampler,
            samples: Vec::new(),
            resampled: Vec::new(),
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

    /// Takes audio of `law` that arrived when `arrived` says.
    pub(super) fn push(&mut self, law: Law, audio: &[u8], arrived: Option<Instant>) {
        self.pending.drain(..self.taken);
        self.taken = 0;
        self.arrived = self.arrived.or(arrived);
        match self.format {
            AudioFormat::Mulaw => self.push_law(law, Law::Mulaw, audio),
            AudioFormat::Alaw => self.push_law(law, Law::Alaw, audio),
            AudioFormat::Linear16 { .. } => {
                self.samples.clear();
                g711::decode_into(law, audio, &mut self.samples);
                let samples = match &mut self.resampler {
                    None => &self.samples,
                    Some(resampler) => {
                        self.resampled.clear();
                        resampler.process(&self.samples, &mut self.resampled);
                        &self.resampled
                    }
                };
                g711::to_l16_le_into(samples, &mut self.pending);
            }
        }
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

    fn push_law(&mut self, from: Law, to: Law, audio: &[u8]) {
        let start = self.pending.len();
        self.pending.extend_from_slice(audio);
        g711::transcode_in_place(from, to, &mut self.pending[start..]);
    }
}

/// Agent audio on its way into the queue.
#[derive(Debug)]
pub(super) struct FromAgent {
    /// First half of a sample that a message cut through.
    carry: Option<u8>,
    resampler: Option<(u32, Resampler)>,
    bytes: Vec<u8>,
    samples: Vec<i16>,
    resampled: Vec<i16>,
}

impl FromAgent {
    pub(super) const fn new() -> Self {
        Self { carry: None, resampler: None, bytes: Vec::new(), samples: Vec::new(), resampled: Vec::new() }
    }

    /// Queues `audio`; returns how many bytes of the queue's law did not fit.
    pub(super) fn push(
        &mut self,
        format: AudioFormat,
        audio: &[u8],
        queue: &mut Playout,
    ) -> Result<usize, DialectError> {
        match format {
            AudioFormat::Mulaw => Ok(self.push_law(Law::Mulaw, audio, queue)),
            AudioFormat::Alaw => Ok(self.push_law(Law::Alaw, audio, queue)),
            AudioFormat::Linear16 { rate_hz } => {
                audio.chunks(PIECE_BYTES).map(|piece| self.push_linear(rate_hz, piece, queue)).sum()
            }
        }
    }

    /// Forgets what is half converted, so that nothing from before a flush is heard after it.
    pub(super) fn reset(&mut self) {
        self.carry = None;
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.reset();
        }
    }

    fn push_law(&mut self, from: Law, audio: &[u8], queue: &mut Playout) -> usize {
        let to = queue.law();
        if from == to {
            return refused(queue, audio);
        }
        let mut lost = 0;
        for piece in audio.chunks(PIECE_BYTES) {
            self.bytes.clear();
            self.bytes.extend_from_slice(piece);
            g711::transcode_in_place(from, to, &mut self.bytes);
            lost += refused(queue, &self.bytes);
        }
        lost
    }

    fn push_linear(
        &mut self,
        rate_hz: u32,
        piece: &[u8],
        queue: &mut Playout,
    ) -> Result<usize, DialectError> {
        self.samples.clear();
        let mut rest = piece;
        if let (Some(low), [high, tail @ ..]) = (self.carry, rest) {
            self.samples.push(i16::from_le_bytes([low, *high]));
            self.carry = None;
            rest = tail;
        }
        g711::l16_le_into(rest, &mut self.samples);
        if rest.len() % 2 == 1 {
            self.carry = rest.last().copied();
        }
        let samples = if rate_hz == SAMPLE_RATE_HZ {
            &self.samples
        } else {
            let is_other_rate = self.resampler.as_ref().is_none_or(|(from, _)| *from != rate_hz);
            if is_other_rate {
                let resampler = Resampler::new(rate_hz, SAMPLE_RATE_HZ).map_err(|_| DialectError::Audio)?;
                self.resampler = Some((rate_hz, resampler));
            }
            self.resampled.clear();
            if let Some((_, resampler)) = &mut self.resampler {
                resampler.process(&self.samples, &mut self.resampled);
            }
            &self.resampled
        };
        self.bytes.clear();
        g711::encode_into(queue.law(), samples, &mut self.bytes);
        Ok(refused(queue, &self.bytes))
    }
}

fn refused(queue: &mut Playout, audio: &[u8]) -> usize {
    match queue.push_audio(audio) {
        Ok(()) => 0,
        Err(full) => full.refused,
    }
}
