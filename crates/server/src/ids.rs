//! Identifiers of stored rows: ULIDs for trunks and what hangs on them, UUIDs for agents.
//!
//! A ULID sorts by the time it was made, and is what clients of Bolna's trunk API expect to see. Identifiers
//! that come in are opaque texts: no pattern is asked of them.

use uuid::Uuid;

use crate::secrets::random;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of a ULID.
pub const ULID_CHARACTERS: usize = 26;

/// A new ULID: 48 bits of `now_ms` (milliseconds since 1970) and 80 of randomness, in 26 characters.
pub fn ulid(now_ms: i64) -> String {
    let random: [u8; 10] = random();
    let low = random.iter().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    let value = u128::from(now_ms.unsigned_abs() & 0xFFFF_FFFF_FFFF) << 80 | low;
    ulid_of(value)
}

fn ulid_of(value: u128) -> String {
    let digits = (0..ULID_CHARACTERS).rev();
    digits.map(|digit| char::from(CROCKFORD[(value >> (digit * 5)) as usize & 31])).collect()
}

/// The 128 bits of a ULID as a number; `None` for what is no ULID.
pub fn ulid_number(text: &str) -> Option<u128> {
    // 26 characters of 5 bits: the first has two that must be zero.
    if text.len() != ULID_CHARACTERS || text.as_bytes().first().is_none_or(|first| *first > b'7') {
        return None;
    }
    text.bytes().try_fold(0_u128, |value, byte| {
        let digit = CROCKFORD.iter().position(|known| *known == byte)?;
        Some(value << 5 | digit as u128)
    })
}

/// The ULID whose number these digits are; `None` for what is no such number.
pub fn ulid_of_digits(digits: &str) -> Option<String> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(ulid_of)
}

/// The stored form of an identifier that is a ULID: Exotel's API shows its number in digits, 37 of them in our
/// time. What is neither is left as it is, and found nowhere.
pub fn canonical_ulid(text: &str) -> String {
    let is_ulid = text.len() == ULID_CHARACTERS;
    let number = if is_ulid { None } else { ulid_of_digits(text) };
    number.unwrap_or_else(|| text.to_owned())
}

/// A new random UUID, as text.
pub fn uuid() -> String {
    Uuid::new_v4().to_string()
}

/// The stored form of an identifier of ours that is a UUID: clients may send it without dashes, in capitals,
/// or with the `agt-` that Bolna's guide shows. What is no UUID is left as it is, and found nowhere.
pub fn canonical_uuid(text: &str) -> String {
    let bare = text.strip_prefix("agt-").unwrap_or(text);
    Uuid::try_parse(bare).map_or_else(|_| text.to_owned(), |uuid| uuid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_has_26_characters_that_sort_by_time() {
        let (early, late) = (ulid(1_700_000_000_000), ulid(1_700_000_000_001));
        assert_eq!(early.len(), 26);
        assert!(early < late);
        assert_ne!(ulid(5), ulid(5));
        // The example of the ULID specification: 1469918176385 is 01ARYZ6S41.
        assert_eq!(&ulid(1_469_918_176_385)[..10], "01ARYZ6S41");
    }

    #[test]
    fn a_ulid_is_known_by_its_number() {
        let text = "01ARYZ6S41TSV4RRFFQ69G5FAV";
        let number = ulid_number(text).unwrap();
        assert_eq!(ulid_of_digits(&number.to_string()).as_deref(), Some(text));
        assert_eq!(canonical_ulid(&number.to_string()), text);
        assert_eq!(canonical_ulid(text), text);
        assert_eq!(canonical_ulid("support"), "support");
        assert_eq!(ulid_number("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), Some(u128::MAX));
        for nonsense in ["8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01aryz6s41tsv4rrffq69g5fav", "01ARYZ6S41", ""] {
            assert_eq!(ulid_number(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_uuid_is_known_in_each_of_its_spellings() {
        let text = "0191b2c3-d4e5-4f60-8a7b-8c9d0e1f2a3b";
        for spelling in [text, "0191b2c3d4e54f608a7b8c9d0e1f2a3b", "agt-0191B2C3-D4E5-4F60-8A7B-8C9D0E1F2A3B"]
        {
            assert_eq!(canonical_uuid(spelling), text);
        }
        assert_eq!(canonical_uuid("agt-x"), "agt-x");
        assert_eq!(canonical_uuid(""), "");
    }
}
