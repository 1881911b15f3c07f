//! What a caller is to do: one plan a call.

use std::time::Duration;

use tandem_media::Law;
use tandem_sip::Transport;

use super::digest::Credentials;
use super::order::OrderPlan;
use super::sdp::{Flowing, OfferPlan};

/// One simulated call, as its caller means it to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPlan {
    /// Tandem is to place it; the caller of this plan is then the one that is called. `number` is Tandem's all the same.
    pub ordered: Option<OrderPlan>,
    /// When the INVITE leaves, or the order is given, from the start of the run.
    pub start: Duration,
    /// Which carrier it comes from.
    pub carrier: usize,
    /// The identity that the caller's audio carries.
    pub voice: u16,
    /// User part of the Request-URI.
    pub number: String,
    /// User part of To, if it differs.
    pub to: Option<String>,
    /// User part of From.
    pub from: String,
    /// Transport of the signalling.
    pub transport: Transport,
    /// The carrier's proxy stands between and record-routes.
    pub proxied: bool,
    /// RTP comes from another port than the SDP names, as behind a NAT.
    pub nat: bool,
    /// What is offered.
    pub offer: OfferPlan,
    /// For trunks with a password.
    pub credentials: Option<Credentials>,
    /// How 2xx are acknowledged.
    pub ack: AckPlan,
    /// Reliable provisional responses (RFC 3262).
    pub reliable: Reliable,
    /// Session timer (RFC 4028): seconds, and who is asked to refresh.
    pub session_timer: Option<(u32, Refresher)>,
    /// Whether the caller refreshes the session where it is to.
    pub refreshes: bool,
    /// Max-Forwards.
    pub max_forwards: u32,
    /// Extra header lines of the INVITE.
    pub extra: Vec<(&'static str, String)>,
    /// What happens after.
    pub steps: Vec<Step>,
    /// The caller's audio.
    pub talk: Talk,
    /// Whether the caller sends RTCP.
    pub reports: bool,
    /// Parts per million by which the caller's clock is off.
    pub skew_ppm: i32,
    /// Messages that the path loses on purpose.
    pub lose: Vec<Lose>,
}

impl CallPlan {
    /// A plain call by `carrier` to `number`, hung up by the caller after three seconds.
    pub fn plain(carrier: usize, voice: u16, number: &str) -> Self {
        Self {
            ordered: None,
            start: Duration::from_millis(10),
            carrier,
            voice,
            number: number.into(),
            to: None,
            from: format!("+1555{voice:07}"),
            transport: Transport::Udp,
            proxied: false,
            nat: false,
            offer: OfferPlan::usual(),
            credentials: None,
            ack: AckPlan::Prompt,
            reliable: Reliable::No,
            session_timer: None,
            refreshes: false,
            max_forwards: 70,
            extra: Vec::new(),
            steps: vec![Step { when: When::Answered(Duration::from_secs(3)), act: Act::Bye }],
            talk: Talk::Voice,
            reports: true,
            skew_ppm: 0,
            lose: Vec::new(),
        }
    }

    /// The same call with other steps.
    pub fn with(mut self, steps: Vec<Step>) -> Self {
        self.steps = steps;
        self
    }
}

/// A step and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub when: When,
    /// What.
    pub act: Act,
}

/// Shorthand for a step so many milliseconds after the first 200 was received.
pub fn after_answer(millis: u64, act: Act) -> Step {
    Step { when: When::Answered(Duration::from_millis(millis)), act }
}

/// Shorthand for a step so many milliseconds after the INVITE was sent.
pub fn after_invite(millis: u64, act: Act) -> Step {
    Step { when: When::Sent(Duration::from_millis(millis)), act }
}

/// Shorthand for a step so many milliseconds after the first 180 or 183.
pub fn after_ringing(millis: u64, act: Act) -> Step {
    Step { when: When::Ringing(Duration::from_millis(millis)), act }
}

/// The moment a step is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The INVITE's first sending.
    Sent(Duration),
    /// The first 180 or 183.
    Ringing(Duration),
    /// The first 200.
    Answered(Duration),
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// CANCEL, if no final response came yet; BYE otherwise.
    Cancel,
    /// BYE.
    Bye,
    /// BYE even in the early dialog, without waiting for anything.
    ByeNow,
    /// re-INVITE.
    Reinvite(Change),
    /// UPDATE.
    Update(Change),
    /// INFO with a digit (application/dtmf-relay).
    Info(char),
    /// A digit by RFC 4733.
    Press(char),
    /// RTP comes from another port of the caller from now on, without a word of signalling.
    MovePort,
    /// The sender of RTP restarts: other SSRC and numbers.
    RestartRtp,
    /// No RTP from now on.
    Mute,
    /// RTP again.
    Speak,
    /// A pause of so many milliseconds, with comfort noise at its start instead of audio (RFC 3389).
    Hush(u16),
    /// The caller restarts and forgets: it is silent from now on.
    Forget,
    /// The INVITE once more, byte for byte.
    RepeatInvite,
    /// The same request on another path: other branch, same Call-ID, From tag and CSeq (RFC 3261 8.2.2.2).
    Merge,
    /// The ACK once more.
    RepeatAck,
    /// OPTIONS inside the dialog.
    Options,
    /// So many RTP packets from a stranger's address, to the call's port.
    StrangerRtp(u16),
    /// BYE with the right Call-ID and tags from a stranger's address.
    StrangerBye,
    /// re-INVITE likewise.
    StrangerReinvite,
    /// A request of the dialog with a CSeq below the last (RFC 3261 12.2.2: 500).
    OldCseq,
    /// A method that has no place in a call (rsip reads no method that no RFC knows).
    Nonsense,
    /// The TCP connection breaks.
    Reset,
    /// Rubbish to the RTP port from the caller's own address.
    RubbishRtp(u16),
    /// The INVITE's digest answer used again in a new call, from this caller's address or a stranger's.
    ReplayDigest,
}

/// What a re-INVITE or UPDATE asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The same again.
    Refresh,
    /// Another direction.
    Direction(Flowing),
    /// Another RTP port.
    NewPort,
    /// Another law.
    SwitchLaw(Law),
    /// No offer (re-INVITE only).
    NoOffer,
    /// T.38 alone.
    Fax,
    /// No codec that Tandem has.
    NoCodec,
    /// Another Contact.
    NewContact,
}

/// How 2xx are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckPlan {
    /// At once, every time.
    Prompt,
    /// Never.
    Never,
    /// This long after the first 2xx; at once for later ones.
    Late(Duration),
    /// Two ACKs for each.
    Twice,
}

/// A caller's attitude to RFC 3262.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliable {
    /// Not mentioned.
    No,
    /// Supported: 100rel.
    Supported,
    /// Require: 100rel.
    Required,
}

/// Who is asked to refresh the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// Nobody in particular.
    Unsaid,
    /// The caller.
    Caller,
    /// Tandem.
    Tandem,
}

/// A caller's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// The coded voice, from the first answer on.
    Voice,
    /// Nothing.
    Silent,
}

/// Messages that the path loses on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lose {
    /// Whether the message is on its way to Tandem.
    pub to_tandem: bool,
    /// `ACK`, `BYE`, …, or `200 INVITE`, `180 INVITE`, ….
    pub what: &'static str,
    /// How many are lost, from the first on.
    pub count: u32,
}
