//! Recording as the call plane knows it: what an agent's owner asks for, what a bridge is told, what it hands out, and what
//! the record remembers.
//!
//! Plain data. What it refuses to do: know where recordings are kept, or write them.

use serde::{Deserialize, Serialize};
use tandem_media::recording::{PauseMode, RecordedBlock};

/// How a recording is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingFormat {
    /// WAV: 16-bit samples of both sides.
    #[default]
    Wav,
}

impl RecordingFormat {
    /// Every format.
    pub const ALL: [Self; 1] = [Self::Wav];

    /// The word used in the API, and the ending of its files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wav => "wav",
        }
    }

    /// The format of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }
}

/// How a call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecordingRule {
    /// What is written.
    pub format: RecordingFormat,
    /// What a pause leaves in it.
    pub pause: PauseMode,
}

/// What may be asked of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingCommand {
    /// Begin; a call is recorded once.
    Start(RecordingRule),
    /// Leave out what is said from now on.
    Pause,
    /// Go on after a pause.
    Resume,
    /// End it, for good.
    Stop,
}

/// What a bridge hands out of its recording, in order: a beginning, blocks, an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It begins.
    Begin(RecordingRule),
    /// What was said. One that cannot be written is told by [`crate::bridge::Bridge::handle_recording_dropped`].
    Block(RecordedBlock),
    /// Nothing more comes.
    End,
}

/// Where a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    /// What is said is being recorded.
    Recording,
    /// What is said is left out for the time being.
    Paused,
    /// It is over.
    Completed,
    /// It could not be written, or not to its end; the incidents say why.
    Failed,
    /// It was deleted, by its account or because it was old.
    Deleted,
}

impl RecordingState {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }

    /// Whether something may still be recorded.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Recording | Self::Paused => true,
            Self::Completed | Self::Failed | Self::Deleted => false,
        }
    }
}

/// What a call's record remembers of its recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingSummary {
    /// Where it stands.
    pub state: RecordingState,
    /// How it is written.
    pub format: RecordingFormat,
    /// When it began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// Milliseconds that were said and could not be handed to the writer; silence stands in their place.
    #[serde(default)]
    pub lost_ms: u64,
}
