//! WAV as recordings are written: a header of fixed length, then interleaved 16-bit samples of both sides.
//!
//! The header's two lengths are known at the end only, so it is written twice; after a crash they follow from the length of
//! the file. RIFF/WAVE with WAVE_FORMAT_PCM.

use tandem_media::recording::RECORDING_RATE_HZ;

/// Length of the header.
pub(super) const HEADER_BYTES: usize = 44;
/// Bytes of one sample of both sides.
pub(super) const FRAME_BYTES: u64 = 4;
const CHANNELS: u16 = 2;
const BITS: u16 = 16;
const PCM: u16 = 1;

/// The header before `data_bytes` of samples. More than 4 GiB, which are 37 hours, cannot be told and are told as the most.
pub(super) fn header(data_bytes: u64) -> [u8; HEADER_BYTES] {
    let data = u32::try_from(data_bytes).unwrap_or(u32::MAX - HEADER_BYTES as u32);
    let riff = data + (HEADER_BYTES - 8) as u32;
    let block = CHANNELS * BITS / 8;
    let mut header = [0; HEADER_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"RIFF");
    put(&riff.to_le_bytes());
    put(b"WAVEfmt ");
    put(&16_u32.to_le_bytes());
    put(&PCM.to_le_bytes());
    put(&CHANNELS.to_le_bytes());
    put(&RECORDING_RATE_HZ.to_le_bytes());
    put(&(RECORDING_RATE_HZ * u32::from(block)).to_le_bytes());
    put(&block.to_le_bytes());
    put(&BITS.to_le_bytes());
    put(b"data");
    put(&data.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_independent_reader_understands_the_header() {
        let samples = [1_i16, -2, 300, -400, 5, 6];
        let mut file = header(samples.len() as u64 * 2).to_vec();
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        let mut reader = hound::WavReader::new(file.as_slice()).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
        assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), samples);
    }
}
