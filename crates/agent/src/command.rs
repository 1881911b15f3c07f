//! The words of every dialect in one vocabulary: what agents ask ([`AgentCommand`]) and what they are told
//! ([`AgentEvent`]).

use crate::AudioFormat;

/// One thing an agent asked for. Borrowed from the frame it came in; the receiver copies what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentCommand<'a> {
    /// Audio to be played to the caller, of any length, after all that is queued.
    Audio {
        /// How to read `data`.
        format: AudioFormat,
        /// The audio; may end within a frame, and for binary dialects within a sample.
        data: &'a [u8],
    },
    /// Tell me when all audio queued before this has been played.
    Mark {
        /// The agent's name for it; may be empty.
        name: &'a str,
    },
    /// Drop all queued audio.
    Flush,
    /// End the call.
    HangUp,
    /// End the call when what is queued has been played, as a close of the socket would.
    Finish,
    /// Answer the call; inbound calls are answered by the time an agent can ask.
    Answer,
    /// Audio that follows belongs to one utterance, cut at any byte.
    StartBuffering,
    /// The utterance ends here; report its completion in-band.
    StopBuffering {
        /// The agent's correlation id, if it gave one.
        id: Option<&'a str>,
    },
    /// Stop playing, keep the queue.
    Pause,
    /// Play on.
    Continue,
    /// Tell me, once, when the queue is next found empty.
    ReportDrained,
    /// Tell me the state of the queue.
    GetStatus,
    /// Which way media is to flow, as the agent sees it.
    SetDirection(MediaDirection),
    /// Send these digits to the caller as DTMF.
    SendDtmf {
        /// `0-9*#A-D`, in order.
        digits: &'a str,
    },
    /// Send the caller elsewhere.
    Transfer {
        /// A SIP URI, `tel:` URI or number.
        target: &'a str,
        /// How.
        mode: TransferMode,
    },
    /// Put the caller on hold.
    Hold,
    /// Take the caller off hold.
    Unhold,
}

/// Which way media flows, from the agent's view (chan_websocket's `SET_MEDIA_DIRECTION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MediaDirection {
    /// The agent hears and speaks.
    #[default]
    Both,
    /// The agent only hears.
    In,
    /// The agent only speaks.
    Out,
}

/// How a transfer is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransferMode {
    /// As the trunk's policy has it.
    #[default]
    Auto,
    /// REFER the caller's leg (RFC 3515).
    Refer,
    /// Dial a second leg and bridge.
    Dial,
}

/// One thing an agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentEvent<'a> {
    /// The caller pressed a key.
    Digit {
        /// One of `0-9*#A-D`.
        digit: char,
        /// How long it was held, in milliseconds.
        duration_ms: u32,
    },
    /// A mark's audio has been played, or was flushed.
    MarkPlayed {
        /// The agent's name for it.
        name: &'a str,
        /// True when the audio before the mark was dropped by a flush.
        cleared: bool,
    },
    /// An utterance closed by `StopBuffering` has been played.
    Completed {
        /// The correlation id given with it.
        id: Option<&'a str>,
    },
    /// The queue was found empty after `ReportDrained`.
    QueueDrained,
    /// Audio begins to be played after the queue was empty.
    PlayoutStarted,
    /// The queue ran empty of itself after playing audio.
    PlayoutDone,
    /// The queue was dropped, as [`AgentCommand::Flush`] asked; marks have been dealt with.
    Flushed {
        /// Milliseconds of the agent's audio played since the stream began.
        played_ms: u64,
    },
    /// Queue is long: send no more audio.
    Xoff,
    /// Queue is short again: audio is welcome.
    Xon,
    /// The answer to `GetStatus`.
    Status(QueueStatus),
    /// A frame of the agent could not be understood.
    Error {
        /// What was wrong with it.
        text: &'a str,
    },
    /// The telephone's side put this call on hold, or took it off: while it is on, it hears nothing.
    Held {
        /// On, not off.
        is_held: bool,
    },
    /// A transfer came to nothing: the agent has the caller still, or again.
    TransferFailed {
        /// Why, in words.
        text: &'a str,
    },
    /// The caller began to speak; told to agents that ask for voice activity.
    SpeechStarted {
        /// When, in milliseconds of the caller's stream.
        at_ms: u64,
    },
    /// The caller stopped.
    SpeechStopped {
        /// When, in milliseconds of the caller's stream.
        at_ms: u64,
    },
    /// The caller began to speak while the agent did.
    BargeIn {
        /// The utterance that was heard at that moment, counted from 1.
        utterance: u64,
        /// How much of it was heard.
        heard_ms: u64,
        /// Whether the rest was dropped, as [`crate::VoiceActivity::Clear`] asks.
        is_cleared: bool,
    },
    /// How much of an utterance was heard; told before the event that is its cause, to agents that ask for it.
    Heard {
        /// What it is told for.
        cause: HeardCause,
        /// The mark's name.
        name: Option<&'a str>,
        /// The utterance, counted from 1; 0 when there was none.
        utterance: u64,
        /// How much of it was heard.
        heard_ms: u64,
    },
    /// The stream ends; the close follows.
    Stop,
}

/// Why an agent is told how much was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeardCause {
    /// A mark was reached, or dropped.
    Mark,
    /// The queue was dropped.
    Clear,
    /// The call is over.
    End,
}

impl HeardCause {
    /// The word for it on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Clear => "clear",
            Self::End => "end",
        }
    }
}

/// The state of the egress queue, in chan_websocket's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// Queued audio in 20 ms frames, a part of a frame counted whole.
    pub length_frames: u32,
    /// Between XOFF and XON.
    pub is_full: bool,
    /// Between `StartBuffering` and `StopBuffering`.
    pub is_buffering: bool,
    /// Between `Pause` and `Continue`.
    pub is_paused: bool,
}
