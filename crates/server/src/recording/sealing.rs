//! Recordings at rest under a key of their own: pieces sealed with XChaCha20-Poly1305, each bound to its place, so that a
//! file can be written as the call goes on, read as a stream, and cut by a crash at any byte without losing what is before.
//!
//! ```text
//! "TDMREC1\n"  length of the next, 2 bytes  the recording's key, sealed with the node's
//! then pieces: length of the plain text, 4 bytes  nonce, 24 bytes  sealed text and its tag
//! ```
//! Lengths are big-endian. The first piece is the container's header and is sealed once more when the recording ends. It
//! refuses to know files and what is in the pieces.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::secrets::{Sealer, SecretError, hex, random, unhex_key};

/// How a sealed file begins.
const MAGIC: &[u8; 8] = b"TDMREC1\n";
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Bytes of a piece before its sealed text.
const PIECE_HEAD: usize = 4 + NONCE_BYTES;
/// Largest piece, in plain text: a block of samples is a quarter of it.
const PIECE_MAX: usize = 64 * 1024;
/// Longest sealed key.
const KEY_TEXT_MAX: usize = 1024;

/// What a piece costs beyond its plain text.
pub(super) const PIECE_OVERHEAD: usize = PIECE_HEAD + TAG_BYTES;

/// Why a sealed recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// It is not what [`PieceSealer`] wrote.
    #[error("the file is no sealed recording, or was changed")]
    Changed,
    /// Its key cannot be opened.
    #[error(transparent)]
    Key(#[from] SecretError),
}

/// Seals and opens the pieces of one recording.
#[derive(Clone)]
pub(super) struct PieceSealer {
    cipher: XChaCha20Poly1305,
    key_text: String,
}

impl std::fmt::Debug for PieceSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PieceSealer")
    }
}

impl PieceSealer {
    /// A fresh key for the recording that is known by `place` in the store.
    pub(super) fn generate(sealer: &Sealer, place: &str) -> Self {
        let key: [u8; 32] = random();
        let key_text = sealer.seal(place, &hex(&key));
        Self { cipher: XChaCha20Poly1305::new((&key).into()), key_text }
    }

    /// The key that was sealed before.
    ///
    /// # Errors
    /// When it was sealed with another key, or for another recording.
    pub(super) fn open(sealer: &Sealer, place: &str, key_text: &str) -> Result<Self, SealedError> {
        let key = unhex_key(sealer.open(place, key_text)?.reveal()).ok_or(SealedError::Changed)?;
        Ok(Self { cipher: XChaCha20Poly1305::new((&key).into()), key_text: key_text.to_owned() })
    }

    /// The recording's key, sealed: what the store and the file keep.
    pub(super) fn key_text(&self) -> &str {
        &self.key_text
    }

    /// How the file begins.
    pub(super) fn prologue(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let length = u16::try_from(self.key_text.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.key_text.as_bytes());
        bytes
    }

    /// Appends piece `index`, sealed, to `out`.
    pub(super) fn seal(&self, index: u64, plain: &[u8], out: &mut Vec<u8>) {
        let nonce: [u8; NONCE_BYTES] = random();
        let payload = Payload { msg: plain, aad: &index.to_be_bytes() };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a piece is far shorter than the cipher's bound of 256 GiB");
        out.extend(u32::try_from(plain.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(nonce);
        out.extend(sealed);
    }

    /// Opens piece `index`, which begins `bytes`. Its plain text and its length in `bytes`; `None` when it is not whole yet.
    ///
    /// # Errors
    /// When it was changed, or is another piece.
    pub(super) fn open_piece(
        &self,
        index: u64,
        bytes: &[u8],
    ) -> Result<Option<(Vec<u8>, usize)>, SealedError> {
        let Some(length) = piece_length(bytes)? else { return Ok(None) };
        let Some(piece) = bytes.get(..length) else { return Ok(None) };
        let nonce: [u8; NONCE_BYTES] = piece[4..PIECE_HEAD].try_into().map_err(|_| SealedError::Changed)?;
        let payload = Payload { msg: &piece[PIECE_HEAD..], aad: &index.to_be_bytes() };
        let plain = self.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| SealedError::Changed)?;
        Ok(Some((plain, length)))
    }
}

/// The sealed key at a file's beginning, and the bytes before the first piece; `None` when there are too few bytes to tell.
///
/// # Errors
/// When it is no sealed recording.
pub(super) fn read_prologue(bytes: &[u8]) -> Result<Option<(String, usize)>, SealedError> {
    let Some(head) = bytes.first_chunk::<10>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    if head[..8] != *MAGIC || length > KEY_TEXT_MAX {
        return Err(SealedError::Changed);
    }
    let end = head.len() + length;
    let Some(key) = bytes.get(head.len()..end) else { return Ok(None) };
    let key = std::str::from_utf8(key).map_err(|_| SealedError::Changed)?;
    Ok(Some((key.to_owned(), end)))
}

/// The whole length of the piece that begins `bytes`.
pub(super) fn piece_length(bytes: &[u8]) -> Result<Option<usize>, SealedError> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > PIECE_MAX {
        return Err(SealedError::Changed);
    }
    Ok(Some(length + PIECE_OVERHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Sealer {
        Sealer::find(Some(&"a".repeat(64)), None, None).unwrap()
    }

    #[test]
    fn pieces_open_in_their_place_alone_and_only_unchanged() {
        let sealer = PieceSealer::generate(&node(), "recordings/1");
        let mut file = sealer.prologue();
        for (index, piece) in [&b"header"[..], b"one", b""].iter().enumerate() {
            sealer.seal(index as u64, piece, &mut file);
        }
        let (key, mut at) = read_prologue(&file).unwrap().unwrap();
        let again = PieceSealer::open(&node(), "recordings/1", &key).unwrap();
        assert!(PieceSealer::open(&node(), "recordings/2", &key).is_err());
        let mut pieces = Vec::new();
        for index in 0..3 {
            assert!(again.open_piece(index + 1, &file[at..]).is_err(), "another place");
            let (plain, length) = again.open_piece(index, &file[at..]).unwrap().unwrap();
            assert!(again.open_piece(index, &file[at..at + length - 1]).unwrap().is_none(), "cut");
            let mut changed = file[at..at + length].to_vec();
            *changed.last_mut().unwrap() ^= 1;
            assert!(again.open_piece(index, &changed).is_err(), "changed");
            pieces.push(plain);
            at += length;
        }
        assert_eq!(pieces, [b"header".to_vec(), b"one".to_vec(), Vec::new()]);
        assert_eq!(at, file.len());
        assert!(!file.windows(6).any(|window| window == b"header"));
    }

    #[test]
    fn what_is_no_sealed_recording_is_told() {
        assert!(read_prologue(b"RIFFxxxxWAVE").is_err());
        assert!(read_prologue(b"TDM").unwrap().is_none());
        assert!(piece_length(&[0xff; 8]).is_err());
    }
}
