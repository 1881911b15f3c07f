//! AudioSocket: kinds and lengths over TCP, not a WebSocket; linear audio, keys, and the end.
//!
//! A message here is one frame with its three bytes of head; [`audiosocket_frame_bytes`] cuts a stream into them. There are no
//! marks and no clear: what the agent sends is queued, so that it may burst although AudioSocket would have it paced.

use super::Speak;
use super::audio_wire::AudioWire;
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

/// A frame's kind and length.
const HEAD_BYTES: usize = 3;

const HANG_UP: u8 = 0x00;
const IDENTIFIER: u8 = 0x01;
const KEY: u8 = 0x03;
const ERROR: u8 = 0xff;

/// The kinds of audio by their rates; those without a filter are told apart only to be refused.
const AUDIO: [(u8, u32); 9] = [
    (0x10, 8000),
    (0x11, 12_000),
    (0x12, 16_000),
    (0x13, 24_000),
    (0x14, 32_000),
    (0x15, 44_100),
    (0x16, 48_000),
    (0x17, 96_000),
    (0x18, 192_000),
];

/// How many bytes the first frame of `stream` has, head and all; nothing while its head is not there.
#[must_use]
pub fn audiosocket_frame_bytes(stream: &[u8]) -> Option<usize> {
    let [_, high, low, ..] = stream else { return None };
    Some(HEAD_BYTES + usize::from(u16::from_be_bytes([*high, *low])))
}

#[derive(Debug)]
pub(super) struct AudioSocket {
    wire: AudioWire,
    is_started: bool,
    ignored: u64,
}

impl AudioSocket {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self { wire: AudioWire::new(config), is_started: false, ignored: 0 }
    }
}

impl Speak for AudioSocket {
    fn wire(&self) -> &AudioWire {
        &self.wire
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        push_head(IDENTIFIER, 16, out);
        out.extend_from_slice(facts.call.as_bytes());
        Some(FrameKind::Binary)
    }

    fn encode_audio(&mut self, _timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        let kind = AUDIO.iter().find(|(_, rate_hz)| *rate_hz == self.wire.rate_hz())?.0;
        push_head(kind, u16::try_from(audio.len()).ok()?, out);
        self.wire.push_binary(audio, out);
        Some(FrameKind::Binary)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, .. } => {
                push_head(KEY, 1, out);
                out.push(u8::try_from(digit).unwrap_or(b'?'));
            }
            AgentEvent::Stop => push_head(HANG_UP, 0, out),
            _ => return None,
        }
        Some(FrameKind::Binary)
    }

    fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        match kind {
            FrameKind::Text => return Err(DialectError::FrameKind),
            FrameKind::Binary => {}
            FrameKind::Close => return Ok(()),
        }
        if audiosocket_frame_bytes(bytes) != Some(bytes.len()) {
            return Err(DialectError::Field("length"));
        }
        let (kind, payload) = (bytes[0], &bytes[HEAD_BYTES..]);
        match kind {
            HANG_UP => sink(AgentCommand::Finish),
            KEY => match std::str::from_utf8(payload) {
                Ok(digits) if super::is_dial_string(digits) && digits.len() == 1 => {
                    sink(AgentCommand::SendDtmf { digits });
                }
                _ => return Err(DialectError::Field("key")),
            },
            ERROR => self.ignored += 1,
            _ => match AUDIO.iter().find(|(audio, _)| *audio == kind) {
                Some((_, rate_hz)) => {
                    self.wire.reply = AudioFormat::Linear16 { rate_hz: *rate_hz };
                    self.wire.check_reply()?;
                    self.wire.decode_binary(payload, sink);
                }
                None => self.ignored += 1,
            },
        }
        Ok(())
    }
}

fn push_head(kind: u8, length: u16, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
}
