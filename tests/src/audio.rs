//! Audio that says whose it is: coded voices, their readers, and tones.
//!
//! A coded voice is a stream of 20-sample blocks, each sample one of 16 levels, each block naming its voice and its
//! place in the stream. The levels sit an octave apart, so that a block survives a change of law (ITU-T G.711 µ-law
//! to A-law and back) but not a gap, a repeat or a mix. Paths that resample carry tones instead. The two laws are
//! written out here once more on purpose: a checker that borrowed the product's tables could not see them wrong.

use tandem_media::Law;

/// Samples in one block of a coded voice.
pub const BLOCK: usize = 20;

const SYNC: [u8; 2] = [0xa, 0x3];

/// Linear value of one coded byte, 16 bits (ITU-T G.711).
pub fn linear(law: Law, byte: u8) -> i32 {
    match law {
        Law::Mulaw => {
            let code = !byte;
            let exponent = u32::from(code >> 4 & 7);
            let magnitude = (((i32::from(code & 0x0f) << 3) + 0x84) << exponent) - 0x84;
            if code & 0x80 == 0 { magnitude } else { -magnitude }
        }
        Law::Alaw => {
            let code = byte ^ 0x55;
            let mantissa = i32::from(code & 0x0f);
            let magnitude = match u32::from(code >> 4 & 7) {
                0 => (mantissa << 4) + 8,
                exponent => ((mantissa << 4) + 0x108) << (exponent - 1),
            };
            if code & 0x80 == 0 { -magnitude } else { magnitude }
        }
    }
}

/// The byte of `law` nearest to a 16-bit linear value.
pub fn nearest(law: Law, value: i32) -> u8 {
    (0..=255_u8).min_by_key(|byte| (linear(law, *byte) - value).abs()).unwrap_or(0xff)
}

/// The 16 levels and, for each law, which byte says which level.
#[derive(Debug, Clone)]
pub struct Alphabet {
    bytes: [[u8; 16]; 2],
    nibbles: [[u8; 256]; 2],
}

fn index(law: Law) -> usize {
    match law {
        Law::Mulaw => 0,
        Law::Alaw => 1,
    }
}

impl Alphabet {
    /// Works out the tables for both laws.
    pub fn new() -> Self {
        // 190 · 2^n up to 24,320: one level in each segment of either law.
        let levels: Vec<i32> = (0..8).map(|step| 190 << step).flat_map(|level| [level, -level]).collect();
        let mut bytes = [[0; 16]; 2];
        let mut nibbles = [[0; 256]; 2];
        for law in [Law::Mulaw, Law::Alaw] {
            for (nibble, level) in levels.iter().enumerate() {
                bytes[index(law)][nibble] = nearest(law, *level);
            }
            for byte in 0..=255_u8 {
                let value = linear(law, byte);
                let nibble = (0..16).min_by_key(|nibble| (levels[*nibble] - value).abs()).unwrap_or(0);
                nibbles[index(law)][usize::from(byte)] = nibble as u8;
            }
        }
        Self { bytes, nibbles }
    }

    fn block(&self, law: Law, voice: u16, place: u32) -> [u8; BLOCK] {
        symbols(voice, place).map(|nibble| self.bytes[index(law)][usize::from(nibble)])
    }

    fn read(&self, law: Law, bytes: &[u8]) -> Option<(u16, u32)> {
        let nibble = |at: usize| self.nibbles[index(law)][usize::from(bytes[at])];
        if nibble(0) != SYNC[0] || nibble(1) != SYNC[1] {
            return None;
        }
        let voice = (2..6).fold(0_u16, |sum, at| sum << 4 | u16::from(nibble(at)));
        let place = (6..12).fold(0_u32, |sum, at| sum << 4 | u32::from(nibble(at)));
        let expected = symbols(voice, place);
        (12..BLOCK).all(|at| nibble(at) == expected[at]).then_some((voice, place))
    }
}

impl Default for Alphabet {
    fn default() -> Self {
        Self::new()
    }
}

fn symbols(voice: u16, place: u32) -> [u8; BLOCK] {
    let mut nibbles = [0; BLOCK];
    nibbles[..2].copy_from_slice(&SYNC);
    for (at, nibble) in nibbles[2..6].iter_mut().enumerate() {
        *nibble = (voice >> (12 - 4 * at) & 0xf) as u8;
    }
    for (at, nibble) in nibbles[6..12].iter_mut().enumerate() {
        *nibble = (place >> (20 - 4 * at) & 0xf) as u8;
    }
    // A check of 32 bits: mixes that happen to look like a block are out of the question.
    let seed = u64::from(voice) << 32 | u64::from(place) | 1 << 60;
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    for (at, nibble) in nibbles[12..].iter_mut().enumerate() {
        *nibble = (mixed >> (60 - 4 * at) & 0xf) as u8;
    }
    nibbles
}

/// A voice that is being spoken: an endless stream of blocks in one law.
#[derive(Debug, Clone)]
pub struct Voice {
    /// Who speaks.
    pub voice: u16,
    law: Law,
    place: u32,
    offset: usize,
}

impl Voice {
    /// A voice at its beginning.
    pub fn new(voice: u16, law: Law) -> Self {
        Self { voice, law, place: 0, offset: 0 }
    }

    /// Which block comes next, counting one that is begun.
    pub fn place(&self) -> u32 {
        self.place
    }

    /// Speaks on in another law.
    pub fn set_law(&mut self, law: Law) {
        self.law = law;
    }

    /// Appends the next `count` samples.
    pub fn speak(&mut self, alphabet: &Alphabet, count: usize, out: &mut Vec<u8>) {
        let mut left = count;
        while left > 0 {
            let block = alphabet.block(self.law, self.voice, self.place);
            let take = left.min(BLOCK - self.offset);
            out.extend_from_slice(&block[self.offset..self.offset + take]);
            self.offset += take;
            left -= take;
            if self.offset == BLOCK {
                self.offset = 0;
                self.place = self.place.wrapping_add(1) & 0x00ff_ffff;
            }
        }
    }
}

/// A block that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Who spoke it.
    pub voice: u16,
    /// Its place in that voice.
    pub place: u32,
    /// Whether every byte is as it was spoken in the same law.
    pub exact: bool,
    /// Bytes between this block and the one before that belong to none (silence, concealment, broken blocks).
    pub unread_before: u32,
}

/// Finds the blocks in a stream of coded bytes.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    pending: Vec<u8>,
    unread: u32,
}

impl Reader {
    /// Reads on; each block found is told to `heard`.
    pub fn read(&mut self, alphabet: &Alphabet, law: Law, bytes: &[u8], mut heard: impl FnMut(Heard)) {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while self.pending.len() - at >= BLOCK {
            let window = &self.pending[at..at + BLOCK];
            match alphabet.read(law, window) {
                Some((voice, place)) => {
                    let exact = alphabet.block(law, voice, place) == *window;
                    heard(Heard { voice, place, exact, unread_before: self.unread });
                    self.unread = 0;
                    at += BLOCK;
                }
                None => {
                    self.unread += 1;
                    at += 1;
                }
            }
        }
        self.pending.drain(..at);
    }
}

/// The frequency of the tone that stands for `voice` on paths that resample, in hertz.
pub fn tone_of(voice: u16) -> f64 {
    // 64 tones, 37 Hz apart, none a multiple of 50 Hz: no 20 ms frame holds a whole number of periods.
    412.0 + 37.0 * f64::from(voice % 64)
}

/// A sine of one voice's frequency.
#[derive(Debug, Clone)]
pub struct Tone {
    step: f64,
    phase: f64,
}

impl Tone {
    /// The tone of `voice` at `rate_hz` samples a second.
    pub fn new(voice: u16, rate_hz: u32) -> Self {
        Self { step: std::f64::consts::TAU * tone_of(voice) / f64::from(rate_hz), phase: 0.0 }
    }

    /// The next sample, at about -9 dB of full scale.
    pub fn sample(&mut self) -> i16 {
        let value = (self.phase.sin() * 11_000.0) as i16;
        self.phase = (self.phase + self.step) % std::f64::consts::TAU;
        value
    }
}

/// Which voice's tone is strongest in `samples`, if one stands out (Goertzel's algorithm over the 64 tones).
pub fn strongest_tone(samples: &[i16], rate_hz: u32) -> Option<u16> {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    if samples.is_empty() || energy / (samples.len() as f64) < 1_000_000.0 {
        return None;
    }
    let (voice, power) = (0..64_u16)
        .map(|voice| (voice, goertzel(samples, tone_of(voice), rate_hz)))
        .max_by(|left, right| left.1.total_cmp(&right.1))?;
    // A pure tone puts all its energy in its own bin: power = energy · n / 2.
    (power > 0.6 * energy * samples.len() as f64 / 2.0).then_some(voice)
}

fn goertzel(samples: &[i16], frequency: f64, rate_hz: u32) -> f64 {
    let angle = std::f64::consts::TAU * frequency / f64::from(rate_hz);
    let coefficient = 2.0 * angle.cos();
    let (mut previous, mut before) = (0.0, 0.0);
    for sample in samples {
        let next = f64::from(*sample) + coefficient * previous - before;
        before = previous;
        previous = next;
    }
    previous * previous + before * before - coefficient * previous * before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_is_read_back_at_every_alignment() {
        let alphabet = Alphabet::new();
        for law in [Law::Mulaw, Law::Alaw] {
            for shift in 0..BLOCK {
                let mut stream = vec![if law == Law::Mulaw { 0xff } else { 0xd5 }; shift];
                Voice::new(0x1234, law).speak(&alphabet, 1600, &mut stream);
                let mut places = Vec::new();
                let mut reader = Reader::default();
                for piece in stream.chunks(33) {
                    reader.read(&alphabet, law, piece, |heard| {
                        assert!(heard.exact && heard.voice == 0x1234);
                        places.push(heard.place);
                    });
                }
                assert_eq!(places, (0..80).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_voice_survives_a_change_of_law_there_and_back() {
        let alphabet = Alphabet::new();
        let mut stream = Vec::new();
        Voice::new(77, Law::Alaw).speak(&alphabet, 800, &mut stream);
        let across: Vec<u8> =
            stream.iter().map(|byte| nearest(Law::Mulaw, linear(Law::Alaw, *byte))).collect();
        let back: Vec<u8> = across.iter().map(|byte| nearest(Law::Alaw, linear(Law::Mulaw, *byte))).collect();
        for (law, bytes) in [(Law::Mulaw, across), (Law::Alaw, back)] {
            let mut count = 0;
            Reader::default().read(&alphabet, law, &bytes, |heard| {
                assert_eq!((heard.voice, heard.place), (77, count));
                count += 1;
            });
            assert_eq!(count, 40);
        }
    }

    #[test]
    fn each_tone_is_told_from_the_others_and_from_silence() {
        for voice in 0..64 {
            let mut tone = Tone::new(voice, 8000);
            let samples: Vec<i16> = (0..800).map(|_| tone.sample()).collect();
            assert_eq!(strongest_tone(&samples, 8000), Some(voice));
        }
        assert_eq!(strongest_tone(&[0; 800], 8000), None);
    }
}
