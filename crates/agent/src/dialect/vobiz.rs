//! Vobiz audio streams, bidirectional: Plivo's messages, linear audio with its most significant byte first.
//!
//! Beside Plivo's words the agent has one to end the call, `stop`; Vobiz itself says none: the close is the end.

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::MediaStream;
use super::plivo::Plivo;
use crate::{AgentCommand, AgentEvent, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Vobiz(Plivo);

impl Vobiz {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self(Plivo::new(config, facts))
    }
}

impl Speak for Vobiz {
    fn wire(&self) -> &AudioWire {
        self.0.wire()
    }

    fn ignored(&self) -> u64 {
        self.0.ignored()
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        self.0.poll_start(facts, out)
    }

    fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        self.0.encode_audio(timestamp_ms, audio, out)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        self.0.encode_event(event, out)
    }

    fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let Some(envelope) = MediaStream::read(kind, bytes)? else { return Ok(()) };
        if envelope.event() == Some("stop") {
            sink(AgentCommand::Finish);
            return Ok(());
        }
        self.0.apply(&envelope, sink)
    }
}
