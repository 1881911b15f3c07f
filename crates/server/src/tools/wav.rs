//! WAV files of the test tools: any common WAV in, 16-bit mono at 8,000 samples a second out.

use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use tandem_media::resample::Resampler;
use thiserror::Error;

use super::measure::SAMPLE_RATE_HZ;

/// The longest file that is read, in samples per channel: ten minutes at 48,000 a second.
const SAMPLES_MAX: usize = 10 * 60 * 48_000;

/// Why a WAV file could not be read or written.
#[derive(Debug, Error)]
pub enum WavError {
    /// The file is missing, unreadable, or no WAV.
    #[error("{path}: {source}; a WAV file with 8 to 32 bit samples is needed")]
    File {
        /// The file as it was named.
        path: PathBuf,
        /// What went wrong.
        source: hound::Error,
    },
    /// The sample rate has no whole ratio to 8,000.
    #[error("{path}: {rate} samples a second; 8000, 16000, 24000 or 48000 are understood")]
    Rate {
        /// The file as it was named.
        path: PathBuf,
        /// Its sample rate in Hz.
        rate: u32,
    },
    /// The file is longer than ten minutes at 48,000 samples a second.
    #[error("{path}: longer than ten minutes; play a shorter file")]
    TooLong {
        /// The file as it was named.
        path: PathBuf,
    },
}

/// Reads a WAV file as 16-bit mono at 8,000 samples a second. Of several channels the first is taken.
///
/// # Errors
/// When the file is no WAV, has a rate without a whole ratio to 8,000, or is too long.
pub fn read(path: &Path) -> Result<Vec<i16>, WavError> {
    let file_error = |source| WavError::File { path: path.to_path_buf(), source };
    let reader = WavReader::open(path).map_err(file_error)?;
    let spec = reader.spec();
    if reader.duration() as usize > SAMPLES_MAX {
        return Err(WavError::TooLong { path: path.to_path_buf() });
    }
    let channels = usize::from(spec.channels.max(1));
    let samples: Vec<i16> = match spec.sample_format {
        SampleFormat::Int => {
            let shift = i32::from(spec.bits_per_sample) - 16;
            let narrow = |wide: i32| if shift >= 0 { wide >> shift } else { wide << -shift } as i16;
            let all = reader.into_samples::<i32>().step_by(channels);
            all.map(|sample| sample.map(narrow)).collect::<Result<_, _>>().map_err(file_error)?
        }
        SampleFormat::Float => {
            let narrow = |wide: f32| (wide * 32_767.0) as i16;
            let all = reader.into_samples::<f32>().step_by(channels);
            all.map(|sample| sample.map(narrow)).collect::<Result<_, _>>().map_err(file_error)?
        }
    };
    at_8_khz(path, spec.sample_rate, samples)
}

fn at_8_khz(path: &Path, rate: u32, samples: Vec<i16>) -> Result<Vec<i16>, WavError> {
    if rate as usize == SAMPLE_RATE_HZ {
        return Ok(samples);
    }
    let mut resampler = Resampler::new(rate, SAMPLE_RATE_HZ as u32)
        .map_err(|_| WavError::Rate { path: path.to_path_buf(), rate })?;
    let mut converted = Vec::with_capacity(samples.len() * SAMPLE_RATE_HZ / rate as usize + 1);
    resampler.process(&samples, &mut converted);
    Ok(converted)
}

/// Writes 16-bit mono samples at 8,000 a second, replacing the file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, samples: &[i16]) -> Result<(), WavError> {
    let file_error = |source| WavError::File { path: path.to_path_buf(), source };
    let spec = WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ as u32,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::create(path, spec).map_err(file_error)?;
    for sample in samples {
        writer.write_sample(*sample).map_err(file_error)?;
    }
    writer.finalize().map_err(file_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.wav");
        let samples: Vec<i16> = (0..500).map(|n| n * 60 - 15_000).collect();
        write(&path, &samples).expect("written");
        assert_eq!(read(&path).expect("read"), samples);
    }

    #[test]
    fn a_file_that_is_no_wav_is_named_in_the_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("speech.mp3");
        std::fs::write(&path, b"ID3").expect("written");
        let text = read(&path).expect_err("no WAV").to_string();
        assert!(text.contains("speech.mp3") && text.contains("WAV"), "{text}");
    }

    #[test]
    fn an_odd_rate_is_refused_with_those_that_are_understood() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cd.wav");
        let spec = WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = WavWriter::create(&path, spec).expect("a file");
        writer.write_sample(1_i16).expect("written");
        writer.write_sample(1_i16).expect("written");
        writer.finalize().expect("closed");
        let text = read(&path).expect_err("an odd rate").to_string();
        assert!(text.contains("44100") && text.contains("48000"), "{text}");
    }
}
