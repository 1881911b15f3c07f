//! 20 ms from one form of audio to another, and what is listened for in it.

use tandem_media::payload::{PayloadReader, PayloadWriter};
use tandem_media::tones::ToneDetector;
use tandem_media::voice::VoiceDetector;
use tandem_media::{Codec, Coding, Converter, Law};

use super::Step;

/// Frames before the steady state: past the growth of every reused buffer.
const WARM_UP: usize = 50;

fn coding(name: &str) -> Coding {
    match name {
        "ulaw" => Coding::G711(Law::Mulaw),
        "alaw" => Coding::G711(Law::Alaw),
        "slin" => Coding::Linear { rate_hz: 8_000 },
        "slin16" => Coding::Linear { rate_hz: 16_000 },
        "slin24" => Coding::Linear { rate_hz: 24_000 },
        "slin48" => Coding::Linear { rate_hz: 48_000 },
        other => panic!("{other}: no such form"),
    }
}

/// 20 ms of a form; any bytes will do.
fn audio(coding: Coding) -> Vec<u8> {
    (0..coding.bytes_per_ms() * 20).map(|at| (at * 37 / 5) as u8).collect()
}

fn ready(mut step: impl FnMut() + 'static) -> Step {
    (0..WARM_UP).for_each(|_| step());
    Box::new(step)
}

/// `pair` is `FROM to TO`.
pub(super) fn convert(pair: &str) -> Step {
    let (from, to) = pair.split_once(" to ").expect("two forms");
    let (from, to) = (coding(from), coding(to));
    let mut converter = Converter::new(from, to).expect("served rates");
    let (audio, mut out) = (audio(from), Vec::new());
    ready(move || {
        out.clear();
        converter.convert(std::hint::black_box(&audio), &mut out);
        assert_eq!(out.len(), to.bytes_per_ms() * 20);
    })
}

pub(super) fn encode_g722() -> Step {
    let held = Codec::G722.coding();
    let mut writer = PayloadWriter::new(held);
    let (audio, mut out) = (audio(held), Vec::new());
    ready(move || {
        out.clear();
        writer.write(Codec::G722, std::hint::black_box(&audio), &mut out);
        assert_eq!(out.len(), 160);
    })
}

pub(super) fn decode_g722() -> Step {
    let mut reader = PayloadReader::new(Codec::G722.coding());
    let (payload, mut out) = (audio(Coding::G711(Law::Mulaw)), Vec::new());
    ready(move || {
        out.clear();
        reader.read(Codec::G722, std::hint::black_box(&payload), &mut out);
        assert_eq!(out.len(), 640);
    })
}

pub(super) fn seek_keys() -> Step {
    let coding = Coding::G711(Law::Mulaw);
    let mut detector = ToneDetector::new(coding);
    let audio = audio(coding);
    ready(move || detector.push(std::hint::black_box(&audio), |digit| panic!("{digit:?} in noise")))
}

pub(super) fn judge_voice() -> Step {
    let coding = Coding::G711(Law::Mulaw);
    let mut detector = VoiceDetector::new(coding);
    let audio = audio(coding);
    ready(move || {
        std::hint::black_box(detector.push(std::hint::black_box(&audio)));
    })
}
