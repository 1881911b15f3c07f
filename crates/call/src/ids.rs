//! The names of things a call is made of.
//!
//! What it refuses to do: mint identifiers (randomness is the engine's, seeded by the shell) or judge their shape
//! (the store issues them; a core only carries and compares them).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::short_text::ShortText;

/// One call, everywhere: `execution_id` in Bolna's API, `id` in `/v1/calls`, and in every log line, verdict and record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub Uuid);

impl fmt::Display for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ShortText);

        impl $name {
            /// Wraps an identifier as the store issued it.
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Its length in bytes.
            pub fn octets(&self) -> usize {
                self.0.octets()
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.as_str().into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(String::deserialize(deserializer)?.into())
            }
        }
    };
}

text_id!(
    /// A tenant. Every trunk, number, agent, call and verdict belongs to one. Cheap to clone.
    AccountId
);
text_id!(
    /// A SIP trunk of one account. Cheap to clone.
    TrunkId
);
text_id!(
    /// A number (DID) on one trunk. Cheap to clone.
    NumberId
);
text_id!(
    /// A voice agent of one account. Cheap to clone.
    AgentId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_bare_strings_in_json() {
        let json = serde_json::to_string(&TrunkId::new("t-1")).unwrap();
        assert_eq!(json, "\"t-1\"");
        assert_eq!(serde_json::from_str::<TrunkId>(&json).unwrap(), TrunkId::from("t-1"));
        let call = CallId(Uuid::from_u128(7));
        assert_eq!(serde_json::to_string(&call).unwrap(), "\"00000000-0000-0000-0000-000000000007\"");
    }
}
