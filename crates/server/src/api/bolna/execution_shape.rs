//! An execution as Bolna shows it: the object of `GET /executions/{id}`, typed.
//!
//! Fields of Bolna's that only its own agents could fill (transcript, summary, extractions) are there and null.

use serde::Serialize;
use serde_json::{Map, Value};
use tandem_call::{
    CallDirection, CallRecord, CallStatus, HangupBy, HangupReason, RecordingState, TransferOutcome,
    TransferRecord,
};
use utoipa::ToSchema;

use super::shapes::naive;
use crate::store::{Attempt, CallOrder, StoredExecution};

/// A call, from its request to its end.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Execution {
    /// The call's identifier, a UUID.
    id: String,
    /// The agent of the call.
    agent_id: String,
    /// The batch that asked for it.
    #[schema(required)]
    batch_id: Option<String>,
    /// When it was asked for, or came in; UTC.
    #[schema(example = "2026-01-28T13:17:50.116924")]
    created_at: String,
    /// When this was last written.
    updated_at: String,
    /// When it was asked to be placed, if for later.
    #[schema(required)]
    scheduled_at: Option<String>,
    /// When it was first placed, or came in.
    #[schema(required)]
    initiated_at: Option<String>,
    /// When it is placed again, or was put off to.
    #[schema(required)]
    rescheduled_at: Option<String>,
    /// Seconds from the answer to the end.
    #[schema(minimum = 0)]
    conversation_duration: f64,
    /// What it cost, in cents.
    #[schema(minimum = 0)]
    total_cost: f64,
    /// Where it stands.
    status: Status,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    smart_status: Option<String>,
    /// What went wrong, in words.
    #[schema(required)]
    error_message: Option<String>,
    /// Always null: answering machines are not told from people.
    #[schema(required)]
    answered_by_voice_mail: Option<bool>,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    transcript: Option<String>,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    summary: Option<String>,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    extracted_data: Option<Map<String, Value>>,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    agent_extraction: Option<String>,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    custom_extractions: Option<String>,
    /// What the cost is made of, in cents.
    cost_breakdown: CostBreakdown,
    /// Always empty: what is used is the agent's affair.
    usage_breakdown: Map<String, Value>,
    /// What the telephone network tells.
    telephony_data: TelephonyData,
    /// The last transfer of the call to somebody; null when there was none.
    #[schema(required)]
    transfer_call_data: Option<TransferCallData>,
    /// How it stands in its batch.
    #[schema(required)]
    batch_run_details: Option<BatchRunDetails>,
    /// What the request said of the recipient.
    context_details: ContextDetails,
    /// Always `sip-trunk`.
    provider: &'static str,
    /// The other side's number.
    user_number: String,
    /// The account's own number.
    agent_number: String,
    /// Always null.
    #[schema(required)]
    campaign_id: Option<String>,
    /// Always null.
    #[schema(required)]
    workflow_retries: Option<i64>,
    /// When it is tried again.
    #[schema(required)]
    retry_config: Option<RetryConfig>,
    /// Attempts that were followed by another.
    #[schema(minimum = 0, maximum = 3)]
    retry_count: usize,
    /// Those attempts.
    retry_history: Vec<RetryEntry>,
    /// Always null: see `telephony_data.media`.
    #[schema(required)]
    latency_data: Option<Map<String, Value>>,
    /// Always false.
    deleted: bool,
}

/// Where a call stands, in Bolna's words.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::api) enum Status {
    /// To be placed at its time.
    Scheduled,
    /// Made ready for its time.
    Prepared,
    /// To be placed as soon as its turn comes.
    Queued,
    /// To be placed once more, or later than it was asked for.
    Rescheduled,
    /// Being placed, or admitted.
    Initiated,
    /// The other side hears ringing.
    Ringing,
    /// Caller and agent hear each other.
    InProgress,
    /// Over; its record is being completed.
    CallDisconnected,
    /// Over in good order.
    Completed,
    /// The balance is used up.
    BalanceLow,
    /// The called side was occupied.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// Given up before the answer.
    Canceled,
    /// It never came to be, or was lost.
    Failed,
    /// Stopped by the API.
    Stopped,
    /// Ended by a fault of the server.
    Error,
}

impl From<CallStatus> for Status {
    fn from(status: CallStatus) -> Self {
        match status {
            CallStatus::Scheduled => Self::Scheduled,
            CallStatus::Prepared => Self::Prepared,
            CallStatus::Queued => Self::Queued,
            CallStatus::Rescheduled => Self::Rescheduled,
            CallStatus::Initiated => Self::Initiated,
            CallStatus::Ringing => Self::Ringing,
            CallStatus::InProgress => Self::InProgress,
            CallStatus::CallDisconnected => Self::CallDisconnected,
            CallStatus::Completed => Self::Completed,
            CallStatus::BalanceLow => Self::BalanceLow,
            CallStatus::Busy => Self::Busy,
            CallStatus::NoAnswer => Self::NoAnswer,
            CallStatus::Canceled => Self::Canceled,
            CallStatus::Failed => Self::Failed,
            CallStatus::Stopped => Self::Stopped,
            CallStatus::Error => Self::Error,
        }
    }
}

/// What a call cost, in cents, by what it was spent on. All but `network` is the agent's affair, and 0.
#[derive(Serialize, ToSchema)]
struct CostBreakdown {
    llm: f64,
    network: f64,
    platform: f64,
    synthesizer: f64,
    transcriber: f64,
    transfer_cost: f64,
}

/// What the telephone network tells of a call.
#[derive(Serialize, ToSchema)]
struct TelephonyData {
    /// Whole seconds as `69`, and `0.0` for a call that never was.
    #[schema(example = "69")]
    duration: String,
    /// The called number.
    to_number: String,
    /// The calling number.
    from_number: String,
    /// Where the recording can be read with a key of this account, once the call is over; null if there is none.
    #[schema(required)]
    recording_url: Option<String>,
    /// Always false.
    hosted_telephony: bool,
    /// The Call-ID of the carrier's leg; empty before there is one.
    provider_call_id: String,
    /// Which way.
    call_type: CallType,
    /// Always `sip-trunk`.
    provider: &'static str,
    /// Which side ended it.
    #[schema(required, value_type = Option<HangupSide>)]
    hangup_by: Option<HangupBy>,
    /// Why it ended: a text of Bolna's, or a word of this server's.
    #[schema(required, value_type = Option<String>, example = "Call ended normally")]
    hangup_reason: Option<HangupReason>,
    /// The Q.850 cause.
    #[schema(required, minimum = 0, maximum = 127)]
    hangup_provider_code: Option<u8>,
    /// The final SIP status of the INVITE.
    #[schema(required, minimum = 200, maximum = 699)]
    sip_status: Option<u16>,
    /// The Reason header that came with the end, as the carrier wrote it (RFC 3326).
    #[schema(required)]
    sip_reason: Option<String>,
    /// The gateways that an outbound call was tried at, in order, with times and causes.
    #[schema(value_type = Vec<Object>)]
    gateways: Value,
    /// Every transfer that was asked for and tried, in order, with its gateways, times and cause.
    #[schema(value_type = Vec<Object>)]
    transfers: Value,
    /// Whole seconds until the answer, or until the end of a call never answered.
    #[schema(minimum = 0)]
    ring_duration: u64,
    /// Whole seconds until the other side rang.
    #[schema(minimum = 0)]
    post_dial_delay: u64,
    /// Always null.
    #[schema(required)]
    to_number_carrier: Option<String>,
    /// The trunk, once it is known.
    #[schema(required)]
    trunk_id: Option<String>,
    /// The account's own number, once it is known.
    #[schema(required)]
    phone_number_id: Option<String>,
    /// The node that holds or held the call; null while it waits.
    #[schema(required)]
    node: Option<String>,
    /// What the media path counted.
    #[schema(value_type = Object)]
    media: Value,
    /// What went otherwise than a side wished.
    #[schema(value_type = Object)]
    incidents: Value,
}

/// A transfer of a call, in Bolna's words.
#[derive(Serialize, ToSchema)]
struct TransferCallData {
    /// The Call-ID of the second leg; empty when the carrier was asked by REFER.
    provider_call_id: String,
    /// Where it stands: `initiated`, `ringing`, `in-progress`, `completed`, `failed`, `canceled`.
    status: Status,
    /// Whole seconds that the caller talked to the second leg; `0.0` for none.
    #[schema(example = "69")]
    duration: String,
    /// What it cost, in cents; 0, for second legs are not billed here.
    #[schema(minimum = 0)]
    cost: f64,
    /// Where to, as it was asked for.
    to_number: String,
    /// The number that was shown; empty for a REFER.
    from_number: String,
    /// Always null: second legs have no recording of their own.
    #[schema(required)]
    recording_url: Option<String>,
    /// Which side ended it: the caller's, or who it was transferred to (`Callee`).
    #[schema(required, value_type = Option<HangupSide>)]
    hangup_by: Option<HangupBy>,
    /// Why it ended or failed.
    #[schema(required)]
    hangup_reason: Option<String>,
}

/// Which way a call went.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CallType {
    /// From the carrier to the agent.
    Inbound,
    /// From the agent to the carrier.
    Outbound,
}

/// Which side ended a call.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: the call plane's own type is what is written")]
enum HangupSide {
    /// The one who called.
    Caller,
    /// The one who was called.
    Callee,
    /// The carrier's network.
    Carrier,
    /// A fault.
    Error,
    /// A request of the API.
    #[schema(rename = "API Request")]
    ApiRequest,
    /// Nobody can tell.
    Unknown,
}

/// How an execution stands in its batch.
#[derive(Serialize, ToSchema)]
struct BatchRunDetails {
    status: Status,
    created_at: String,
    updated_at: String,
    /// How often it was tried again.
    retried: usize,
}

/// What a request said of the recipient.
#[derive(Serialize, ToSchema)]
struct ContextDetails {
    /// `user_data` of the request; of a call that came in, what `ingest_source_config` brought.
    recipient_data: Map<String, Value>,
    recipient_phone_number: String,
}

/// When a call is tried again.
#[derive(Serialize, ToSchema)]
struct RetryConfig {
    enabled: bool,
    max_retries: u32,
    retry_on_statuses: Vec<Status>,
    retry_on_voicemail: bool,
    retry_intervals_minutes: Vec<u32>,
}

/// One attempt that was followed by another.
#[derive(Serialize, ToSchema)]
struct RetryEntry {
    /// 1 for the first.
    attempt: usize,
    status: Status,
    #[schema(required, value_type = Option<String>)]
    hangup_reason: Option<HangupReason>,
    #[schema(required)]
    error_message: Option<String>,
    started_at: String,
    ended_at: String,
}

/// Makes the shape; `public_url` is the base of the URLs in it.
pub(in crate::api) fn execution(stored: &StoredExecution, public_url: &str) -> Execution {
    let record = &stored.record;
    let order = stored.order.as_ref();
    let cents = stored.cost_millicents as f64 / 1_000.0;
    // An inbound call's user is the caller; an outbound call's user is the called.
    let (user, own) = match record.direction {
        CallDirection::Inbound => (&record.from, &record.to),
        CallDirection::Outbound => (&record.to, &record.from),
    };
    let created =
        order.and_then(|order| order.events.first()).map_or(signed(record.started_unix_ms), |first| first.at);
    let initiated = match order {
        Some(order) => order.initiated_at,
        None => Some(signed(record.started_unix_ms)),
    };
    let attempts = order.map_or(&[][..], |order| &order.attempts);
    Execution {
        id: record.id.to_string(),
        agent_id: record.agent.as_str().to_owned(),
        batch_id: stored.batch.clone(),
        created_at: naive(created),
        updated_at: naive(stored.updated_at),
        scheduled_at: order.and_then(|order| order.scheduled_at).map(naive),
        initiated_at: initiated.map(naive),
        rescheduled_at: order.and_then(|order| order.rescheduled_at).map(naive),
        conversation_duration: record.duration_ms() as f64 / 1_000.0,
        total_cost: cents,
        status: record.status.into(),
        smart_status: None,
        error_message: record.error_message.clone(),
        answered_by_voice_mail: None,
        transcript: None,
        summary: None,
        extracted_data: None,
        agent_extraction: None,
        custom_extractions: None,
        cost_breakdown: CostBreakdown {
            llm: 0.0,
            network: cents,
            platform: 0.0,
            synthesizer: 0.0,
            transcriber: 0.0,
            transfer_cost: 0.0,
        },
        usage_breakdown: Map::new(),
        telephony_data: telephony(record, public_url),
        transfer_call_data: record.transfers.last().map(transfer_call_data),
        batch_run_details: stored.batch.as_ref().map(|_| BatchRunDetails {
            status: record.status.into(),
            created_at: naive(created),
            updated_at: naive(stored.updated_at),
            retried: attempts.len(),
        }),
        context_details: ContextDetails {
            recipient_data: match order {
                Some(order) => order.user_data.clone(),
                None => caller_facts(record),
            },
            recipient_phone_number: user.clone(),
        },
        provider: "sip-trunk",
        user_number: user.clone(),
        agent_number: own.clone(),
        campaign_id: None,
        workflow_retries: None,
        retry_config: order.map(retry_config),
        retry_count: attempts.len(),
        retry_history: attempts.iter().enumerate().map(|(at, attempt)| entry(at, attempt)).collect(),
        latency_data: None,
        deleted: false,
    }
}

fn telephony(record: &CallRecord, public_url: &str) -> TelephonyData {
    let duration = whole_seconds(record.duration_ms());
    let ringing = record.ringing_unix_ms.unwrap_or(record.started_unix_ms);
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    TelephonyData {
        duration,
        to_number: record.to.clone(),
        from_number: record.from.clone(),
        recording_url: record
            .media
            .recording
            .as_ref()
            .filter(|recording| recording.state != RecordingState::Deleted)
            .map(|_| format!("{public_url}/recordings/call/{}", record.id)),
        hosted_telephony: false,
        provider_call_id: record.sip_call_id.clone(),
        call_type: match record.direction {
            CallDirection::Inbound => CallType::Inbound,
            CallDirection::Outbound => CallType::Outbound,
        },
        provider: "sip-trunk",
        hangup_by: record.hangup_by,
        hangup_reason: record.hangup_reason,
        hangup_provider_code: record.q850,
        sip_status: record.sip_status,
        sip_reason: record.sip_reason.clone(),
        gateways: serde_json::to_value(&record.gateways).unwrap_or_default(),
        transfers: serde_json::to_value(&record.transfers).unwrap_or_default(),
        ring_duration: record.ring_ms() / 1_000,
        post_dial_delay: ringing.saturating_sub(record.started_unix_ms) / 1_000,
        to_number_carrier: None,
        trunk_id: named(record.trunk.as_str()),
        phone_number_id: named(record.number.as_str()),
        node: named(&record.node),
        media: serde_json::to_value(&record.media).unwrap_or_default(),
        incidents: serde_json::to_value(&record.incidents).unwrap_or_default(),
    }
}

fn transfer_call_data(transfer: &TransferRecord) -> TransferCallData {
    let is_over = transfer.ended_unix_ms.is_some();
    let status = match transfer.outcome {
        TransferOutcome::Pending if transfer.ringing_unix_ms.is_some() => Status::Ringing,
        TransferOutcome::Pending => Status::Initiated,
        TransferOutcome::Connected if !is_over => Status::InProgress,
        TransferOutcome::Connected | TransferOutcome::HandedOver => Status::Completed,
        TransferOutcome::Cancelled => Status::Canceled,
        TransferOutcome::Failed => Status::Failed,
    };
    let ended = is_over.then_some("Call ended normally");
    let reason = Some(transfer.cause.as_str()).filter(|cause| !cause.is_empty()).or(ended);
    TransferCallData {
        provider_call_id: transfer.sip_call_id.clone(),
        status,
        duration: whole_seconds(transfer.duration_ms()),
        cost: 0.0,
        to_number: transfer.target.clone(),
        from_number: transfer.from.clone(),
        recording_url: None,
        hangup_by: transfer.hangup_by,
        hangup_reason: reason.map(str::to_owned),
    }
}

/// Whole seconds as `69`, and `0.0` for none, as the vendor writes them.
fn whole_seconds(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0.0".to_owned(),
        _ => format!("{}", (milliseconds as f64 / 1_000.0).round()),
    }
}

/// What a look-up of the caller brought.
fn caller_facts(record: &CallRecord) -> Map<String, Value> {
    record.caller_facts.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

fn retry_config(order: &CallOrder) -> RetryConfig {
    let rules = &order.retry;
    RetryConfig {
        enabled: rules.enabled,
        max_retries: rules.max_retries,
        retry_on_statuses: rules.retry_on_statuses.iter().map(|status| (*status).into()).collect(),
        retry_on_voicemail: rules.retry_on_voicemail,
        retry_intervals_minutes: rules.retry_intervals_minutes.clone(),
    }
}

fn entry(at: usize, attempt: &Attempt) -> RetryEntry {
    RetryEntry {
        attempt: at + 1,
        status: attempt.status.into(),
        hangup_reason: attempt.hangup_reason,
        error_message: attempt.error_message.clone(),
        started_at: naive(attempt.started_at),
        ended_at: naive(attempt.ended_at),
    }
}

fn signed(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape's words are the call plane's, which the store and the filters use.
    #[test]
    fn every_status_is_shown_by_its_own_word() {
        for status in CallStatus::ALL {
            assert_eq!(serde_json::to_value(Status::from(status)).unwrap(), status.as_str());
        }
    }
}
