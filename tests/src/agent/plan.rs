//! What an agent is to do with the calls that reach it.

use std::time::Duration;

/// The dialect and form an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// chan_websocket, plain text events and commands.
    AsteriskPlain,
    /// chan_websocket, JSON events and commands.
    AsteriskJson,
    /// Twilio Media Streams.
    Twilio,
    /// Bolna's mod_audio_stream: L16 16 kHz in, JSON 24 kHz out.
    Bolna,
}

impl Speech {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AsteriskPlain, Self::AsteriskJson, Self::Twilio, Self::Bolna];
}

/// What becomes of the dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// The upgrade succeeds after this long.
    After(Duration),
    /// The connection is refused after this long.
    Refuse(Duration),
    /// Nothing ever comes back; the shell gives up after this long.
    Silence(Duration),
}

/// What the agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sends back what it hears.
    Echo,
    /// Says nothing.
    Silent,
    /// Speaks in pieces of so many milliseconds, at the pace of the clock; a mark after each tenth piece.
    RealTime {
        /// Milliseconds in a piece.
        piece_ms: u32,
    },
    /// Says so many milliseconds in one burst, then a mark; again when the mark is played.
    Burst {
        /// Milliseconds in a burst.
        length_ms: u32,
    },
    /// Bursts, and flushes each one this long after it was sent; a mark before and after the flush.
    BargeIn {
        /// Milliseconds in a burst.
        length_ms: u32,
        /// Milliseconds until the flush.
        flush_after_ms: u32,
    },
}

/// Something that goes wrong, or just happens, this long after the stream's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The connection breaks without a word.
    Drop,
    /// The agent closes the WebSocket with code 1000.
    Close,
    /// The agent asks for the hang-up in its dialect, or closes where the dialect has no word for it.
    HangUp,
    /// So many frames of rubbish.
    Rubbish(u16),
    /// So many seconds of audio at once.
    Flood(u16),
    /// A flush with nothing queued, three times.
    IdleFlush,
    /// A mark with nothing queued.
    IdleMark,
    /// The agent stops reading for so many milliseconds.
    StopReading(u32),
    /// Odd commands: status, drained report, pause and continue, buffering.
    Odd,
    /// Wishes that concern the call: transfer, hold, where the dialect has words for them.
    Wishes,
    /// Digits for the caller, where the dialect has a word for it.
    SendDigits,
}

/// One agent's script, the same for every call that reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlan {
    /// Dialect and form.
    pub speech: Speech,
    /// The dial.
    pub connect: Connect,
    /// Its talk.
    pub mode: Mode,
    /// What happens besides.
    pub turns: Vec<(Duration, Turn)>,
}

impl AgentPlan {
    /// An agent that accepts at once and echoes.
    pub fn echo(speech: Speech) -> Self {
        Self {
            speech,
            connect: Connect::After(Duration::from_millis(20)),
            mode: Mode::Echo,
            turns: Vec::new(),
        }
    }
}
