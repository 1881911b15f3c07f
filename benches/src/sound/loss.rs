//! Packets that are lost, at random or in bursts, and what is heard of the rest by each way to conceal it.

use tandem_media::conceal::Concealer;
use tandem_media::payload::{PayloadReader, PayloadWriter};
use tandem_media::{Codec, Coding, g711};

use super::appendix_i::AppendixI;

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Each by itself.
    Random,
    /// In runs of three on average, as Gilbert's model has them.
    Burst,
}

/// Which of `packets` are lost: about `share` of them, the same each time.
#[must_use]
pub fn lost(pattern: Pattern, share: f64, packets: usize, seed: u64) -> Vec<bool> {
    let mut state = seed;
    let mut dice = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let mut is_lost = false;
    (0..packets)
        .map(|_| {
            let chance = match (pattern, is_lost) {
                (Pattern::Random, _) => share,
                (Pattern::Burst, true) => 2.0 / 3.0,
                (Pattern::Burst, false) => share / (3.0 * (1.0 - share)),
            };
            is_lost = dice() < chance;
            is_lost
        })
        .collect()
}

/// A way to stand in for what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Tandem's.
    Tandem,
    /// ITU-T G.711 Appendix I.
    AppendixI,
    /// The last frame again, as it was.
    Repeat,
    /// Nothing.
    Silence,
}

impl Method {
    /// All of them, ours first.
    pub const ALL: [Self; 4] = [Self::Tandem, Self::AppendixI, Self::Repeat, Self::Silence];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tandem => "tandem",
            Self::AppendixI => "Appendix I",
            Self::Repeat => "repeat",
            Self::Silence => "silence",
        }
    }
}

/// What is heard of `samples` through `codec` when `lost` says which 20 ms of it do not come.
#[must_use]
pub fn heard(codec: Codec, samples: &[i16], lost: &[bool], method: Method) -> Vec<i16> {
    let coding = codec.coding();
    let frame = (coding.rate_hz() / 50) as usize;
    let linear = Coding::Linear { rate_hz: coding.rate_hz() };
    let mut writer = PayloadWriter::new(linear);
    let mut reader = PayloadReader::new(coding);
    let mut concealer = Concealer::new(coding);
    let mut appendix = AppendixI::default();
    let mut last = vec![coding.silence(); coding.bytes_per_ms() * 20];
    let mut out = Vec::new();
    for (samples, is_lost) in samples.chunks_exact(frame).zip(lost) {
        let (mut bytes, mut payload) = (Vec::new(), Vec::new());
        g711::to_l16_le_into(samples, &mut bytes);
        writer.write(codec, &bytes, &mut payload);
        let mut audio = Vec::new();
        if !is_lost {
            reader.read(codec, &payload, &mut audio);
        }
        if method == Method::AppendixI {
            let samples = (!is_lost).then(|| decoded(coding, &audio));
            out.extend(appendix.frame(samples.as_deref()));
            continue;
        }
        match (is_lost, method) {
            (false, Method::Tandem) => concealer.heard(&mut audio),
            (false, _) => {}
            (true, Method::Tandem) => {
                audio.resize(last.len(), 0);
                concealer.make_up(&mut audio);
            }
            (true, Method::Repeat) => audio.clone_from(&last),
            (true, _) => audio.resize(last.len(), coding.silence()),
        }
        out.extend(decoded(coding, &audio));
        last = audio;
    }
    out
}

fn decoded(coding: Coding, audio: &[u8]) -> Vec<i16> {
    let mut samples = Vec::new();
    match coding {
        Coding::G711(law) => g711::decode_into(law, audio, &mut samples),
        Coding::Linear { .. } => g711::l16_le_into(audio, &mut samples),
    }
    samples
}
