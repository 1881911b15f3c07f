//! G.722 at 64 kbit/s: 16 kHz audio in as many bytes as G.711 needs for 8 kHz.
//!
//! Two sub-bands of a quadrature mirror filter, each coded by adaptive differential PCM: six bits for the lower,
//! two for the upper. Both directions carry state, so payloads must be coded and decoded in their order. It does no
//! packetization and no concealment; the lower rates of mode 2 and 3, which RTP does not know, are not spoken.
//!
//! ITU-T G.722 (09/2012), whose block names the comments give; RTP clock of 8000 Hz in spite of the 16 kHz audio from
//! RFC 3551 section 4.5.2.

/// Samples of 16 kHz audio in each byte.
pub const SAMPLES_PER_BYTE: usize = 2;
/// Samples a second.
pub const RATE_HZ: u32 = 16_000;

/// Taps of each half of the quadrature mirror filter (table 3/G.722).
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
/// Decision levels of the lower band's quantizer.
const DECISIONS: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121,
    1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Codes of the lower band by interval, for negative and for positive differences.
const LOW_NEGATIVE: [u8; 31] = [
    0, 63, 62, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8,
    7, 6, 5, 4,
];
const LOW_POSITIVE: [u8; 31] = [
    0, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37,
    36, 35, 34, 33, 32,
];
/// Output levels of the lower band for six bits, and for the four that adapt it.
const LOW_OUT_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
const LOW_OUT_4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// How each of the sixteen moves the logarithm of the step.
const LOW_STEP: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// The upper band's output levels and moves, by code.
const HIGH_OUT: [i32; 4] = [-7408, -1616, 7408, 1616];
const HIGH_STEP: [i32; 4] = [798, -214, 798, -214];
/// The upper band's one decision level.
const HIGH_DECISION: i32 = 564;
/// Powers of two in 32 steps, from 2048.
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// What tells the two bands apart.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Most that the step's logarithm may be, and the power of two that 2048 stands for.
    log_max: i32,
    exponent: i32,
}

const LOW: Shape = Shape { log_max: 18_432, exponent: 8 };
const HIGH: Shape = Shape { log_max: 22_528, exponent: 10 };

/// The adaptive predictor and quantizer step of one band; the same in coder and decoder.
#[derive(Debug, Clone)]
struct Band {
    /// The predicted sample, and the part of it that the zeros predict.
    predicted: i32,
    from_zeros: i32,
    /// The last two reconstructed samples and partially reconstructed ones.
    reconstructed: [i32; 2],
    partial: [i32; 2],
    poles: [i32; 2],
    differences: [i32; 6],
    zeros: [i32; 6],
    log_step: i32,
    step: i32,
}

impl Band {
    const fn new(step: i32) -> Self {
        Self {
            predicted: 0,
            from_zeros: 0,
            reconstructed: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
            log_step: 0,
            step,
        }
    }

    /// LOGSCL and SCALEL, or LOGSCH and SCALEH.
    fn adapt_step(&mut self, shape: Shape, by: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + by).clamp(0, shape.log_max);
        let power = POWERS[(self.log_step >> 6 & 31) as usize];
        let shift = shape.exponent - (self.log_step >> 11);
        self.step = if shift < 0 { power << -shift } else { power >> shift } << 2;
    }

    /// Block 4: takes the quantized difference and predicts the next sample.
    fn adapt(&mut self, difference: i32) {
        let reconstructed = saturate(self.predicted + difference);
        let partial = saturate(self.from_zeros + difference);
        self.poles = self.next_poles(partial);
        self.adapt_zeros(difference);
        self.partial = [partial, self.partial[0]];
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        let half = |gain: i32, sample: i32| (gain * saturate(2 * sample)) >> 15;
        // FILTEP, FILTEZ, PREDIC
        let from_poles =
            saturate(half(self.poles[0], self.reconstructed[0]) + half(self.poles[1], self.reconstructed[1]));
        let from_zeros = self.zeros.iter().zip(&self.differences).map(|(zero, sample)| half(*zero, *sample));
        self.from_zeros = saturate(from_zeros.sum());
        self.predicted = saturate(from_poles + self.from_zeros);
    }

    /// UPPOL2 and UPPOL1.
    fn next_poles(&self, partial: i32) -> [i32; 2] {
        let same = |earlier: i32| (partial < 0) == (earlier < 0);
        let first = saturate(self.poles[0] << 2);
        let first = if same(self.partial[0]) { -first } else { first }.min(32_767);
        let toward = if same(self.partial[1]) { 128 } else { -128 };
        let second = (toward + (first >> 7) + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        let toward = if same(self.partial[0]) { 192 } else { -192 };
        let bound = saturate(15_360 - second);
        let first = saturate(toward + ((self.poles[0] * 32_640) >> 15)).clamp(-bound, bound);
        [first, second]
    }

    /// UPZERO.
    fn adapt_zeros(&mut self, difference: i32) {
        let toward = if difference == 0 { 0 } else { 128 };
        for (zero, earlier) in self.zeros.iter_mut().zip(&self.differences) {
            let toward = if (*earlier < 0) == (difference < 0) { toward } else { -toward };
            *zero = saturate(toward + ((*zero * 32_640) >> 15));
        }
    }
}

/// Turns 16 kHz audio into G.722.
#[derive(Debug, Clone)]
pub struct Encoder {
    low: Band,
    high: Band,
    filter: Filter,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { low: Band::new(32), high: Band::new(8), filter: Filter::default() }
    }
}

impl Encoder {
    /// Appends one byte for each two samples; a last odd one is left out.
    pub fn encode(&mut self, samples: &[i16], bytes: &mut Vec<u8>) {
        bytes.extend(samples.chunks_exact(SAMPLES_PER_BYTE).map(|pair| self.encode_pair(pair[0], pair[1])));
    }

    fn encode_pair(&mut self, first: i16, second: i16) -> u8 {
        let (odd, even) = self.filter.push(i32::from(first), i32::from(second));
        self.encode_low((even + odd) >> 14) | self.encode_high((even - odd) >> 14) << 6
    }

    fn encode_low(&mut self, sample: i32) -> u8 {
        let band = &mut self.low;
        let difference = saturate(sample - band.predicted);
        let magnitude = if difference < 0 { !difference } else { difference };
        // The levels rise: how many lie at or below is the interval.
        let above = |level: &i32| magnitude < (level * band.step) >> 12;
        let interval = DECISIONS[1..].iter().position(above).map_or(30, |at| at + 1);
        let code = if difference < 0 { LOW_NEGATIVE[interval] } else { LOW_POSITIVE[interval] };
        let adapting = usize::from(code >> 2);
        let quantized = (band.step * LOW_OUT_4[adapting]) >> 15;
        band.adapt_step(LOW, LOW_STEP[adapting]);
        band.adapt(quantized);
        code
    }

    fn encode_high(&mut self, sample: i32) -> u8 {
        let band = &mut self.high;
        let difference = saturate(sample - band.predicted);
        let magnitude = if difference < 0 { !difference } else { difference };
        let is_large = magnitude >= (HIGH_DECISION * band.step) >> 12;
        let code = match (difference < 0, is_large) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        let quantized = (band.step * HIGH_OUT[usize::from(code)]) >> 15;
        band.adapt_step(HIGH, HIGH_STEP[usize::from(code)]);
        band.adapt(quantized);
        code
    }
}

/// Turns G.722 into 16 kHz audio.
#[derive(Debug, Clone)]
pub struct Decoder {
    low: Band,
    high: Band,
    filter: Filter,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { low: Band::new(32), high: Band::new(8), filter: Filter::default() }
    }
}

impl Decoder {
    /// Gives two samples for each byte to `out`.
    pub fn decode(&mut self, bytes: &[u8], mut out: impl FnMut(i16)) {
        for code in bytes {
            let low = self.decode_low(usize::from(code & 0x3F));
            let high = self.decode_high(usize::from(code >> 6));
            let (even, odd) = self.filter.push(low + high, low - high);
            out(saturate(odd >> 11) as i16);
            out(saturate(even >> 11) as i16);
        }
    }

    fn decode_low(&mut self, code: usize) -> i32 {
        let band = &mut self.low;
        let sample = (band.predicted + ((band.step * LOW_OUT_6[code]) >> 15)).clamp(-16_384, 16_383);
        let adapting = code >> 2;
        let quantized = (band.step * LOW_OUT_4[adapting]) >> 15;
        band.adapt_step(LOW, LOW_STEP[adapting]);
        band.adapt(quantized);
        sample
    }

    fn decode_high(&mut self, code: usize) -> i32 {
        let band = &mut self.high;
        let quantized = (band.step * HIGH_OUT[code]) >> 15;
        let sample = (band.predicted + quantized).clamp(-16_384, 16_383);
        band.adapt_step(HIGH, HIGH_STEP[code]);
        band.adapt(quantized);
        sample
    }
}

/// The quadrature mirror filter's memory: the even and the odd samples, each kept twice over so that the last twelve
/// always lie in one piece.
#[derive(Debug, Clone, Default)]
struct Filter {
    even: [i32; 24],
    odd: [i32; 24],
    at: usize,
}

impl Filter {
    /// Takes a pair; returns the sums over the first of each pair and over the second.
    fn push(&mut self, first: i32, second: i32) -> (i32, i32) {
        for at in [self.at, self.at + 12] {
            self.even[at] = first;
            self.odd[at] = second;
        }
        self.at = (self.at + 1) % 12;
        let even = &self.even[self.at..self.at + 12];
        let odd = &self.odd[self.at..self.at + 12];
        let sum = |samples: &[i32], taps: &mut dyn Iterator<Item = &i32>| {
            samples.iter().zip(taps).map(|(sample, tap)| sample * tap).sum::<i32>()
        };
        (sum(even, &mut QMF.iter()), sum(odd, &mut QMF.iter().rev()))
    }
}

const fn saturate(value: i32) -> i32 {
    if value > 32_767 {
        32_767
    } else if value < -32_768 {
        -32_768
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    fn tone(frequency_hz: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|at| (8_000.0 * (2.0 * PI * frequency_hz * at as f64 / 16_000.0).sin()) as i16)
            .collect()
    }

    fn there_and_back(samples: &[i16]) -> Vec<i16> {
        let mut bytes = Vec::new();
        Encoder::default().encode(samples, &mut bytes);
        assert_eq!(bytes.len(), samples.len() / 2);
        let mut back = Vec::new();
        Decoder::default().decode(&bytes, |sample| back.push(sample));
        back
    }

    /// The filters delay by 22 samples together. 6 bits and 2 bits a sample leave some 30 dB in the telephone band
    /// and less above it.
    #[test]
    fn tones_of_both_bands_come_back() {
        for (frequency_hz, snr_db) in [(300.0, 30.0), (1_000.0, 30.0), (3_000.0, 25.0), (6_000.0, 12.0)] {
            let input = tone(frequency_hz, 16_000);
            let back = there_and_back(&input);
            let (mut signal, mut noise) = (0.0_f64, 0.0_f64);
            for at in 4_000..12_000 {
                signal += f64::from(input[at - 22]).powi(2);
                noise += (f64::from(input[at - 22]) - f64::from(back[at])).powi(2);
            }
            let snr = 10.0 * (signal / noise).log10();
            assert!(snr > snr_db, "{frequency_hz} Hz: {snr:.1} dB");
        }
    }

    #[test]
    fn silence_stays_silent_and_full_scale_does_not_wrap() {
        assert!(there_and_back(&[0; 3_200]).iter().all(|sample| sample.abs() < 16));
        let square: Vec<i16> =
            (0..3_200).map(|at| if at / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let back = there_and_back(&square);
        for (half, plateau) in back[22 + 800..].chunks_exact(40).enumerate() {
            assert_eq!(plateau[20] > 0, half % 2 == 0, "half-wave {half}");
        }
    }

    /// Any bytes at all are a stream.
    #[test]
    fn noise_is_decoded_without_a_fault() {
        let mut decoder = Decoder::default();
        let mut samples = 0;
        let noise: Vec<u8> =
            (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        decoder.decode(&noise, |_| samples += 1);
        assert_eq!(samples, 200_000);
    }
}
