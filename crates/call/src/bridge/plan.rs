//! What passes between a bridge and those around it: the plan it is made from, the commands it takes, what it
//! wants sent, what it reports, and what it has counted. Plain data.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_agent::{DialectConfig, DialectError, Fact, FrameKind, StreamFacts, TransferMode, account_uuid};
use tandem_media::playout::Heard;
use tandem_media::session::SecurityTrouble;
use tandem_media::srtp::Suite;
use tandem_media::{Codec, LatchPolicy, MediaParameters, RtpStatistics};

use super::histogram::DelayHistogram;
use super::one_way::OneWay;
use crate::caller_lookup::CallerQuestion;
use crate::ids::{AccountId, CallId};
use crate::recording::RecordingCommand;

/// All a bridge needs to know of its call.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgePlan {
    /// The call.
    pub call: CallId,
    /// The account that owns the call.
    pub account: AccountId,
    /// What was negotiated; `None` until the ACK of an offerless INVITE brings the answer
    /// ([`BridgeCommand::Media`]).
    pub media: Option<MediaParameters>,
    /// The peer's signalling address, which tells the shell the address family to bind.
    pub peer: IpAddr,
    /// Where the caller's RTP may come from.
    pub latch: LatchPolicy,
    /// Silence of the RTP peer, in both RTP and RTCP, after which the call is given up; `None`: never.
    pub media_timeout: Option<Duration>,
    /// How long neither side may say anything; `None`: for ever.
    pub silence: Option<Duration>,
    /// Where the agent is and how it is spoken to.
    pub agent: AgentPlan,
    /// Bounds of this call.
    pub limits: BridgeLimits,
}

/// The agent's side of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlan {
    /// `ws://` or `wss://` URL, templates expanded.
    pub url: String,
    /// Headers of the upgrade request, templates expanded.
    pub headers: Vec<(String, String)>,
    /// Subprotocol to offer, if any; a server that selects none is accepted all the same.
    pub subprotocol: Option<String>,
    /// Where to connect when `url` cannot be reached.
    pub fallback_url: Option<String>,
    /// How the stream is spoken.
    pub dialect: DialectConfig,
    /// What the agent is told at the start.
    pub facts: StreamFacts,
    /// What the agent's close means.
    pub on_close: OnClose,
    /// When it is dialled.
    pub dial: AgentDial,
    /// What is to be asked about the caller meanwhile.
    pub question: Option<CallerQuestion>,
}

/// When a call's agent is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AgentDial {
    /// As soon as the media port is bound: the caller hears ringing meanwhile.
    #[default]
    WithThePort,
    /// When the engine says so ([`crate::Output::DialAgent`]): the callee has answered.
    WhenTold,
}

impl AgentPlan {
    /// Lays what the dialect asks of the upgrade request under the agent's own settings.
    #[must_use]
    pub fn with_handshake(mut self) -> Self {
        let handshake = self.dialect.dialect.handshake();
        for (name, fact) in handshake.headers {
            if self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                continue;
            }
            let value = match fact {
                Fact::Call => self.facts.call,
                Fact::Organization => account_uuid(&self.facts.account),
            };
            self.headers.push(((*name).to_owned(), value.to_string()));
        }
        self.subprotocol = self.subprotocol.or_else(|| handshake.subprotocol.map(str::to_owned));
        self
    }
}

/// What it means when an agent closes its socket: the call ends, at once or when all it said was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClose {
    /// Play what is queued, within [`BridgeLimits::drain`], then end the call.
    #[default]
    Drain,
    /// End the call at once.
    Hangup,
}

/// Bounds of one bridge; the defaults are argued field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeLimits {
    /// Audio that may be queued towards the caller before the agent's socket is read no further. Ten minutes:
    /// agents burst whole replies, none as long as that. 4.8 MB at worst.
    pub queue: Duration,
    /// Marks and completions that may be pending. 4096 is a mark for every 150 ms of a full queue.
    pub marks: usize,
    /// Digits an agent may have waiting to be sent. 64: the longest menu path or card number.
    pub digits: usize,
    /// How long a closed agent's audio may still play. One minute: a long goodbye.
    pub drain: Duration,
    /// Frames that cannot be understood before the stream is closed. 64: a peer this confused stays so.
    pub protocol_errors: u32,
    /// The most that a real-time paced agent's speech is held back at its start, so that the next word may be late.
    /// It begins with 20 ms and grows with lateness seen; 60 ms rides out the jitter of a busy asyncio loop.
    pub prebuffer: Duration,
}

impl Default for BridgeLimits {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(600),
            marks: 4096,
            digits: 64,
            drain: Duration::from_secs(60),
            protocol_errors: 64,
            prebuffer: Duration::from_millis(60),
        }
    }
}

/// What a bridge is told to do.
#[derive(Debug, Clone, PartialEq)]
pub enum BridgeCommand {
    /// Caller and agent can hear each other: send the dialect's start messages, then audio.
    Start,
    /// (Re)negotiated media.
    Media(MediaParameters),
    /// The second leg's media, at its answer or renegotiated. It is heard by nobody before [`Self::Join`].
    SecondMedia {
        /// What was negotiated.
        media: MediaParameters,
        /// Where its RTP may come from; looked at when the leg is new.
        latch: LatchPolicy,
    },
    /// Caller and second leg hear each other, and the agent neither.
    Join {
        /// Whether the agent's socket stays open, for the caller to come back to; else the agent is told that its stream
        /// ends.
        keeps_agent: bool,
    },
    /// The second leg is over. The caller is the agent's again, if the agent is still there.
    Part,
    /// The second leg pressed a key and told so by SIP (INFO): it is for the caller.
    SecondDigit {
        /// One of `0-9*#A-D`.
        digit: char,
        /// How long it was held, in milliseconds.
        duration_ms: u16,
    },
    /// Send these digits to the caller (RFC 4733).
    SendDtmf {
        /// `0-9*#A-D`; others are left out.
        digits: String,
        /// Length of each, in milliseconds.
        duration_ms: u16,
    },
    /// The caller pressed a key and told so by SIP (INFO): tell the agent as if it had been heard in RTP.
    Digit {
        /// One of `0-9*#A-D`.
        digit: char,
        /// How long it was held, in milliseconds.
        duration_ms: u16,
    },
    /// More of what the agent is told of the call at its start; its own parameters stand before these.
    Parameters(Vec<(String, String)>),
    /// A wish of the agent is refused: tell it so, where its dialect has the words.
    Refuse {
        /// What it wished.
        wish: AgentWish,
    },
    /// A transfer that the agent asked for, or that was asked for beside it, came to nothing: it has the caller still, or
    /// again.
    TransferFailed {
        /// Why, in words.
        why: String,
    },
    /// Record what both sides hear, or change how.
    Record(RecordingCommand),
    /// The call is over: tell the agent in its dialect, then close its socket.
    HangUp,
}

/// What an agent may wish of the call itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentWish {
    /// That the caller be put on hold.
    Hold,
    /// That the caller be taken off hold.
    Unhold,
}

impl AgentWish {
    /// The refusal in words.
    #[must_use]
    pub const fn refusal(self) -> &'static str {
        match self {
            Self::Hold => "HOLD refused: this call cannot be put on hold",
            Self::Unhold => "UNHOLD refused: this call is not on hold",
        }
    }
}

/// What a bridge wants sent. The bytes are in the buffer given to `poll_transmit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeTransmit {
    /// A RTP packet.
    Rtp {
        /// Where to.
        to: SocketAddr,
    },
    /// A RTCP compound.
    Rtcp {
        /// Where to.
        to: SocketAddr,
    },
    /// A RTP packet from the second leg's port.
    SecondRtp {
        /// Where to.
        to: SocketAddr,
    },
    /// A RTCP compound from the second leg's port.
    SecondRtcp {
        /// Where to.
        to: SocketAddr,
    },
    /// A message to the agent.
    Agent {
        /// Text or binary.
        kind: FrameKind,
        /// Caller audio, which the shell drops (and counts) when the agent does not read; all else it keeps.
        droppable: bool,
    },
    /// Close the agent's socket; nothing is sent to it after this. The buffer is empty.
    AgentClose {
        /// RFC 6455, 7.4.1.
        code: u16,
    },
}

/// What a bridge reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeEvent {
    /// The caller's RTP comes from here, and from now on from here alone.
    Latched {
        /// Where from.
        source: SocketAddr,
    },
    /// The second leg's RTP comes from here, and from now on from here alone.
    SecondLatched {
        /// Where from.
        source: SocketAddr,
    },
    /// No RTP and no RTCP came from the second leg for the plan's `media_timeout`. Comes once a silence.
    SecondSilent,
    /// The caller pressed a key; the agent was told, or the second leg.
    Digit {
        /// One of `0-9*#A-D`.
        digit: char,
        /// How long it was held.
        duration_ms: u32,
    },
    /// The agent's side is done; the call is to be ended. Comes once.
    AgentHangUp {
        /// How the agent ended it.
        cause: AgentHangUpCause,
    },
    /// The agent's socket closed; [`Self::AgentHangUp`] follows when the queue has been played or dropped.
    AgentClosed {
        /// The code of its close frame, if one came.
        code: Option<u16>,
        /// Audio still to be played, in milliseconds.
        queued_ms: u32,
    },
    /// The caller's media does not keep to the encryption agreed on, and is not heard. Comes once for each row of such packets.
    MediaTroubled {
        /// What is wrong with it.
        trouble: SecurityTrouble,
    },
    /// A digit could not be sent: the caller's side negotiated no telephone events, or too many are waiting.
    DigitRefused {
        /// The digit.
        digit: char,
    },
    /// No RTP and no RTCP came for the plan's `media_timeout`. Comes once a silence.
    MediaTimeout,
    /// Neither side said anything for as long as the plan's `silence`. Comes once a silence.
    NobodySpeaks {
        /// How long that is.
        silence: Duration,
    },
    /// A frame of the agent was not understood.
    ProtocolError {
        /// Why.
        error: DialectError,
        /// How many of this stream so far.
        count: u32,
    },
    /// A mark's audio has been played, or (`is_cleared`) dropped by a flush.
    MarkPlayed {
        /// The agent's name for it.
        name: String,
        /// Dropped, not played.
        is_cleared: bool,
        /// How much of which utterance had truly been sent.
        heard: Heard,
    },
    /// The agent dropped its queue (barge-in).
    Flushed {
        /// Audio dropped, in milliseconds.
        dropped_ms: u32,
        /// How much of which utterance had truly been sent.
        heard: Heard,
    },
    /// The agent's audio overflowed the queue even though its socket was read no further; this much was lost.
    QueueOverflow {
        /// Audio dropped, in milliseconds.
        dropped_ms: u32,
    },
    /// A part of the recording could not be written; the first of such losses, all are counted.
    RecordingLost {
        /// What was lost, in milliseconds.
        dropped_ms: u32,
    },
    /// One side is not heard. Each cause comes once.
    OneWayAudio {
        /// Why, as far as it can be seen from here.
        cause: OneWay,
    },
    /// The agent asks for a transfer.
    Transfer {
        /// A SIP URI, `tel:` URI or number.
        target: String,
        /// How.
        mode: TransferMode,
    },
    /// The agent asks that the caller be put on hold, or taken off it.
    Hold {
        /// On, not off.
        is_held: bool,
    },
}

/// How an agent ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentHangUpCause {
    /// It said so.
    Command,
    /// It closed its socket, with this code if it gave one.
    Closed {
        /// The code of its close frame.
        code: Option<u16>,
    },
    /// Its socket broke without a close.
    Lost,
    /// It sent more rubbish than is tolerated.
    ProtocolErrors,
}

/// Why there is no agent socket any more, as the shell saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentSocketEnd {
    /// A close frame came, with this code if it had one.
    Closed {
        /// RFC 6455, 7.4.1.
        code: Option<u16>,
    },
    /// The connection broke: reset, end of file without a close, a write that timed out.
    Lost,
}

/// What a bridge has counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BridgeStatistics {
    /// What the caller's leg speaks, once that is known.
    pub codec: Option<Codec>,
    /// The suite it is encrypted by.
    pub suite: Option<Suite>,
    /// RTP and RTCP of the caller's leg.
    pub rtp: RtpStatistics,
    /// RTP and RTCP of the second leg, the last one if there were several.
    pub second: Option<RtpStatistics>,
    /// From a RTP packet's arrival to its audio leaving for the agent.
    pub inbound_delay: DelayHistogram,
    /// From an agent message's arrival to its audio leaving as RTP, for each packet with such audio, less the wait
    /// for the next tick of the egress clock that any audio has. For audio that a burst queued far ahead, only how
    /// late its packet left.
    pub outbound_delay: DelayHistogram,
    /// Audio messages made for the agent.
    pub agent_frames_sent: u64,
    /// Audio messages that were made but dropped, because the agent does not read its socket.
    pub agent_frames_dropped: u64,
    /// Messages received from the agent.
    pub agent_frames_received: u64,
    /// Messages received from the agent that its dialect does not know.
    pub agent_frames_ignored: u64,
    /// Agent audio truly sent to the caller, in milliseconds.
    pub heard_ms: u64,
    /// Times the queue ran dry right after carrying audio: the end of each utterance, and each late delivery.
    pub underruns: u64,
    /// Flushes the agent asked for.
    pub flushes: u64,
    /// Times the caller began to speak while the agent did; found only for agents that ask for voice activity.
    pub barge_ins: u64,
    /// Marks played.
    pub marks_played: u64,
    /// Frames of the agent that were not understood.
    pub protocol_errors: u32,
    /// Agent audio lost to a full queue, or to more digits than speech waits for, in milliseconds.
    pub overflow_ms: u64,
    /// Egress ticks that were run late enough to be skipped (the driver was away for longer than the catch-up
    /// bound).
    pub ticks_skipped: u64,
    /// From the start to the caller's first audio that came.
    pub first_caller_audio: Option<Duration>,
    /// From the start to the agent's first audio that left.
    pub first_agent_audio: Option<Duration>,
    /// From the end of each of the caller's turns to the agent's audio that answered it.
    pub agent_gap: DelayHistogram,
    /// Parts of the recording that could not be written, in milliseconds.
    pub recording_lost_ms: u64,
    /// Most audio ever queued, in milliseconds.
    pub queue_peak_ms: u32,
    /// Notices and events dropped because the driver did not take them.
    pub notices_lost: u64,
}
