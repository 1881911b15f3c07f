//! One recording on disk: begun, appended to, finished; and repaired when nobody finished it.
//!
//! As long as it is written it stands among the unfinished, so that the next start finds it. Every block is one `write`, so
//! what a killed process had been given is in the file, up to the last block. It refuses to know the store and the calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::sealing::{self, PieceSealer, SealedError};
use super::wav;
use tandem_media::recording::{BLOCK_FRAMES, RECORDING_RATE_HZ};

/// What is known of a recording that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// Length of its plain text.
    pub(super) bytes: u64,
    /// How long it plays.
    pub(super) duration_ms: u64,
}

/// A recording being written.
#[derive(Debug)]
pub(super) struct RecordingFile {
    file: File,
    path: PathBuf,
    sealer: Option<PieceSealer>,
    /// Samples of one side in the file.
    frames: u64,
    /// Pieces sealed so far.
    pieces: u64,
    /// Where the container's header stands.
    header_at: u64,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl RecordingFile {
    /// Makes the file, readable by its owner alone, and writes its header.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn create(path: &Path, sealer: Option<PieceSealer>) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let prologue = sealer.as_ref().map(PieceSealer::prologue).unwrap_or_default();
        file.write_all(&prologue)?;
        let mut recording = Self {
            file,
            path: path.to_path_buf(),
            sealer,
            frames: 0,
            pieces: 0,
            header_at: prologue.len() as u64,
            plain: Vec::new(),
            sealed: Vec::new(),
        };
        recording.plain.extend(wav::header(0));
        recording.write_plain()?;
        Ok(recording)
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a block that begins at `position`; silence fills what is missing before it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn append(&mut self, position: u64, samples: &[i16]) -> io::Result<()> {
        while self.frames < position {
            let missing = usize::try_from(position - self.frames).unwrap_or(BLOCK_FRAMES).min(BLOCK_FRAMES);
            self.plain.resize(missing * wav::FRAME_BYTES as usize, 0);
            self.write_frames(missing)?;
        }
        self.plain.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        self.write_frames(samples.len() / 2)
    }

    fn write_frames(&mut self, frames: usize) -> io::Result<()> {
        self.write_plain()?;
        self.frames += frames as u64;
        Ok(())
    }

    /// Writes `plain`, as one piece if pieces are sealed.
    fn write_plain(&mut self) -> io::Result<()> {
        let written = match &self.sealer {
            None => self.file.write_all(&self.plain),
            Some(sealer) => {
                self.sealed.clear();
                sealer.seal(self.pieces, &self.plain, &mut self.sealed);
                self.pieces += 1;
                self.file.write_all(&self.sealed)
            }
        };
        self.plain.clear();
        written
    }

    /// Writes the header anew, now that the length is known, and hands all to the disk.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(mut self) -> io::Result<Finished> {
        self.cut_to_whole_blocks()?;
        let data = self.frames * wav::FRAME_BYTES;
        let header = wav::header(data);
        match &self.sealer {
            None => self.file.write_all_at(&header, self.header_at)?,
            Some(sealer) => {
                self.sealed.clear();
                sealer.seal(0, &header, &mut self.sealed);
                self.file.write_all_at(&self.sealed, self.header_at)?;
            }
        }
        self.file.sync_all()?;
        Ok(Finished {
            bytes: data + wav::HEADER_BYTES as u64,
            duration_ms: self.frames * 1_000 / u64::from(RECORDING_RATE_HZ),
        })
    }

    /// What a failed write left of its block is cut off: only what is counted stays.
    fn cut_to_whole_blocks(&mut self) -> io::Result<()> {
        if self.sealer.is_none() {
            let end = self.header_at + wav::HEADER_BYTES as u64 + self.frames * wav::FRAME_BYTES;
            if self.file.metadata()?.len() > end {
                self.file.set_len(end)?;
            }
        }
        Ok(())
    }

    /// Opens what a killed process left, cuts off what is not whole, and makes it ready to be finished. `key_of` opens the
    /// sealed key that stands in the file. `None` when there is nothing in it.
    ///
    /// # Errors
    /// When it cannot be read, or its key not be opened.
    pub(super) fn reopen(
        path: &Path,
        key_of: impl FnOnce(&str) -> Result<PieceSealer, SealedError>,
    ) -> Result<Option<Self>, RepairError> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut start = vec![0; 2_048];
        let read = read_up_to(&mut file, &mut start)?;
        start.truncate(read);
        let mut recording = Self {
            path: path.to_path_buf(),
            sealer: None,
            frames: 0,
            pieces: 0,
            header_at: 0,
            plain: Vec::new(),
            sealed: Vec::new(),
            file,
        };
        if start.starts_with(b"RIFF") {
            let data = recording.file.metadata()?.len().saturating_sub(wav::HEADER_BYTES as u64);
            recording.frames = data / wav::FRAME_BYTES;
            recording.cut_to_whole_blocks()?;
        } else {
            let Some((key, end)) = sealing::read_prologue(&start)? else { return Ok(None) };
            recording.sealer = Some(key_of(&key)?);
            recording.header_at = end as u64;
            recording.count_pieces()?;
        }
        Ok((recording.frames > 0).then_some(recording))
    }

    /// Walks over the pieces and cuts off the last if it is not whole.
    fn count_pieces(&mut self) -> Result<(), RepairError> {
        let end = self.file.metadata()?.len();
        let mut at = self.header_at;
        let mut data = 0;
        while at < end {
            let mut head = [0; 4];
            self.file.seek(SeekFrom::Start(at))?;
            if read_up_to(&mut self.file, &mut head)? < head.len() {
                break;
            }
            let Some(length) = sealing::piece_length(&head)? else { break };
            if at + length as u64 > end {
                break;
            }
            at += length as u64;
            data += (length - sealing::PIECE_OVERHEAD) as u64;
            self.pieces += 1;
        }
        self.file.set_len(at)?;
        self.frames = data.saturating_sub(wav::HEADER_BYTES as u64) / wav::FRAME_BYTES;
        Ok(())
    }
}

/// Why a recording cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepairError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It is sealed and cannot be opened.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Sealer;

    fn node() -> Sealer {
        Sealer::find(Some(&"a".repeat(64)), None, None).unwrap()
    }

    /// The plain text of a file, and its samples as an independent reader has them.
    fn samples(path: &Path) -> Vec<i16> {
        let bytes = std::fs::read(path).unwrap();
        let plain = if bytes.starts_with(b"RIFF") {
            bytes
        } else {
            let (key, mut at) = sealing::read_prologue(&bytes).unwrap().unwrap();
            let sealer = PieceSealer::open(&node(), "r", &key).unwrap();
            let (mut plain, mut index) = (Vec::new(), 0);
            while at < bytes.len() {
                let (piece, length) = sealer.open_piece(index, &bytes[at..]).unwrap().unwrap();
                plain.extend(piece);
                at += length;
                index += 1;
            }
            plain
        };
        let reader = hound::WavReader::new(plain.as_slice()).unwrap();
        reader.into_samples().map(Result::unwrap).collect()
    }

    fn sealers() -> [Option<PieceSealer>; 2] {
        [None, Some(PieceSealer::generate(&node(), "r"))]
    }

    #[test]
    fn what_is_appended_is_read_and_a_missing_block_is_silence() {
        for sealer in sealers() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.wav");
            let mut file = RecordingFile::create(&path, sealer).unwrap();
            file.append(0, &[1, 2, 3, 4]).unwrap();
            file.append(5_002, &[5, 6]).unwrap();
            let finished = file.finish().unwrap();
            assert_eq!(finished, Finished { bytes: 44 + 5_003 * 4, duration_ms: 625 });
            let samples = samples(&path);
            assert_eq!(samples[..4], [1, 2, 3, 4]);
            assert_eq!(samples[10_004..], [5, 6]);
            assert!(samples[4..10_004].iter().all(|sample| *sample == 0));
        }
    }

    /// Cut anywhere, as a crash may cut it, the file is repaired to all whole blocks before the cut.
    #[test]
    fn a_file_cut_at_any_byte_is_repaired_to_what_was_whole() {
        for sealer in sealers() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.wav");
            let mut file = RecordingFile::create(&path, sealer.clone()).unwrap();
            for block in 0..3_i16 {
                file.append(block as u64 * 2, &[block + 1; 4]).unwrap();
            }
            drop(file);
            let whole = std::fs::read(&path).unwrap();
            for cut in 0..=whole.len() {
                let path = folder.path().join("cut.wav");
                std::fs::write(&path, &whole[..cut]).unwrap();
                let reopened = RecordingFile::reopen(&path, |key| PieceSealer::open(&node(), "r", key));
                let Ok(Some(file)) = reopened else {
                    assert!(
                        cut < whole.len() - 16 || sealer.is_some() && cut < whole.len() - 100,
                        "cut {cut}"
                    );
                    continue;
                };
                file.finish().unwrap();
                let samples = samples(&path);
                assert!(!samples.is_empty() && samples.len().is_multiple_of(2));
                assert!(
                    samples
                        .iter()
                        .enumerate()
                        .all(|(at, sample)| usize::try_from(*sample).unwrap() == at / 4 + 1)
                );
                if cut == whole.len() {
                    assert_eq!(samples.len(), 12);
                }
            }
        }
    }
}
