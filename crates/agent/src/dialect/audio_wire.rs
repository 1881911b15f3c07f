//! Audio between the bridge and the wire of a dialect: base64 or bare, in either byte order, in a WAV or not.
//!
//! Inside, linear audio is little-endian; a sample that a big-endian message cuts in two is kept until its other half
//! comes. It converts no rates and no laws: the bridge does.

use crate::payload::{decode_base64, push_base64};
use crate::wav::{self, Wav};
use crate::{AgentCommand, AudioFormat, ByteOrder, DialectConfig, DialectError};

/// Rates of linear audio that the bridge has filters for.
const RATES_HZ: [u32; 4] = [8000, 16_000, 24_000, 48_000];

/// Both directions of one stream's audio.
#[derive(Debug)]
pub(super) struct AudioWire {
    /// The coding towards the agent.
    pub(super) format: AudioFormat,
    /// The coding from the agent, where a message does not say otherwise.
    pub(super) reply: AudioFormat,
    order: ByteOrder,
    scratch: Vec<u8>,
    swapped: Vec<u8>,
    /// The first half of a big-endian sample from the agent.
    carry: Option<u8>,
}

impl AudioWire {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self {
            format: config.encoding().format(),
            reply: config.reply_encoding().format(),
            order: config.byte_order(),
            scratch: Vec::new(),
            swapped: Vec::new(),
            carry: None,
        }
    }

    /// Samples a second towards the agent.
    pub(super) const fn rate_hz(&self) -> u32 {
        rate_of(self.format)
    }

    /// Refuses a coding from the agent that the bridge could not take.
    pub(super) fn check_reply(&self) -> Result<(), DialectError> {
        check_rate(self.reply)
    }

    /// Forgets half a sample, so that nothing from before a flush is heard after it.
    pub(super) const fn forget(&mut self) {
        self.carry = None;
    }

    /// Appends caller audio as base64.
    pub(super) fn push_base64(&mut self, audio: &[u8], out: &mut Vec<u8>) {
        if self.is_swapped(self.format) {
            self.swapped.clear();
            swap_into(audio, &mut self.swapped);
            push_base64(out, &self.swapped);
        } else {
            push_base64(out, audio);
        }
    }

    /// Appends caller audio as it is.
    pub(super) fn push_binary(&self, audio: &[u8], out: &mut Vec<u8>) {
        if self.is_swapped(self.format) { swap_into(audio, out) } else { out.extend_from_slice(audio) }
    }

    /// Reads base64 of the agent, coded in `format`.
    pub(super) fn decode_base64(&mut self, text: &str, format: AudioFormat) -> Result<&[u8], DialectError> {
        check_rate(format)?;
        let is_swapped = self.is_swapped(format);
        let bytes = decode_base64(text, &mut self.scratch)?;
        Ok(if is_swapped { swap_on(bytes, &mut self.carry, &mut self.swapped) } else { bytes })
    }

    /// Reads bare audio of the agent.
    pub(super) fn decode_binary(&mut self, bytes: &[u8], sink: &mut impl FnMut(AgentCommand<'_>)) {
        let format = self.reply;
        let data =
            if self.is_swapped(format) { swap_on(bytes, &mut self.carry, &mut self.swapped) } else { bytes };
        sink(AgentCommand::Audio { format, data });
    }

    /// Reads base64 of a WAV file; of bare little-endian samples at `rate_hz` if it is none.
    pub(super) fn decode_wav(
        &mut self,
        text: &str,
        rate_hz: Option<u32>,
    ) -> Result<(AudioFormat, &[u8]), DialectError> {
        decode_base64(text, &mut self.scratch)?;
        if let (Some(rate_hz), false) = (rate_hz, self.scratch.starts_with(b"RIFF")) {
            let format = AudioFormat::Linear16 { rate_hz };
            check_rate(format)?;
            return Ok((format, &self.scratch));
        }
        let Wav { format, channels, data } = wav::parse(&self.scratch)?;
        check_rate(format)?;
        let samples = &mut self.scratch[data];
        let length = if channels == 2 { mix_down(samples) } else { samples.len() };
        Ok((format, &samples[..length]))
    }

    fn is_swapped(&self, format: AudioFormat) -> bool {
        self.order == ByteOrder::Big && matches!(format, AudioFormat::Linear16 { .. })
    }
}

/// Samples a second of a coding.
pub(super) const fn rate_of(format: AudioFormat) -> u32 {
    match format {
        AudioFormat::Mulaw | AudioFormat::Alaw => 8000,
        AudioFormat::Linear16 { rate_hz } => rate_hz,
    }
}

fn check_rate(format: AudioFormat) -> Result<(), DialectError> {
    if RATES_HZ.contains(&rate_of(format)) { Ok(()) } else { Err(DialectError::Audio) }
}

fn swap_into(audio: &[u8], out: &mut Vec<u8>) {
    out.reserve(audio.len());
    out.extend(audio.chunks_exact(2).flat_map(|sample| [sample[1], sample[0]]));
}

/// Swaps what `carry` and `audio` hold in whole samples; the half that is left is carried on.
fn swap_on<'a>(audio: &[u8], carry: &mut Option<u8>, swapped: &'a mut Vec<u8>) -> &'a [u8] {
    swapped.clear();
    let mut rest = audio;
    if let (Some(high), [low, tail @ ..]) = (*carry, rest) {
        swapped.extend_from_slice(&[*low, high]);
        *carry = None;
        rest = tail;
    }
    swap_into(rest, swapped);
    if rest.len() % 2 == 1 {
        *carry = rest.last().copied();
    }
    swapped
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DialectKind;

    #[test]
    fn big_endian_samples_survive_any_cut() {
        let mut config = DialectConfig::new(DialectKind::Asterisk);
        config.encoding = Some(crate::Encoding::Slin);
        config.byte_order = Some(ByteOrder::Big);
        let mut wire = AudioWire::new(&config);
        let native: Vec<u8> = (0..32).collect();
        let mut sent = Vec::new();
        wire.push_binary(&native, &mut sent);
        assert_eq!(sent[..4], [1, 0, 3, 2]);
        let hear = |wire: &mut AudioWire, bytes: &[u8], heard: &mut Vec<u8>| {
            wire.decode_binary(bytes, &mut |command| match command {
                AgentCommand::Audio { data, .. } => heard.extend_from_slice(data),
                other => panic!("{other:?}"),
            });
        };
        for cut in 0..sent.len() {
            let mut heard = Vec::new();
            hear(&mut wire, &sent[..cut], &mut heard);
            hear(&mut wire, &sent[cut..], &mut heard);
            assert_eq!(heard, native, "cut at {cut}");
        }
        let mut heard = Vec::new();
        hear(&mut wire, &[9], &mut heard);
        wire.forget();
        hear(&mut wire, &sent, &mut heard);
        assert_eq!(heard, native);
    }
}
