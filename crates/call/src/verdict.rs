//! The verdict on an INVITE: what was looked at, in order, what came of it, and what would mend it.
//!
//! What it refuses to do: decide. [`crate::route`] and the engine decide and write down here what they saw. A verdict
//! belongs to one account (or to none, and then to the operator alone) and names nothing of any other account.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tandem_sip::Transport;
use uuid::Uuid;

use crate::ids::{AccountId, AgentId, CallId, NumberId, TrunkId};
use crate::record::CallDirection;
use crate::short_text::ShortText;

/// Longest text kept of any one header, in bytes: enough for every honest one, and a stranger cannot fill the store.
pub const MAX_TEXT_BYTES: usize = 256;

/// Longest trace: the longest honest one has fewer than twenty steps.
pub const MAX_STEPS: usize = 32;

/// Most near misses listed.
pub const MAX_NEAR_MISSES: usize = 8;

/// What came of an INVITE, as a stable word. Never renamed, only added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictCode {
    /// Answered with 200.
    Accepted,
    /// The caller gave up before the answer.
    CancelledByCaller,
    /// The source is in no trunk's ranges.
    SourceUnknown,
    /// The number's trunk is known and the source is outside its ranges.
    SourceOutsideRanges,
    /// The number is on no trunk that this source may use.
    NumberUnknown,
    /// The number is switched off.
    NumberInactive,
    /// The number is mapped to no agent.
    NumberWithoutAgent,
    /// The number's calls are for the trunk's own destinations, which are not called yet.
    NumberForPstn,
    /// The agent has no `websocket`.
    AgentWithoutSocket,
    /// The trunk is switched off.
    TrunkInactive,
    /// The trunk takes no inbound calls.
    InboundDisabled,
    /// No credentials came; a challenge was sent.
    CredentialsRequired,
    /// The credentials answer a challenge too old; a new one was sent.
    CredentialsStale,
    /// The credentials were used before; a new challenge was sent.
    CredentialsReplayed,
    /// Unknown user name, wrong password, or a digest over something else.
    CredentialsWrong,
    /// The offer's audio is encrypted by means that are not spoken here: other suites, DTLS, no key or a broken one.
    EncryptionUnsupported,
    /// The offer has no plain RTP audio, only encrypted, and the trunk takes none.
    EncryptionOffered,
    /// The trunk requires SRTP, and the offer is in the clear.
    EncryptionMissing,
    /// The trunk requires SRTP, and signalling is not encrypted: keys would cross the network in the clear.
    EncryptionExposed,
    /// The offer and the trunk share no codec.
    NoCommonCodec,
    /// The offer cannot be read, or offers no audio.
    OfferUnacceptable,
    /// The trunk's limit of concurrent calls is reached.
    TrunkCallsReached,
    /// The trunk's limit of concurrent inbound calls is reached.
    TrunkInboundCallsReached,
    /// The trunk's calls per second are used up.
    TrunkRateReached,
    /// The node holds as many calls as it may.
    NodeCallsReached,
    /// The database does not keep up with the records of calls, and no record is to be lost.
    RecordsBehind,
    /// The node is finishing its calls and takes no new ones.
    Draining,
    /// The agent's owner lets only callers call that are known.
    CallerNotAllowed,
    /// The agent has answered as many calls of this caller as its owner allows.
    CallerLimitReached,
    /// The account's balance is used up.
    BalanceLow,
    /// No media port, or the media path failed to start.
    MediaUnavailable,
    /// The agent's address could not be reached.
    AgentUnreachable,
    /// The agent's server answered and refused.
    AgentRefused,
    /// The agent did not answer in time.
    AgentTimeout,
    /// The agent hung up, or an API request ended the call, before the answer.
    EndedBeforeAnswer,
    /// The signalling of the caller was lost before the answer.
    CallerLost,
    /// The request asks for something that SIP here does not do: an extension, a body, a session timer too short.
    ProtocolRefused,
    /// A call of ours: trunk, agent or gateway is missing or switched off.
    CallNotPlaced,
    /// A call of ours: the callee is busy, declined, or is not there.
    CalleeRefused,
    /// A call of ours: it rang, and nobody answered.
    CalleeSilent,
    /// A call of ours: the carrier refused it for a reason of its own.
    GatewayRefused,
    /// A call of ours: no gateway of the trunk could be had.
    GatewaysUnreachable,
}

impl VerdictCode {
    /// Every code, in the order of the enum: for documentation and tests.
    pub const ALL: [Self; 42] = [
        Self::Accepted,
        Self::CancelledByCaller,
        Self::SourceUnknown,
        Self::SourceOutsideRanges,
        Self::NumberUnknown,
        Self::NumberInactive,
        Self::NumberWithoutAgent,
        Self::NumberForPstn,
        Self::AgentWithoutSocket,
        Self::TrunkInactive,
        Self::InboundDisabled,
        Self::CredentialsRequired,
        Self::CredentialsStale,
        Self::CredentialsReplayed,
        Self::CredentialsWrong,
        Self::EncryptionUnsupported,
        Self::EncryptionOffered,
        Self::EncryptionMissing,
        Self::EncryptionExposed,
        Self::NoCommonCodec,
        Self::OfferUnacceptable,
        Self::TrunkCallsReached,
        Self::TrunkInboundCallsReached,
        Self::TrunkRateReached,
        Self::NodeCallsReached,
        Self::RecordsBehind,
        Self::Draining,
        Self::CallerNotAllowed,
        Self::CallerLimitReached,
        Self::BalanceLow,
        Self::MediaUnavailable,
        Self::AgentUnreachable,
        Self::AgentRefused,
        Self::AgentTimeout,
        Self::EndedBeforeAnswer,
        Self::CallerLost,
        Self::ProtocolRefused,
        Self::CallNotPlaced,
        Self::CalleeRefused,
        Self::CalleeSilent,
        Self::GatewayRefused,
        Self::GatewaysUnreachable,
    ];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::CancelledByCaller => "cancelled_by_caller",
            Self::SourceUnknown => "source_unknown",
            Self::SourceOutsideRanges => "source_outside_ranges",
            Self::NumberUnknown => "number_unknown",
            Self::NumberInactive => "number_inactive",
            Self::NumberWithoutAgent => "number_without_agent",
            Self::NumberForPstn => "number_for_pstn",
            Self::AgentWithoutSocket => "agent_without_socket",
            Self::TrunkInactive => "trunk_inactive",
            Self::InboundDisabled => "inbound_disabled",
            Self::CredentialsRequired => "credentials_required",
            Self::CredentialsStale => "credentials_stale",
            Self::CredentialsReplayed => "credentials_replayed",
            Self::CredentialsWrong => "credentials_wrong",
            Self::EncryptionUnsupported => "encryption_unsupported",
            Self::EncryptionOffered => "encryption_offered",
            Self::EncryptionMissing => "encryption_missing",
            Self::EncryptionExposed => "encryption_exposed",
            Self::NoCommonCodec => "no_common_codec",
            Self::OfferUnacceptable => "offer_unacceptable",
            Self::TrunkCallsReached => "trunk_calls_reached",
            Self::TrunkInboundCallsReached => "trunk_inbound_calls_reached",
            Self::TrunkRateReached => "trunk_rate_reached",
            Self::NodeCallsReached => "node_calls_reached",
            Self::RecordsBehind => "records_behind",
            Self::Draining => "draining",
            Self::CallerNotAllowed => "caller_not_allowed",
            Self::CallerLimitReached => "caller_limit_reached",
            Self::BalanceLow => "balance_low",
            Self::MediaUnavailable => "media_unavailable",
            Self::AgentUnreachable => "agent_unreachable",
            Self::AgentRefused => "agent_refused",
            Self::AgentTimeout => "agent_timeout",
            Self::EndedBeforeAnswer => "ended_before_answer",
            Self::CallerLost => "caller_lost",
            Self::ProtocolRefused => "protocol_refused",
            Self::CallNotPlaced => "call_not_placed",
            Self::CalleeRefused => "callee_refused",
            Self::CalleeSilent => "callee_silent",
            Self::GatewayRefused => "gateway_refused",
            Self::GatewaysUnreachable => "gateways_unreachable",
        }
    }

    /// The SIP status that goes with the code, where nothing more exact is known.
    ///
    /// A trunk's own limits answer 486 or 480, never 503: RFC 3261 section 21.5.4 lets a carrier's proxy turn away
    /// from the whole *server* on a 503, and one tenant's full trunk must not silence its neighbours.
    pub const fn status(self) -> u16 {
        match self {
            Self::Accepted => 200,
            Self::ProtocolRefused => 400,
            Self::CallNotPlaced | Self::CalleeRefused => 480,
            Self::CalleeSilent => 408,
            Self::GatewayRefused => 403,
            Self::GatewaysUnreachable => 503,
            Self::CredentialsRequired | Self::CredentialsStale | Self::CredentialsReplayed => 401,
            Self::SourceUnknown
            | Self::SourceOutsideRanges
            | Self::TrunkInactive
            | Self::InboundDisabled
            | Self::CallerNotAllowed
            | Self::CallerLimitReached
            | Self::CredentialsWrong => 403,
            Self::NumberUnknown
            | Self::NumberInactive
            | Self::NumberWithoutAgent
            | Self::NumberForPstn
            | Self::AgentWithoutSocket => 404,
            Self::CallerLost => 408,
            Self::TrunkRateReached
            | Self::BalanceLow
            | Self::EndedBeforeAnswer
            | Self::AgentUnreachable
            | Self::AgentRefused
            | Self::AgentTimeout => 480,
            Self::TrunkCallsReached | Self::TrunkInboundCallsReached => 486,
            Self::CancelledByCaller => 487,
            Self::EncryptionUnsupported
            | Self::EncryptionOffered
            | Self::EncryptionMissing
            | Self::EncryptionExposed
            | Self::NoCommonCodec
            | Self::OfferUnacceptable => 488,
            Self::NodeCallsReached | Self::RecordsBehind | Self::Draining | Self::MediaUnavailable => 503,
        }
    }

    /// What whoever reads the verdict can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Accepted => "nothing to do",
            Self::CancelledByCaller => {
                "the caller hung up before the answer; if that happens often, make the agent answer sooner"
            }
            Self::SourceUnknown | Self::SourceOutsideRanges => {
                "add the carrier's address or range to the trunk's ip_identifiers, if it is your carrier's"
            }
            Self::NumberUnknown => "add the number to the trunk by which this carrier sends its calls",
            Self::NumberInactive => "switch the number on (is_active)",
            Self::NumberWithoutAgent => "map the number to an agent with POST /inbound/setup",
            Self::NumberForPstn => "set the number's mode to flow, so that an agent answers it",
            Self::AgentWithoutSocket => "give the agent a websocket object with a url",
            Self::TrunkInactive => "switch the trunk on: PATCH it with is_active true",
            Self::InboundDisabled => "let the trunk take calls: PATCH it with inbound_enabled true",
            Self::CredentialsRequired => {
                "nothing to do if an authenticated INVITE follows; else give the carrier the trunk's user name and password"
            }
            Self::CredentialsStale => "nothing to do: the carrier repeats the request with the new challenge",
            Self::CredentialsReplayed => {
                "each request needs its own nonce count; if the carrier never counts, ask it to, or use an ip-based trunk"
            }
            Self::CredentialsWrong => "compare user name and password at the carrier with those of the trunk",
            Self::EncryptionUnsupported => {
                "let the carrier offer SDES (a=crypto below RTP/SAVP) with AES_CM_128_HMAC_SHA1_80 or another suite that the trace names"
            }
            Self::EncryptionOffered => {
                "set the trunk's media_encryption to sdes and its transport to transport-tls, or let the carrier offer RTP/AVP"
            }
            Self::EncryptionMissing => {
                "switch secure trunking (SRTP by SDES) on at the carrier, or set media_encryption_optimistic to true to take plain RTP as well"
            }
            Self::EncryptionExposed => {
                "let the carrier send its calls over TLS, or set media_encryption_optimistic to true to take plain RTP as well"
            }
            Self::NoCommonCodec => {
                "allow PCMU, PCMA or G722 at the carrier, or add its codec to the trunk's allow list"
            }
            Self::OfferUnacceptable => "let the carrier offer one audio stream in a well-formed SDP body",
            Self::TrunkCallsReached | Self::TrunkInboundCallsReached => {
                "raise the trunk's limit of concurrent calls, or wait for calls to end"
            }
            Self::TrunkRateReached => {
                "raise the trunk's calls per second, or let the carrier send more slowly"
            }
            Self::NodeCallsReached => "let the carrier try another node, or raise limits.max_calls",
            Self::RecordsBehind => "let the carrier try another node, and look after the database",
            Self::Draining => "let the carrier try another node: this one is about to stop",
            Self::CallerNotAllowed => {
                "add the caller to the agent's whitelist_phone_numbers or to the source of its ingest_source_config, or set \
                 disallow_unknown_numbers to false"
            }
            Self::CallerLimitReached => {
                "raise the agent's inbound_limit (-1 is no limit), or add the caller to whitelist_phone_numbers"
            }
            Self::BalanceLow => "add to the account's balance, or take the bound away",
            Self::MediaUnavailable => {
                "widen media.ports, or look into the node's log for why no port could be had"
            }
            Self::AgentUnreachable => "see that the agent's url resolves and that its server listens",
            Self::AgentRefused => {
                "see why the agent's server refuses: path, Authorization header, subprotocol"
            }
            Self::AgentTimeout => "make the agent's server accept the WebSocket sooner",
            Self::EndedBeforeAnswer => "nothing to do: the call was ended on purpose",
            Self::CallerLost => "look at the carrier's side: it stopped talking before the answer",
            Self::ProtocolRefused => "let the carrier leave out what the status and its headers name",
            Self::CallNotPlaced => "see the last step of the trace: it names what is missing or switched off",
            Self::CalleeRefused => "nothing to do, or try again later: retry_config does that by itself",
            Self::CalleeSilent => "try again later, or let it ring longer with ringing_timeout_seconds",
            Self::GatewayRefused => {
                "ask the carrier about what the status names: the form of the number, the caller id, user name and password"
            }
            Self::GatewaysUnreachable => {
                "compare gateway_address, port and transport with what the carrier gave; see that its network lets us in"
            }
        }
    }
}

impl fmt::Display for VerdictCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What one step of the trace looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The user of the Request-URI as a number.
    RequestUri,
    /// The user of the To header as a number.
    To,
    /// The address the INVITE came from.
    Source,
    /// The trunk's switches.
    Trunk,
    /// The number's switches.
    Number,
    /// The digest credentials.
    Credentials,
    /// The trunk's registration at the registrar that calls.
    Registration,
    /// The agent and its socket.
    Agent,
    /// What the account may still spend.
    Balance,
    /// Who calls, held against the agent's rules.
    CallerRules,
    /// Whether the media must be encrypted.
    Encryption,
    /// The codecs of offer and trunk.
    Codec,
    /// The trunk's limits.
    TrunkLimits,
    /// The node's limits and whether it drains.
    NodeLimits,
    /// The media port.
    Media,
    /// The agent's WebSocket.
    AgentConnection,
    /// What the caller did meanwhile.
    Caller,
    /// What SIP itself has against the request.
    Protocol,
    /// A gateway that a call of ours was tried at.
    Gateway,
}

/// What came of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// As it should be.
    Passed,
    /// This decided against the call.
    Failed,
    /// Not decisive: looked at, and the search went on.
    Noted,
}

/// One step of the trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was looked at.
    pub check: Check,
    /// The thing itself: a number, an address, a trunk's name.
    pub subject: ShortText,
    /// What came of it.
    pub outcome: StepOutcome,
    /// Why, in words.
    pub detail: Cow<'static, str>,
}

/// The whole finding on one INVITE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its own name. Nil in a dry run.
    pub id: Uuid,
    /// When, in milliseconds since 1970 UTC. Zero in a dry run.
    pub at_unix_ms: u64,
    /// Whose it is; `None` is the operator's alone.
    pub account: Option<AccountId>,
    /// Whether the INVITE came to us, or was ours.
    #[serde(default = "inbound")]
    pub direction: CallDirection,
    /// What came of it.
    pub code: VerdictCode,
    /// The SIP status sent; for an INVITE of ours the one that came, or that stands for what happened.
    pub status: u16,
    /// Where the INVITE came from; where one of ours went last, or nowhere.
    pub source: SocketAddr,
    /// By which transport.
    #[serde(serialize_with = "write_transport", deserialize_with = "read_transport")]
    pub transport: Transport,
    /// The Request-URI as it stood, shortened if need be.
    pub request_uri: String,
    /// The From header as it stood, shortened if need be.
    pub from: String,
    /// The To header as it stood, shortened if need be.
    pub to: String,
    /// The Call-ID, shortened if need be.
    pub sip_call_id: String,
    /// The User-Agent header, shortened if need be; empty when there was none.
    pub user_agent: String,
    /// The call that came of it.
    pub call: Option<CallId>,
    /// The trunk, as far as it was found.
    pub trunk: Option<TrunkId>,
    /// The number, as far as it was found.
    pub number: Option<NumberId>,
    /// The agent, as far as it was found.
    pub agent: Option<AgentId>,
    /// What was looked at, in order.
    pub trace: Vec<Step>,
    /// What nearly fitted.
    pub near_misses: Vec<String>,
    /// What can be done about it.
    pub remedy: Cow<'static, str>,
}

/// What verdicts were about that say nothing of it.
const fn inbound() -> CallDirection {
    CallDirection::Inbound
}

impl Verdict {
    /// Sets code, status and remedy together.
    pub fn conclude(&mut self, code: VerdictCode) {
        self.code = code;
        self.status = code.status();
        self.remedy = Cow::Borrowed(code.remedy());
    }

    /// Adds a step to the trace. Beyond [`MAX_STEPS`] the last one is replaced, for the last is what decided.
    pub fn step(
        &mut self,
        check: Check,
        outcome: StepOutcome,
        subject: impl Into<ShortText>,
        detail: impl Into<Cow<'static, str>>,
    ) {
        if self.trace.len() >= MAX_STEPS {
            self.trace.truncate(MAX_STEPS - 1);
        }
        self.trace.push(Step { check, subject: subject.into(), outcome, detail: detail.into() });
    }

    /// Adds something that nearly fitted; beyond [`MAX_NEAR_MISSES`] it is left out.
    pub fn near_miss(&mut self, text: String) {
        if self.near_misses.len() < MAX_NEAR_MISSES && !self.near_misses.contains(&text) {
            self.near_misses.push(text);
        }
    }

    /// The trace as lines of text, as `check outcome subject: detail`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.trace.iter().map(|step| {
            let outcome = match step.outcome {
                StepOutcome::Passed => "ok",
                StepOutcome::Failed => "failed",
                StepOutcome::Noted => "noted",
            };
            format!("{:?} {outcome} {}: {}", step.check, step.subject, step.detail)
        })
    }
}

/// As [`wire_text`], of what is mostly short.
pub(crate) fn short_wire_text(bytes: &[u8]) -> ShortText {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) && bytes.len() <= MAX_TEXT_BYTES => {
            text.into()
        }
        _ => wire_text(bytes).into(),
    }
}

/// Bytes from the wire as text fit to be kept: unreadable bytes and control characters replaced, length bounded.
pub fn wire_text(bytes: &[u8]) -> String {
    let shortened = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
    // Nearly always nothing has to be replaced, and every INVITE has some of these.
    let is_plain = shortened.iter().fold(true, |is_plain, byte| is_plain & matches!(byte, b' '..=b'~'));
    if let (true, Ok(text)) = (is_plain, std::str::from_utf8(shortened)) {
        return text.to_owned();
    }
    String::from_utf8_lossy(shortened)
        .chars()
        .map(|character| if character.is_control() { '\u{FFFD}' } else { character })
        .collect()
}

fn write_transport<S: Serializer>(transport: &Transport, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(transport.uri_name())
}

fn read_transport<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Transport, D::Error> {
    let token = String::deserialize(deserializer)?;
    Transport::from_token(token.as_bytes()).ok_or_else(|| serde::de::Error::custom("not a SIP transport"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_word_of_its_own_that_json_uses_too() {
        let words: BTreeSet<_> = VerdictCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), VerdictCode::ALL.len());
        for code in VerdictCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(!code.remedy().is_empty());
            assert!((200..=503).contains(&code.status()));
        }
    }

    #[test]
    fn text_from_the_wire_is_bounded_and_holds_no_control_characters() {
        assert_eq!(wire_text(b"a\r\nb\xff"), "a\u{FFFD}\u{FFFD}b\u{FFFD}");
        assert_eq!(wire_text(&[b'x'; 10_000]).len(), MAX_TEXT_BYTES);
    }

    #[test]
    fn a_trace_keeps_its_last_step_however_long_it_grows() {
        let mut verdict = sample();
        for number in 0..100 {
            verdict.step(Check::To, StepOutcome::Noted, number.to_string(), "");
            verdict.near_miss(number.to_string());
        }
        assert_eq!(verdict.trace.len(), MAX_STEPS);
        assert_eq!(verdict.trace.last().map(|step| step.subject.as_str()), Some("99"));
        assert_eq!(verdict.near_misses.len(), MAX_NEAR_MISSES);
    }

    #[test]
    fn a_verdict_survives_json() {
        let verdict = sample();
        let json = serde_json::to_string(&verdict).unwrap();
        assert!(json.contains("\"transport\":\"udp\""), "{json}");
        assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
    }

    fn sample() -> Verdict {
        Verdict {
            direction: CallDirection::Inbound,
            id: Uuid::nil(),
            at_unix_ms: 0,
            account: None,
            code: VerdictCode::SourceUnknown,
            status: 403,
            source: "192.0.2.9:5060".parse().unwrap(),
            transport: Transport::Udp,
            request_uri: String::new(),
            from: String::new(),
            to: String::new(),
            sip_call_id: String::new(),
            user_agent: String::new(),
            call: None,
            trunk: None,
            number: None,
            agent: None,
            trace: Vec::new(),
            near_misses: Vec::new(),
            remedy: Cow::default(),
        }
    }
}
