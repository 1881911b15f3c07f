//! What is remembered of a call: one `CallRecord`, upserted while the call lives and emitted once when it is over.
//!
//! What it refuses to do: hold secrets, audio, or anything that is needed to run the call. The names of statuses, sides
//! and reasons are Bolna's where Bolna has one, so that the API hands them out unchanged.

use serde::{Deserialize, Serialize};

use crate::gateways::GatewayAttempt;
use crate::ids::{AccountId, AgentId, CallId, NumberId, TrunkId};
use crate::incident::Incidents;
use crate::media_summary::MediaSummary;
use crate::transfer::TransferRecord;

/// Who called whom, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallDirection {
    /// A carrier's INVITE led to an agent.
    Inbound,
    /// The API asked for a call to a carrier.
    Outbound,
}

/// Where a call stands, in Bolna's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallStatus {
    /// Asked for by the API, to be placed at a later time.
    Scheduled,
    /// Made ready for its time: Bolna's word, which this program reads and does not write.
    Prepared,
    /// Asked for by the API, to be placed as soon as its turn comes.
    Queued,
    /// To be placed once more, or later than it was asked for: see `rescheduled_at`.
    Rescheduled,
    /// Admitted; ports and the agent are being found.
    Initiated,
    /// The caller hears ringing; the agent is being dialled.
    Ringing,
    /// Answered and acknowledged, audio flows.
    InProgress,
    /// Over, the statistics are awaited.
    CallDisconnected,
    /// Answered and ended in good order.
    Completed,
    /// Refused because the called side was occupied.
    Busy,
    /// Never answered in time.
    NoAnswer,
    /// The caller gave up before the answer.
    Canceled,
    /// Never came to be, or was lost: see `hangup_reason` and `error_message`.
    Failed,
    /// Ended by an API request.
    Stopped,
    /// Ended by a fault of the node itself.
    Error,
    /// Never came to be: the account's balance is used up.
    BalanceLow,
}

impl CallStatus {
    /// Every status, in the order of a call's life.
    pub const ALL: [Self; 16] = [
        Self::Scheduled,
        Self::Prepared,
        Self::Queued,
        Self::Rescheduled,
        Self::Initiated,
        Self::Ringing,
        Self::InProgress,
        Self::CallDisconnected,
        Self::Completed,
        Self::BalanceLow,
        Self::Busy,
        Self::NoAnswer,
        Self::Canceled,
        Self::Failed,
        Self::Stopped,
        Self::Error,
    ];

    /// The status of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The word used in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Prepared => "prepared",
            Self::Queued => "queued",
            Self::Rescheduled => "rescheduled",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::CallDisconnected => "call-disconnected",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::BalanceLow => "balance-low",
        }
    }

    /// Whether a call in this status is over for good.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Scheduled
            | Self::Prepared
            | Self::Queued
            | Self::Rescheduled
            | Self::Initiated
            | Self::Ringing
            | Self::InProgress
            | Self::CallDisconnected => false,
            Self::Completed
            | Self::Busy
            | Self::NoAnswer
            | Self::Canceled
            | Self::Failed
            | Self::Stopped
            | Self::Error
            | Self::BalanceLow => true,
        }
    }
}

/// Which side ended the call, in Bolna's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HangupBy {
    /// The one who called: BYE or CANCEL.
    Caller,
    /// The one who was called: for an inbound call, the agent.
    Callee,
    /// The carrier's network: lost signalling or media.
    Carrier,
    /// A fault on the way to the agent or in the node.
    Error,
    /// A command through the API.
    #[serde(rename = "API Request")]
    ApiRequest,
    /// Nobody can tell.
    Unknown,
}

impl HangupBy {
    /// The words used in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "Caller",
            Self::Callee => "Callee",
            Self::Carrier => "Carrier",
            Self::Error => "Error",
            Self::ApiRequest => "API Request",
            Self::Unknown => "Unknown",
        }
    }

    /// Every side.
    pub const ALL: [Self; 6] =
        [Self::Caller, Self::Callee, Self::Carrier, Self::Error, Self::ApiRequest, Self::Unknown];
}

/// Why the call ended. The first nine texts are Bolna's for a SIP cause; the rest name what only we can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HangupReason {
    /// Q.850 16.
    #[serde(rename = "Call ended normally")]
    EndedNormally,
    /// Q.850 17.
    #[serde(rename = "Call recipient was busy")]
    RecipientBusy,
    /// Q.850 19.
    #[serde(rename = "Call unanswered")]
    Unanswered,
    /// Q.850 21.
    #[serde(rename = "Call recipient rejected")]
    RecipientRejected,
    /// The caller sent CANCEL.
    #[serde(rename = "Call canceled by originator")]
    CanceledByOriginator,
    /// Q.850 41.
    #[serde(rename = "Temporary network failure")]
    TemporaryFailure,
    /// Q.850 1.
    #[serde(rename = "Call recipient number invalid")]
    NumberInvalid,
    /// Q.850 38.
    #[serde(rename = "Network error")]
    NetworkError,
    /// Q.850 28.
    #[serde(rename = "Invalid phone number format")]
    NumberFormatInvalid,
    /// No audio came from the caller for the configured time.
    #[serde(rename = "inactivity_timeout")]
    InactivityTimeout,
    /// The longest allowed duration was reached.
    #[serde(rename = "call_terminate")]
    MaximumDuration,
    /// The model behind the agent asked for the end: Bolna's word, for records that its agents write.
    #[serde(rename = "llm_prompted_hangup")]
    PromptedHangup,
    /// The account's balance is used up.
    #[serde(rename = "balance_low")]
    BalanceLow,
    /// The node was told to finish and the bound of its drain ran out.
    #[serde(rename = "node_drained")]
    NodeDrained,
}

impl HangupReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::EndedNormally,
        Self::RecipientBusy,
        Self::Unanswered,
        Self::RecipientRejected,
        Self::CanceledByOriginator,
        Self::TemporaryFailure,
        Self::NumberInvalid,
        Self::NetworkError,
        Self::NumberFormatInvalid,
        Self::InactivityTimeout,
        Self::MaximumDuration,
        Self::PromptedHangup,
        Self::BalanceLow,
        Self::NodeDrained,
    ];

    /// The text used in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndedNormally => "Call ended normally",
            Self::RecipientBusy => "Call recipient was busy",
            Self::Unanswered => "Call unanswered",
            Self::RecipientRejected => "Call recipient rejected",
            Self::CanceledByOriginator => "Call canceled by originator",
            Self::TemporaryFailure => "Temporary network failure",
            Self::NumberInvalid => "Call recipient number invalid",
            Self::NetworkError => "Network error",
            Self::NumberFormatInvalid => "Invalid phone number format",
            Self::InactivityTimeout => "inactivity_timeout",
            Self::MaximumDuration => "call_terminate",
            Self::PromptedHangup => "llm_prompted_hangup",
            Self::BalanceLow => "balance_low",
            Self::NodeDrained => "node_drained",
        }
    }

    /// The Q.850 cause that goes into a BYE's Reason header (RFC 3326) and into the record.
    pub const fn q850(self) -> u8 {
        match self {
            Self::EndedNormally
            | Self::CanceledByOriginator
            | Self::MaximumDuration
            | Self::PromptedHangup => 16,
            Self::RecipientBusy => 17,
            Self::Unanswered => 19,
            Self::RecipientRejected => 21,
            Self::TemporaryFailure => 41,
            Self::NumberInvalid => 1,
            Self::NetworkError => 38,
            Self::NumberFormatInvalid => 28,
            // 21: call rejected; no cause of Q.850 speaks of money.
            Self::BalanceLow => 21,
            // 102: recovery on timer expiry.
            Self::InactivityTimeout => 102,
            // 31: normal, unspecified.
            Self::NodeDrained => 31,
        }
    }
}

/// One call as it is stored and handed out by the API. Times are milliseconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call.
    pub id: CallId,
    /// The tenant.
    pub account: AccountId,
    /// The trunk it came in by, or goes out by; empty as long as an outbound call has none.
    pub trunk: TrunkId,
    /// The account's own number: the one that was called, or that calls; empty as long as an outbound call has none.
    pub number: NumberId,
    /// The agent that was asked.
    pub agent: AgentId,
    /// The name of the node that held it; empty while it waits in the queue.
    pub node: String,
    /// Inbound or outbound.
    pub direction: CallDirection,
    /// The caller, as the From user stands in the INVITE.
    pub from: String,
    /// The called number, as it stands in the Request-URI or To.
    pub to: String,
    /// When the INVITE was admitted.
    pub started_unix_ms: u64,
    /// When 180 went out.
    pub ringing_unix_ms: Option<u64>,
    /// When 200 went out.
    pub answered_unix_ms: Option<u64>,
    /// When the call was over.
    pub ended_unix_ms: Option<u64>,
    /// Where it stands.
    pub status: CallStatus,
    /// Who ended it.
    pub hangup_by: Option<HangupBy>,
    /// Why it ended.
    pub hangup_reason: Option<HangupReason>,
    /// The final SIP status of the INVITE, once there is one.
    pub sip_status: Option<u16>,
    /// The Q.850 cause: the peer's own if its BYE or CANCEL carried one, else ours.
    pub q850: Option<u8>,
    /// The Reason header that told the cause, as it came (RFC 3326).
    #[serde(default)]
    pub sip_reason: Option<String>,
    /// The gateways that an outbound call was tried at, in order; the last is the one that took or ended it.
    #[serde(default)]
    pub gateways: Vec<GatewayAttempt>,
    /// Its transfers, in order.
    #[serde(default)]
    pub transfers: Vec<TransferRecord>,
    /// What went wrong, in words meant for the tenant.
    pub error_message: Option<String>,
    /// The Call-ID of the carrier's leg.
    pub sip_call_id: String,
    /// What a look-up of the caller brought, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caller_facts: Vec<(String, String)>,
    /// What the media path counted.
    pub media: MediaSummary,
    /// What went otherwise than a side wished, in order.
    #[serde(default)]
    pub incidents: Incidents,
}

impl CallRecord {
    /// Milliseconds from answer to end; zero for a call never answered, or not over.
    pub fn duration_ms(&self) -> u64 {
        match (self.answered_unix_ms, self.ended_unix_ms) {
            (Some(answered), Some(ended)) => ended.saturating_sub(answered),
            _ => 0,
        }
    }

    /// Milliseconds from the INVITE to the answer, or to the end when it was never answered.
    pub fn ring_ms(&self) -> u64 {
        let end = self.answered_unix_ms.or(self.ended_unix_ms).unwrap_or(self.started_unix_ms);
        end.saturating_sub(self.started_unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The enum's own text and what serde writes must be one and the same, for the store reads what the API wrote.
    #[test]
    fn words_in_json_are_the_words_of_as_str() {
        for status in CallStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(CallStatus::from_word(status.as_str()), Some(status));
        }
        for by in HangupBy::ALL {
            assert_eq!(serde_json::to_value(by).unwrap(), by.as_str());
        }
        for reason in HangupReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
