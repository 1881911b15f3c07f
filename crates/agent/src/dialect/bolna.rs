//! Bolna's patched mod_audio_stream: linear 16-bit binary towards the agent, JSON `streamAudio` back.
//!
//! Marks are reported as `markPlayed`, by a `killAudio` with `"cleared":true`. The agent says goodbye by closing.
//! Compressed audio (`mp3`, `ogg`) is refused; the upstream module can decode it, Bolna never sends it.

use serde::Deserialize;

use super::bounded_name;
use crate::json::{Scalar, push_number, push_string};
use crate::payload::decode_base64;
use crate::wav::{self, Wav};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

/// The rate of `streamAudio` that names none.
const DEFAULT_RATE_HZ: u32 = 24_000;

/// Rates that the resampler has filters for.
const RATES_HZ: [u32; 4] = [8000, 16_000, 24_000, 48_000];

#[derive(Debug)]
pub(super) struct Bolna {
    format: AudioFormat,
    is_started: bool,
    scratch: Vec<u8>,
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

impl Bolna {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self { format: config.encoding().format(), is_started: false, scratch: Vec::new(), ignored: 0 }
    }

    /// The metadata text, which the agent logs and otherwise leaves alone; it must not carry a `type`.
    pub(super) fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
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
        push_number(out, (self.format.bytes_per_ms() * 1000 / self.format.bytes_per_sample()) as u64);
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

    pub(super) fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
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
            AgentEvent::Completed { .. }
            | AgentEvent::QueueDrained
            | AgentEvent::Xoff
            | AgentEvent::Xon
            | AgentEvent::Status(_)
            | AgentEvent::Error { .. }
            | AgentEvent::Stop => return None,
        }
        Some(FrameKind::Text)
    }

    pub(super) fn decode(
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
            Some("killAudio") => sink(AgentCommand::Flush),
            // Pipecat's RTVI messages, among others, come without one.
            Some(_) | None => self.ignored += 1,
        }
        Ok(())
    }

    pub(super) const fn format(&self) -> AudioFormat {
        self.format
    }

    pub(super) const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn decode_audio(
        &mut self,
        data: &Data<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let text = data.audio_data.as_str().ok_or(DialectError::Field("data.audioData"))?;
        let (format, is_stereo, range) = match data.audio_data_type.as_str() {
            None | Some("raw") => {
                let rate_hz = match data.sample_rate.as_str() {
                    None => DEFAULT_RATE_HZ,
                    Some(rate) => rate.parse().map_err(|_| DialectError::Field("data.sampleRate"))?,
                };
                decode_base64(text, &mut self.scratch)?;
                (AudioFormat::Linear16 { rate_hz }, false, 0..self.scratch.len())
            }
            Some("wav") => {
                let bytes = decode_base64(text, &mut self.scratch)?;
                let Wav { format, channels, data } = wav::parse(bytes)?;
                (format, channels == 2, data)
            }
            Some(_) => return Err(DialectError::Audio),
        };
        if let AudioFormat::Linear16 { rate_hz } = format
            && !RATES_HZ.contains(&rate_hz)
        {
            return Err(DialectError::Audio);
        }
        let samples = &mut self.scratch[range];
        let length = if is_stereo { mix_down(samples) } else { samples.len() };
        sink(AgentCommand::Audio { format, data: &samples[..length] });
        Ok(())
    }
}

/// Turns interleaved stereo into mono in place; returns its length in bytes.
fn mix_down(samples: &mut [u8]) -> usize {
    let frames = samples.len() / 4;
    for frame in 0..frames {
        let at = frame * 4;
        let left = i32::from(i16::from_le_bytes([samples[at], samples[at + 1]]));
        let right = i32::from(i16::from_le_bytes([samples[at + 2], samples[at + 3]]));
        let mono = ((left + right) / 2) as i16;
        samples[frame * 2..frame * 2 + 2].copy_from_slice(&mono.to_le_bytes());
    }
    frames * 2
}
