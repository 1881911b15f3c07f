//! Between the payloads of a trunk and audio in memory: each payload decoded or coded in its order, and brought to the
//! form its owner holds.
//!
//! G.711 that its owner holds as it is passes bit for bit. No RTP and no timing here.

use crate::codec::{Codec, Coding};
use crate::convert::Converter;
use crate::g722;

/// Reads the payloads of one stream, whichever codecs it mixes.
#[derive(Debug)]
pub struct PayloadReader {
    to: Coding,
    g722: Option<Box<g722::Decoder>>,
    /// For the coding that was last met beside `to`.
    converter: Option<Box<Converter>>,
    linear: Vec<u8>,
}

impl PayloadReader {
    /// A reader whose audio has the form `to`.
    pub fn new(to: Coding) -> Self {
        Self { to, g722: None, converter: None, linear: Vec::new() }
    }

    /// Appends the audio of one payload: as many milliseconds as the payload has, exactly.
    pub fn read(&mut self, codec: Codec, payload: &[u8], out: &mut Vec<u8>) {
        match codec {
            Codec::G711(_) if codec.coding() == self.to => out.extend_from_slice(payload),
            Codec::G711(_) => convert(&mut self.converter, codec.coding(), self.to, payload, out),
            Codec::G722 => {
                let decoder = self.g722.get_or_insert_default();
                if codec.coding() == self.to {
                    decoder.decode(payload, |sample| out.extend_from_slice(&sample.to_le_bytes()));
                } else {
                    self.linear.clear();
                    decoder.decode(payload, |sample| self.linear.extend_from_slice(&sample.to_le_bytes()));
                    convert(&mut self.converter, codec.coding(), self.to, &self.linear, out);
                }
            }
        }
    }

    /// Forgets the past: another source speaks.
    pub fn restart(&mut self) {
        self.g722 = None;
        if let Some(converter) = &mut self.converter {
            converter.reset();
        }
    }
}

/// Writes the payloads of one stream.
#[derive(Debug)]
pub struct PayloadWriter {
    from: Coding,
    g722: Option<Box<g722::Encoder>>,
    converter: Option<Box<Converter>>,
    linear: Vec<u8>,
    samples: Vec<i16>,
}

impl PayloadWriter {
    /// A writer of audio that has the form `from`.
    pub fn new(from: Coding) -> Self {
        Self { from, g722: None, converter: None, linear: Vec::new(), samples: Vec::new() }
    }

    /// Appends the payload of `audio`.
    pub fn write(&mut self, codec: Codec, audio: &[u8], out: &mut Vec<u8>) {
        match codec {
            Codec::G711(_) if codec.coding() == self.from => out.extend_from_slice(audio),
            Codec::G711(_) => convert(&mut self.converter, self.from, codec.coding(), audio, out),
            Codec::G722 => {
                let mut linear = audio;
                if codec.coding() != self.from {
                    self.linear.clear();
                    convert(&mut self.converter, self.from, codec.coding(), audio, &mut self.linear);
                    linear = &self.linear;
                }
                self.samples.clear();
                crate::g711::l16_le_into(linear, &mut self.samples);
                self.g722.get_or_insert_default().encode(&self.samples, out);
            }
        }
    }
}

fn convert(
    converter: &mut Option<Box<Converter>>,
    from: Coding,
    to: Coding,
    audio: &[u8],
    out: &mut Vec<u8>,
) {
    let is_fit = converter.as_ref().is_some_and(|converter| converter.from() == from && converter.to() == to);
    if !is_fit {
        *converter = Some(Box::new(Converter::new(from, to).expect("codecs have rates that have filters")));
    }
    if let Some(converter) = converter {
        converter.convert(audio, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Law;

    /// 20 ms payloads of any codec become 20 ms of any form, and the other way round.
    #[test]
    fn lengths_are_exact_whatever_meets() {
        for held in Codec::ALL.map(Codec::coding) {
            let (mut reader, mut writer) = (PayloadReader::new(held), PayloadWriter::new(held));
            for round in 0..30 {
                let codec = Codec::ALL[round / 10];
                let mut audio = Vec::new();
                reader.read(codec, &[0x5A; 160], &mut audio);
                assert_eq!(audio.len(), held.bytes_per_ms() * 20, "{codec:?} to {held:?}");
                let mut payload = Vec::new();
                writer.write(codec, &audio, &mut payload);
                assert_eq!(payload.len(), 160, "{held:?} to {codec:?}");
            }
        }
    }

    #[test]
    fn g711_that_is_held_as_it_is_passes_bit_for_bit() {
        let payload: Vec<u8> = (0..160).collect();
        let coding = Coding::G711(Law::Alaw);
        let mut audio = Vec::new();
        PayloadReader::new(coding).read(Codec::PCMA, &payload, &mut audio);
        assert_eq!(audio, payload);
        let mut sent = Vec::new();
        PayloadWriter::new(coding).write(Codec::PCMA, &audio, &mut sent);
        assert_eq!(sent, payload);
    }
}
