//! Bolna's patched mod_audio_stream: linear 16-bit binary towards the agent, JSON `streamAudio` back.
//!
//! Marks are reported as `markPlayed`, by a `killAudio` with `"cleared":true`. The agent says goodbye by closing.
//! Compressed audio (`mp3`, `ogg`) is refused; the upstream module can decode it, Bolna never sends it.

use serde::Deserialize;

use super::audio_wire::AudioWire;
use super::{Speak, bounded_name};
use crate::json::{Scalar, push_number, push_string};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

/// The rate of `streamAudio` that names none.
const DEFAULT_RATE_HZ: u32 = 24_000;

#[derive(Debug)]
pub(super) struct Bolna {
    wire: AudioWire,
    is_started: bool,
    ignored: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    name: Scalar<'a>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow, default)]
    audio_data_type: Scalar<'a>,
    #[serde(borrow, default)]
    sample_rate: Scalar<'a>,
    #[serde(borrow, default)]
    audio_data: Scalar<'a>,
}

impl Speak for Bolna {
    fn wire(&self) -> &AudioWire {
        &self.wire
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The metadata text, which the agent logs and otherwise leaves alone; it must not carry a `type`.
    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        let call = facts.call.to_string();
        let own = [
            ("call_sid", call.as_str()),
            ("execution_id", &call),
            ("agent_id", &facts.agent),
            ("from", &facts.from),
            ("to", &facts.to),
            ("sip_call_id", &facts.sip_call_id),
        ];
        out.push(b'{');
        for (name, value) in own {
            push_string(out, name);
            out.push(b':');
            push_string(out, value);
            out.push(b',');
        }
        out.extend_from_slice(br#""sample_rate":"#);
        push_number(out, u64::from(self.wire.rate_hz()));
        let is_free =
            |name: &str| name != "type" && name != "sample_rate" && own.iter().all(|own| own.0 != name);
        for (name, value) in facts.parameters.iter().filter(|(name, _)| is_free(name)) {
            out.push(b',');
            push_string(out, name);
            out.push(b':');
            push_string(out, value);
        }
        out.push(b'}');
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, .. } => {
                out.extend_from_slice(br#"{"type":"dtmf","digit":"#);
                push_string(out, digit.encode_utf8(&mut [0; 4]));
                out.push(b'}');
            }
            AgentEvent::MarkPlayed { name, cleared } => {
                out.extend_from_slice(br#"{"type":"markPlayed","name":"#);
                push_string(out, name);
                out.extend_from_slice(if cleared { br#","cleared":true}"# } else { b"}" });
            }
            AgentEvent::PlayoutDone => out.extend_from_slice(br#"{"type":"playoutDone"}"#),
            _ => return None,
        }
        Some(FrameKind::Text)
    }

    fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        match kind {
            FrameKind::Text => {}
            FrameKind::Binary => return Err(DialectError::FrameKind),
            FrameKind::Close => return Ok(()),
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        match envelope.kind.as_str() {
            Some("streamAudio") => {
                let data = envelope.data.as_ref().ok_or(DialectError::Field("data"))?;
                self.decode_audio(data, sink)?;
            }
            Some("mark") => {
                let name = envelope.name.as_str().ok_or(DialectError::Field("name"))?;
                sink(AgentCommand::Mark { name: bounded_name(name)? });
            }
            Some("killAudio") => {
                self.wire.forget();
                sink(AgentCommand::Flush);
            }
            // Pipecat's RTVI messages, among others, come without one.
            Some(_) | None => self.ignored += 1,
        }
        Ok(())
    }
}

impl Bolna {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self { wire: AudioWire::new(config), is_started: false, ignored: 0 }
    }

    fn decode_audio(
        &mut self,
        data: &Data<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let text = data.audio_data.as_str().ok_or(DialectError::Field("data.audioData"))?;
        let (format, data) = match data.audio_data_type.as_str() {
            None | Some("raw") => {
                let rate_hz = match data.sample_rate.as_str() {
                    None => DEFAULT_RATE_HZ,
                    Some(rate) => rate.parse().map_err(|_| DialectError::Field("data.sampleRate"))?,
                };
                let format = AudioFormat::Linear16 { rate_hz };
                (format, self.wire.decode_base64(text, format)?)
            }
            Some("wav") => self.wire.decode_wav(text, None)?,
            Some(_) => return Err(DialectError::Audio),
        };
        sink(AgentCommand::Audio { format, data });
        Ok(())
    }
}
