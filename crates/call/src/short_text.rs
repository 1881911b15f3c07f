//! Text that is short nearly always: kept in place up to 30 bytes, shared beyond that. A copy costs no allocation.
//!
//! Identifiers of the store have 26 bytes and telephone numbers fewer: a look-up compares and copies them without
//! following a pointer, which with a million of them is what it costs. It refuses to be changed.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text kept in place: the whole is four machine words.
const ROOM: usize = 30;

/// The text.
#[derive(Clone)]
pub struct ShortText(Kept);

#[derive(Clone)]
enum Kept {
    /// The first `length` bytes are text.
    Here {
        length: u8,
        bytes: [u8; ROOM],
    },
    Shared(Arc<str>),
}

impl ShortText {
    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Here { .. } => std::str::from_utf8(self.as_bytes()).expect("it was made from text"),
            Kept::Shared(text) => text,
        }
    }

    /// Its length in bytes, told by the first of its own bytes: the text is not read.
    pub(crate) fn octets(&self) -> usize {
        match &self.0 {
            Kept::Here { length, .. } => usize::from(*length),
            Kept::Shared(text) => text.len(),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Here { length, bytes } => &bytes[..usize::from(*length)],
            Kept::Shared(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        let mut bytes = [0; ROOM];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self(Kept::Here { length, bytes })
            }
            _ => Self(Kept::Shared(text.into())),
        }
    }
}

impl From<String> for ShortText {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<std::borrow::Cow<'_, str>> for ShortText {
    fn from(text: std::borrow::Cow<'_, str>) -> Self {
        (&*text).into()
    }
}

impl Default for ShortText {
    fn default() -> Self {
        "".into()
    }
}

impl PartialEq<str> for ShortText {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortText {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Serialize for ShortText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for ShortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // What is beyond the length is zero in both.
            (Kept::Here { length, bytes }, Kept::Here { length: other_length, bytes: other_bytes }) => {
                length == other_length && bytes == other_bytes
            }
            _ => self.as_bytes() == other.as_bytes(),
        }
    }
}

impl Eq for ShortText {}

impl PartialOrd for ShortText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortText {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for ShortText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        state.write_u8(0xff);
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_comes_back_and_compares_as_text() {
        let texts = ["", "a", "ab", "é", &"x".repeat(ROOM), &"x".repeat(ROOM + 1), &"y".repeat(300), "b"];
        for left in texts {
            assert_eq!(&*ShortText::from(left), left);
            for right in texts {
                let (one, other) = (ShortText::from(left), ShortText::from(right));
                assert_eq!(one == other, left == right);
                assert_eq!(one.cmp(&other), left.cmp(right));
            }
        }
    }

    #[test]
    fn it_takes_four_words() {
        assert_eq!(size_of::<ShortText>(), 32);
        assert_eq!(size_of::<Option<ShortText>>(), 32);
    }
}
