//! Secrets at rest: passwords and header values sealed with XChaCha20-Poly1305, API keys hashed with SHA-256.
//!
//! A sealed text is bound to its place (table, row, column), so that one row's secret cannot be moved into
//! another. Refuses to print: every type here that holds a secret has a `Debug` that does not.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64_simd::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const VERSION: &str = "v1.";

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; name the reason where this is called.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a secret cannot be sealed, opened, or its key not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key is not 64 hex digits.
    #[error("{origin} is no key: 64 hex digits are needed, as `openssl rand -hex 32` prints them")]
    Malformed {
        /// Where the key came from.
        origin: String,
    },
    /// The key file cannot be read or made.
    #[error("the key file {} cannot be used: {source}; give [security] secret_key_file or TANDEM_SECRET_KEY", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database is not a file, so no key file can be made beside it.
    #[error(
        "this store needs a key of its own: set TANDEM_SECRET_KEY or [security] secret_key_file to 64 hex digits"
    )]
    NoPlace,
    /// The key is not the one that sealed this.
    #[error(
        "{what} was sealed with another key; give the key this database was made with (TANDEM_SECRET_KEY, \
         [security] secret_key_file, or the .key file beside the database)"
    )]
    WrongKey {
        /// What cannot be opened.
        what: String,
    },
}

/// Seals and opens.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// Finds the key: `TANDEM_SECRET_KEY`'s text if given, else the named file, else a file beside the
    /// database, made at the first start and readable by its owner alone.
    ///
    /// # Errors
    /// When there is no key and none can be made, or it is not 64 hex digits.
    pub fn find(
        environment: Option<&str>,
        file: Option<&Path>,
        database: Option<&Path>,
    ) -> Result<Self, SecretError> {
        if let Some(text) = environment {
            return Self::from_hex(text, "TANDEM_SECRET_KEY");
        }
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SecretError::File { path: path.to_path_buf(), source })?;
            return Self::from_hex(&text, &path.display().to_string());
        }
        Self::at(&Self::file_beside(database.ok_or(SecretError::NoPlace)?))
    }

    /// The key of this file, made if there is none, readable by its owner alone.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or does not hold 64 hex digits.
    pub fn at(path: &Path) -> Result<Self, SecretError> {
        let text =
            read_or_make(path).map_err(|source| SecretError::File { path: path.to_path_buf(), source })?;
        Self::from_hex(&text, &path.display().to_string())
    }

    /// The file beside a database where its key lies when nobody says otherwise.
    pub fn file_beside(database: &Path) -> PathBuf {
        let mut beside = database.as_os_str().to_owned();
        beside.push(".key");
        PathBuf::from(beside)
    }

    fn from_hex(text: &str, origin: &str) -> Result<Self, SecretError> {
        let mut key = [0_u8; KEY_BYTES];
        if unhex(text.trim(), &mut key).is_none() {
            return Err(SecretError::Malformed { origin: origin.to_owned() });
        }
        Ok(Self { cipher: XChaCha20Poly1305::new((&key).into()) })
    }

    /// Seals `secret` for the place `place`; the same secret never gives the same text twice.
    pub fn seal(&self, place: &str, secret: &str) -> String {
        let nonce: [u8; NONCE_BYTES] = random();
        let payload = Payload { msg: secret.as_bytes(), aad: place.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a secret is far shorter than the cipher's bound of 256 GiB");
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        format!("{VERSION}{}", URL_SAFE_NO_PAD.encode_to_string(bytes))
    }

    /// Opens what [`Sealer::seal`] made for the same place.
    ///
    /// # Errors
    /// [`SecretError::WrongKey`] when the key or the place is another, or the text was changed.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Secret, SecretError> {
        self.try_open(place, sealed).ok_or_else(|| SecretError::WrongKey { what: place.to_owned() })
    }

    fn try_open(&self, place: &str, sealed: &str) -> Option<Secret> {
        let bytes = URL_SAFE_NO_PAD.decode_to_vec(sealed.strip_prefix(VERSION)?).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let opened = self.cipher.decrypt(&XNonce::from(nonce), payload).ok()?;
        String::from_utf8(opened).ok().map(Secret)
    }
}

/// The file's text; made with a fresh key when it does not exist. Two processes starting at once agree,
/// because only one of them creates the file and the other reads it.
fn read_or_make(path: &Path) -> std::io::Result<String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let text = hex(&random::<KEY_BYTES>());
            writeln!(file, "{text}")?;
            file.sync_all()?;
            Ok(text)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut text = String::new();
            for _ in 0..50 {
                text = std::fs::read_to_string(path)?;
                if text.ends_with('\n') {
                    break;
                }
                // The other process has created the file and not yet written it.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Ok(text)
        }
        Err(error) => Err(error),
    }
}

/// Bytes from the operating system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A new API key: `bn-`, or `sa-` for an account under another, and 256 bits of randomness. The prefixes are those
/// that clients of Bolna's API know.
pub fn new_api_key(is_of_sub_account: bool) -> Secret {
    let prefix = if is_of_sub_account { "sa" } else { "bn" };
    Secret(format!("{prefix}-{}", URL_SAFE_NO_PAD.encode_to_string(random::<KEY_BYTES>())))
}

/// SHA-256 of an API key as hex digits. A key carries 256 bits of randomness, so no slow hash is needed.
pub fn hash_api_key(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// A key of 32 bytes from its 64 hex digits.
pub fn unhex_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    unhex(text, &mut key).map(|()| key)
}

fn unhex(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() != out.len() * 2 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    // `from_str_radix` takes a sign; a key has none.
    text.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sealer(digit: char) -> Sealer {
        Sealer::find(Some(&digit.to_string().repeat(64)), None, None).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again_in_its_own_place_alone() {
        let sealer = sealer('a');
        let sealed = sealer.seal("trunks/1/auth_password", "Süß & secret");
        assert_eq!(sealer.open("trunks/1/auth_password", &sealed).unwrap().reveal(), "Süß & secret");
        assert!(!sealed.contains("secret"));
        assert_ne!(sealed, sealer.seal("trunks/1/auth_password", "Süß & secret"));
        assert!(sealer.open("trunks/2/auth_password", &sealed).is_err());
    }

    #[test]
    fn another_key_fails_with_a_message_that_says_so() {
        let sealed = sealer('a').seal("trunks/1/auth_password", "secret");
        let error = sealer('b').open("trunks/1/auth_password", &sealed).unwrap_err().to_string();
        assert!(error.contains("another key") && error.contains("TANDEM_SECRET_KEY"), "{error}");
    }

    #[test]
    fn a_changed_or_cut_text_does_not_open() {
        let sealer = sealer('a');
        let sealed = sealer.seal("p", "secret");
        for length in 0..sealed.len() {
            assert!(sealer.open("p", &sealed[..length]).is_err(), "cut to {length}");
        }
        let mut bytes = sealed.clone().into_bytes();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        assert!(sealer.open("p", &String::from_utf8(bytes).unwrap()).is_err());
    }

    #[test]
    fn a_key_that_is_not_64_hex_digits_is_refused_with_its_origin() {
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"+a".repeat(32)] {
            let error = Sealer::find(Some(text), None, None).unwrap_err().to_string();
            assert!(error.contains("TANDEM_SECRET_KEY") && error.contains("64 hex"), "{error}");
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("tandem.db");
        let first = Sealer::find(None, None, Some(&database)).unwrap();
        let file = folder.path().join("tandem.db.key");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Sealer::find(None, None, Some(&database)).unwrap();
        assert_eq!(again.open("p", &first.seal("p", "x")).unwrap().reveal(), "x");
        let named = Sealer::find(None, Some(&file), None).unwrap();
        assert_eq!(named.open("p", &first.seal("p", "x")).unwrap().reveal(), "x");
    }

    #[test]
    fn without_a_place_for_a_key_file_a_key_is_asked_for() {
        let error = Sealer::find(None, None, None).unwrap_err().to_string();
        assert!(error.contains("TANDEM_SECRET_KEY"), "{error}");
        let error = Sealer::find(None, Some(Path::new("/nonexistent/key")), None).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/key"), "{error}");
    }

    #[test]
    fn nothing_here_prints_its_secret() {
        let key = new_api_key(false);
        assert!(new_api_key(true).reveal().starts_with("sa-"));
        assert!(key.reveal().starts_with("bn-") && key.reveal().len() == 46);
        assert_eq!(format!("{key:?} {:?}", sealer('a')), "Secret Sealer");
        assert_ne!(new_api_key(false), new_api_key(false));
        assert_eq!(hash_api_key("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
