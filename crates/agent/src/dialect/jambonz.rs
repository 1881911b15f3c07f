//! jambonz `listen` (drachtio's mod_audio_fork): linear binary audio to the agent, binary or `playAudio` back.
//!
//! A `playAudio` replaces what is being played unless it asks to be queued, and is reported by `playDone`. Marks are
//! reported as `playout`, by a `killAudio` as `cleared`. The call itself is moved in the words of jambonz's verbs: `dial`
//! with a `target` and `sip:refer` with `referTo`; of one that fails `transferFailed` tells. `transcription`, `json` and `error` messages are for jambonz's
//! own application and are ignored; so is `clearMarks`.

use serde::Deserialize;

use super::audio_wire::{AudioWire, rate_of};
use super::media_stream::{push_digit, push_field, put};
use super::{Speak, bounded_name};
use crate::json::{Scalar, push_number, push_string};
use crate::{
    AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts, TransferMode,
};

/// Ticks of the 8 kHz clock in a millisecond: the unit of a key's duration.
const TICKS_PER_MS: u64 = 8;

#[derive(Debug)]
pub(super) struct Jambonz {
    wire: AudioWire,
    is_started: bool,
    ignored: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
    /// Of `dial` and `sip:refer`, which may stand beside the type as in jambonz's verbs.
    #[serde(borrow, default)]
    target: Vec<Target<'a>>,
    #[serde(borrow, default, rename = "referTo")]
    refer_to: Scalar<'a>,
}

/// One of whom `dial` calls.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Target<'a> {
    #[serde(borrow, default)]
    number: Scalar<'a>,
    #[serde(borrow, default)]
    sip_uri: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow, default)]
    audio_content: Scalar<'a>,
    #[serde(borrow, default)]
    audio_content_type: Scalar<'a>,
    #[serde(borrow, default)]
    sample_rate: Scalar<'a>,
    #[serde(borrow, default)]
    queue_play: Scalar<'a>,
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    name: Scalar<'a>,
    #[serde(borrow, default)]
    target: Vec<Target<'a>>,
    #[serde(borrow, default)]
    refer_to: Scalar<'a>,
}

impl Jambonz {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self { wire: AudioWire::new(config), is_started: false, ignored: 0 }
    }

    fn play(&mut self, data: &Data<'_>, sink: &mut impl FnMut(AgentCommand<'_>)) -> Result<(), DialectError> {
        let text = data.audio_content.as_str().ok_or(DialectError::Field("data.audioContent"))?;
        let id = data.id.as_str().map(bounded_name).transpose()?;
        let is_queued = data.queue_play.as_str() == Some("true");
        if !is_queued {
            self.wire.forget();
        }
        let (format, audio) = match data.audio_content_type.as_str() {
            None | Some("raw") => {
                let rate_hz = match data.sample_rate.as_str() {
                    None => rate_of(self.wire.reply),
                    Some(rate) => rate.parse().map_err(|_| DialectError::Field("data.sampleRate"))?,
                };
                let format = AudioFormat::Linear16 { rate_hz };
                (format, self.wire.decode_base64(text, format)?)
            }
            Some("wav") => self.wire.decode_wav(text, None)?,
            Some(_) => return Err(DialectError::Audio),
        };
        if !is_queued {
            sink(AgentCommand::Flush);
        }
        sink(AgentCommand::StartBuffering);
        sink(AgentCommand::Audio { format, data: audio });
        sink(AgentCommand::StopBuffering { id });
        Ok(())
    }
}

impl Speak for Jambonz {
    fn wire(&self) -> &AudioWire {
        &self.wire
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The call, and the agent's parameters beside it as `metadata` is.
    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        let call = facts.call.to_string();
        let own = [
            ("callSid", call.as_str()),
            ("from", &facts.from),
            ("to", &facts.to),
            ("callId", &facts.sip_call_id),
            ("direction", "inbound"),
            ("mixType", "mono"),
        ];
        put(out, r#"{"sampleRate":"#);
        push_number(out, u64::from(self.wire.rate_hz()));
        for (name, value) in own {
            push_field(out, name, value);
        }
        let is_free = |name: &str| name != "sampleRate" && own.iter().all(|own| own.0 != name);
        for (name, value) in facts.parameter_pairs().filter(|(name, _)| is_free(name)) {
            push_field(out, name, value);
        }
        out.push(b'}');
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, duration_ms } => {
                put(out, r#"{"event":"dtmf","dtmf":"#);
                push_digit(out, digit);
                put(out, r#","duration":""#);
                push_number(out, u64::from(duration_ms) * TICKS_PER_MS);
                put(out, r#""}"#);
            }
            AgentEvent::Completed { id } => {
                put(out, r#"{"type":"playDone","data":{"#);
                if let Some(id) = id {
                    put(out, r#""id":"#);
                    push_string(out, id);
                }
                put(out, "}}");
            }
            AgentEvent::TransferFailed { text } => {
                put(out, r#"{"type":"transferFailed","data":{"reason":"#);
                push_string(out, text);
                put(out, "}}");
            }
            AgentEvent::MarkPlayed { name, cleared } => {
                put(out, r#"{"type":"mark","data":{"name":"#);
                push_string(out, name);
                push_field(out, "event", if cleared { "cleared" } else { "playout" });
                put(out, "}}");
            }
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
            FrameKind::Binary => {
                self.wire.decode_binary(bytes, sink);
                return Ok(());
            }
            FrameKind::Close => return Ok(()),
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        let data = || envelope.data.as_ref().ok_or(DialectError::Field("data"));
        match envelope.kind.as_str() {
            Some("playAudio") => self.play(data()?, sink)?,
            Some("killAudio") => {
                self.wire.forget();
                sink(AgentCommand::Flush);
            }
            Some("mark") => {
                let name = data()?.name.as_str().ok_or(DialectError::Field("data.name"))?;
                sink(AgentCommand::Mark { name: bounded_name(name)? });
            }
            Some("disconnect") => sink(AgentCommand::Finish),
            Some("dial") => {
                let inner = || envelope.data.as_ref()?.target.first();
                let called = envelope.target.first().or_else(inner);
                let target = called.and_then(|called| called.number.as_str().or(called.sip_uri.as_str()));
                let target = target.ok_or(DialectError::Field("target"))?;
                sink(AgentCommand::Transfer { target: bounded_name(target)?, mode: TransferMode::Dial });
            }
            Some("sip:refer") => {
                let inner = envelope.data.as_ref().and_then(|data| data.refer_to.as_str());
                let target = envelope.refer_to.as_str().or(inner).ok_or(DialectError::Field("referTo"))?;
                sink(AgentCommand::Transfer { target: bounded_name(target)?, mode: TransferMode::Refer });
            }
            Some(_) | None => self.ignored += 1,
        }
        Ok(())
    }
}
