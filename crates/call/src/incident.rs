//! What went otherwise than a side wished in the course of a call: an ordered log in bounded memory, kept with the record.
//!
//! It holds no audio, no numbers and no message of anybody's; nothing the engine does depends on it.

use serde::{Deserialize, Serialize};

/// Entries kept; of more the first stay, for they tell how it began.
const MAX_ENTRIES: usize = 32;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// A transfer was asked for and not tried.
    TransferRefused,
    /// The carrier asked us to go elsewhere, by REFER, and was refused.
    ReferRefused,
    /// The agent asked to hold the caller, or to take it off hold, and was refused.
    HoldRefused,
    /// A digit could not be sent to the caller.
    DigitRefused,
    /// A frame of the agent was not understood.
    AgentProtocolError,
    /// Audio of the agent was lost.
    AgentOverflow,
    /// One side is not heard; the detail says why, as far as it can be seen from here.
    OneWayAudio,
    /// A part of the recording was lost: its writer did not keep up.
    RecordingLost,
    /// The recording could not be written, or not to its end.
    RecordingFailed,
    /// The carrier's media does not keep to the encryption agreed on, and is not heard.
    EncryptionBroken,
    /// A change that the carrier wished for was refused for the sake of encryption.
    EncryptionRefused,
    /// What is known of the caller could not be looked up.
    CallerLookupFailed,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_unix_ms: u64,
    /// What.
    pub kind: IncidentKind,
    /// More of it, in words meant for the tenant.
    pub detail: String,
}

/// The incidents of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incidents {
    /// The first of them, in order.
    pub entries: Vec<Incident>,
    /// How many more there were.
    pub left_out: u32,
}

impl Incidents {
    pub(crate) fn note(&mut self, at_unix_ms: u64, kind: IncidentKind, detail: impl Into<String>) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(Incident { at_unix_ms, kind, detail: detail.into() });
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_kept_and_the_rest_is_counted() {
        let mut incidents = Incidents::default();
        for at in 0..100 {
            incidents.note(at, IncidentKind::AgentProtocolError, "rubbish");
        }
        assert_eq!((incidents.entries.len(), incidents.left_out), (MAX_ENTRIES, 100 - 32));
        assert_eq!(incidents.entries[31].at_unix_ms, 31);
    }
}
