//! G.722 against implementations that nobody here wrote: half a second of speech, noise at full scale, a square wave
//! and silence, coded and decoded by ffmpeg 5.1. spandsp 0.0.6 codes it to the same bytes and decodes them to the same
//! samples, but for overloads, where it wraps and the recommendation does not.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use tandem_media::g722::{Decoder, Encoder};

const SAID: &[u8] = include_bytes!("g722/said.s16");
const CODED: &[u8] = include_bytes!("g722/coded.g722");
const HEARD: &[u8] = include_bytes!("g722/heard.s16");

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes(pair.try_into().unwrap())).collect()
}

#[test]
fn what_is_coded_is_the_same_to_the_bit_however_it_is_cut() {
    let said = samples(SAID);
    for piece in [2, 320, said.len()] {
        let (mut encoder, mut coded) = (Encoder::default(), Vec::new());
        said.chunks(piece).for_each(|piece| encoder.encode(piece, &mut coded));
        let differs = coded.iter().zip(CODED).position(|(ours, theirs)| ours != theirs);
        assert_eq!((coded.len(), differs), (CODED.len(), None));
    }
}

#[test]
fn what_is_decoded_is_the_same_to_the_bit_however_it_is_cut() {
    for piece in [1, 160, CODED.len()] {
        let (mut decoder, mut heard) = (Decoder::default(), Vec::new());
        CODED.chunks(piece).for_each(|piece| decoder.decode(piece, |sample| heard.push(sample)));
        let differs = heard.iter().zip(samples(HEARD)).position(|(ours, theirs)| *ours != theirs);
        assert_eq!((heard.len(), differs), (HEARD.len() / 2, None));
    }
}
