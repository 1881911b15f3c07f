//! Agents as they are described and shown: Bolna's object with what telephony reads of it, and the `websocket` object.
//!
//! An agent is shown as it was given, unknown fields and all; header values are masked, and no other secret has a
//! way in here.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shapes::naive;
use crate::api::schemas;
use crate::store::StoredAgent;

/// An agent: the client's own object, the fields of `agent_config` also at the top (where readers of Bolna's API look),
/// and what the server knows.
#[derive(Serialize, ToSchema)]
pub(super) struct Agent {
    /// Identifier, a UUID.
    id: String,
    /// The same.
    agent_id: String,
    /// The account.
    user_id: String,
    /// The owner's name for it.
    agent_name: String,
    /// Always `processed`.
    agent_status: &'static str,
    /// UTC.
    #[schema(example = "2026-01-28T13:17:50.116924")]
    created_at: String,
    /// UTC.
    updated_at: String,
    /// Everything else the client gave.
    #[serde(flatten)]
    #[schema(ignore)]
    given: Map<String, Value>,
}

/// Names that are the server's to fill.
const OWN: &[&str] = &["id", "agent_id", "user_id", "agent_name", "agent_status", "created_at", "updated_at"];

impl Agent {
    /// Shows a stored agent.
    pub(super) fn of(stored: &StoredAgent) -> Self {
        let mut given = Map::new();
        if let Some(Value::Object(config)) = stored.body.get("agent_config") {
            given.extend(config.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        given.extend(stored.body.iter().map(|(name, value)| (name.clone(), value.clone())));
        given.retain(|name, _| !OWN.contains(&name.as_str()));
        Self {
            id: stored.id.clone(),
            agent_id: stored.id.clone(),
            user_id: stored.account.clone(),
            agent_name: stored.name.clone(),
            agent_status: "processed",
            created_at: naive(stored.created_at),
            updated_at: naive(stored.updated_at),
            given,
        }
    }
}

/// An agent that was made or replaced.
#[derive(Serialize, ToSchema)]
pub(super) struct AgentMade {
    /// Its identifier.
    pub(super) agent_id: String,
    /// `created` or `updated`.
    pub(super) status: &'static str,
    /// The same: what Bolna's live system answers.
    pub(super) state: &'static str,
}

/// A change that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct AgentDone {
    /// Always `success`.
    pub(super) message: &'static str,
    /// `updated` or `deleted`.
    pub(super) state: &'static str,
}

/// An agent to be made, or that replaces another. Fields not named here are kept and shown.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct AgentBody {
    agent_config: AgentConfigBody,
    /// Prompts by task, kept and shown.
    #[schema(required = false)]
    agent_prompts: Option<Value>,
    /// How the agent is reached. Without it, it cannot be called.
    #[schema(required = false)]
    websocket: Option<SocketBody>,
    /// How its calls are recorded, each from its answer on. Without it, or with null, they are not.
    #[schema(required = false)]
    recording: Option<AgentRecordingBody>,
}

/// How an agent's calls are recorded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::recording_rule")]
pub(super) struct AgentRecordingBody {
    /// Whether they are; true without it.
    #[schema(required = false)]
    enabled: Option<bool>,
    /// How a recording is written. `wav`: 16-bit samples, caller left and agent right.
    #[schema(pattern = "^wav$", required = false, example = "wav")]
    format: Option<String>,
    /// What a pause leaves in it: `silence` as long as the pause, or nothing (`skip`).
    #[schema(pattern = "^(silence|skip)$", required = false, example = "silence")]
    pause: Option<String>,
}

/// What is to be changed of an agent: objects are merged, everything else is replaced.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct AgentPatch {
    #[schema(required = false, nullable = false)]
    agent_config: Option<AgentConfigPatch>,
    /// Prompts by task, kept and shown.
    #[schema(required = false)]
    agent_prompts: Option<Value>,
    /// How the agent is reached; merged with what stands. Null takes it away.
    #[schema(required = false)]
    websocket: Option<SocketPatch>,
    /// How its calls are recorded; merged with what stands. With null they are not.
    #[schema(required = false)]
    recording: Option<AgentRecordingBody>,
}

/// Bolna's description of an agent: what telephony reads of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct AgentConfigBody {
    /// The owner's name for it.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[ -~]*[!-~][ -~]*$", example = "Support")]
    agent_name: String,
    /// `sip-trunk` and `trunk` set the formats of its tasks to `ulaw`.
    #[schema(required = false)]
    telephony_provider: Option<TelephonyProvider>,
    /// Where to POST each change of its calls: an `https` or `http` URL.
    #[schema(
        required = false,
        max_length = 2_048,
        pattern = r"^(https?://[A-Za-z0-9._:\[\]-]+([/?#][!-~]*)?)?$",
        example = "https://hooks.example/calls"
    )]
    webhook_url: Option<String>,
    /// When it may call.
    #[schema(required = false)]
    calling_guardrails: Option<GuardrailsBody>,
    /// Where callers are looked up before the agent is told of a call.
    #[schema(required = false)]
    ingest_source_config: Option<CallerSourceBody>,
    /// Its tasks; the first that has a setting counts.
    #[schema(required = false, max_items = 64)]
    tasks: Option<Vec<TaskBody>>,
}

/// What is to be changed of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct AgentConfigPatch {
    /// The owner's name for it.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[ -~]*[!-~][ -~]*$",
        required = false,
        nullable = false
    )]
    agent_name: Option<String>,
    /// `sip-trunk` and `trunk` set the formats of its tasks to `ulaw`.
    #[schema(required = false)]
    telephony_provider: Option<TelephonyProvider>,
    /// Where to POST each change of its calls: an `https` or `http` URL.
    #[schema(
        required = false,
        max_length = 2_048,
        pattern = r"^(https?://[A-Za-z0-9._:\[\]-]+([/?#][!-~]*)?)?$",
        example = "https://hooks.example/calls"
    )]
    webhook_url: Option<String>,
    /// When it may call.
    #[schema(required = false)]
    calling_guardrails: Option<GuardrailsBody>,
    /// Where callers are looked up before the agent is told of a call.
    #[schema(required = false)]
    ingest_source_config: Option<CallerSourceBody>,
    /// Its tasks, all of them.
    #[schema(required = false, max_items = 64)]
    tasks: Option<Vec<TaskBody>>,
}

/// By whom an agent is reached.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum TelephonyProvider {
    Twilio,
    Plivo,
    Exotel,
    Vobiz,
    SipTrunk,
    Trunk,
    Default,
}

/// The hours of the recipient's day in which an agent may call; the end not before the start.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct GuardrailsBody {
    /// The first hour.
    #[schema(minimum = 0, maximum = 23, example = 9)]
    call_start_hour: u8,
    /// The hour at whose beginning calling ends.
    #[schema(minimum = 0, maximum = 23, example = 17)]
    call_end_hour: u8,
}

/// Where callers are looked up. Of kind `api`: `GET source_url?contact_number=…&agent_id=…&execution_id=…`, whose answer, a
/// JSON object, becomes parameters of the call. The other kinds are kept and not read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct CallerSourceBody {
    /// Which kind.
    source_type: CallerSourceKind,
    /// Where it is: an `https` or `http` URL. Kinds `api` and `google_sheet` must have it.
    #[schema(
        required = false,
        max_length = 2_048,
        pattern = r"^https?://[A-Za-z0-9._-]+(:[1-9][0-9]{0,3})?(/[!-~]*)?$",
        example = "https://crm.example/customers"
    )]
    source_url: Option<String>,
    /// Sent as `Authorization: Bearer …`; shown masked. Kind `api` must have it.
    #[schema(required = false, max_length = 4_096, pattern = "^[ -~]*$", example = "abc123")]
    source_auth_token: Option<String>,
    /// Name of a file or sheet. Kinds `csv` and `google_sheet` must have it.
    #[schema(required = false, max_length = 4_096, pattern = "^[ -~]*$", example = "leads.csv")]
    source_name: Option<String>,
}

/// Kinds of sources of callers.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum CallerSourceKind {
    Api,
    Csv,
    GoogleSheet,
}

/// One task: what telephony reads of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct TaskBody {
    #[schema(required = false)]
    task_config: Option<TaskConfigBody>,
    /// Its `input` and `output` have `provider` and `format`, which mapping a number sets.
    #[schema(required = false, value_type = Option<Object>)]
    tools_config: Option<Map<String, Value>>,
}

/// What an agent's owner asks of its calls.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct TaskConfigBody {
    /// Most calls of one caller that are answered; -1 is no bound.
    #[schema(minimum = -1, maximum = 1_000_000, required = false)]
    inbound_limit: Option<i64>,
    /// Callers that no rule refuses.
    #[schema(max_items = 10_000, required = false)]
    whitelist_phone_numbers: Option<Vec<WhitelistNumber>>,
    /// Refuse callers who are not in `whitelist_phone_numbers`.
    #[schema(required = false)]
    disallow_unknown_numbers: Option<bool>,
    /// Longest call, seconds; 0 is no bound but the server's.
    #[schema(minimum = 0, maximum = 86_400, required = false)]
    call_terminate: Option<i64>,
    /// Seconds in which neither side says anything, after which the call ends (`inactivity_timeout`); 0 is never.
    #[schema(minimum = 0, maximum = 86_400, required = false)]
    hangup_after_silence: Option<f64>,
}

/// A number, with or without its plus.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 64, pattern = r"^[!-~]+$", example = "+14155550100")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct WhitelistNumber(String);

macro_rules! socket_schema {
    ($(#[$doc:meta])* $name:ident, $url:ty, $dialect:ty, [$($required:tt)*]) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
        pub(super) struct $name {
            /// `ws://` or `wss://`, a template over the call's facts.
            #[schema($($required)* schema_with = schemas::socket_url)]
            url: $url,
            /// The protocol spoken on the socket.
            #[schema($($required)* schema_with = schemas::dialect)]
            dialect: $dialect,
            /// Headers of the upgrade request: texts, templates; shown masked.
            #[schema(required = false, schema_with = schemas::socket_headers)]
            headers: Option<Map<String, Value>>,
            /// WebSocket subprotocol to offer.
            #[schema(required = false, max_length = 255, min_length = 1, pattern = r"^[A-Za-z0-9._-]+$")]
            subprotocol: Option<String>,
            /// Parameters told to the agent at the start: texts (templates), numbers, switches.
            #[schema(required = false, schema_with = schemas::socket_parameters)]
            parameters: Option<Map<String, Value>>,
            /// Milliseconds of audio in one message, a multiple of 10 that the dialect allows.
            #[schema(required = false, minimum = 10, maximum = 200, multiple_of = 10)]
            frame_ms: Option<u16>,
            /// How audio is encoded, where the dialect leaves a choice.
            #[schema(required = false)]
            encoding: Option<EncodingWord>,
            /// How the agent's audio is encoded where its messages do not say, if otherwise.
            #[schema(required = false)]
            reply_encoding: Option<EncodingWord>,
            /// The order of the two bytes of linear audio, if not the dialect's own.
            #[schema(required = false)]
            byte_order: Option<ByteOrderWord>,
            /// How sequence numbers, chunks and timestamps are written, if not the dialect's own way.
            #[schema(required = false)]
            numbers: Option<NumbersWord>,
            /// What a clear does with marks that it overtakes, if not the dialect's own.
            #[schema(required = false)]
            marks_on_clear: Option<MarksWord>,
            /// What is made of the caller's voice: nothing, events for the agent, or also a clear when he barges in.
            #[schema(required = false)]
            voice_activity: Option<VoiceActivityWord>,
            /// Whether the agent is told with each mark, clear and end how much was heard.
            #[schema(required = false)]
            heard_position: Option<bool>,
            /// Whether keys are looked for in the caller's audio.
            #[schema(required = false)]
            inband_dtmf: Option<InbandDtmfWord>,
            /// Settings of the session with `openai-realtime`, `elevenlabs` or `deepgram`, laid over our own.
            #[schema(required = false, value_type = Option<Object>)]
            session: Option<Map<String, Value>>,
            /// What the end of the socket does to the call.
            #[schema(required = false)]
            on_close: Option<OnCloseWord>,
            /// Tried when `url` cannot be reached.
            #[schema(required = false, schema_with = schemas::socket_url_or_null)]
            fallback_url: Option<String>,
        }
    };
}

socket_schema!(
    /// How an agent is reached.
    SocketBody, String, String, []
);
socket_schema!(
    /// What is to be changed of how an agent is reached.
    SocketPatch, Option<String>, Option<String>, [required = false, nullable = false,]
);

/// How audio is encoded.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum EncodingWord {
    Ulaw,
    Alaw,
    Slin,
    Slin16,
    Slin24,
    Slin48,
}

/// The order of the two bytes of a linear sample.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum ByteOrderWord {
    Little,
    Big,
}

/// How numbers of messages are written.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum NumbersWord {
    /// In quotes.
    Text,
    /// As JSON numbers.
    Number,
}

/// What is made of the caller's voice.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum VoiceActivityWord {
    /// Nothing.
    Off,
    /// The agent is told of the caller's turns and of his barging in.
    Events,
    /// The same, and what is queued is dropped when he barges in.
    Clear,
}

/// Where keys are looked for in the caller's audio.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum InbandDtmfWord {
    /// In calls that negotiated no telephone events.
    Auto,
    /// In every call until an event comes.
    Always,
    /// In none.
    Never,
}

/// What becomes of marks whose audio is dropped.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum MarksWord {
    /// They are reported as played.
    Echo,
    /// They are forgotten.
    Drop,
    /// They are reported as cleared.
    Cleared,
}

/// What the end of the socket does to the call.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum OnCloseWord {
    /// What the agent has said is heard first.
    Drain,
    /// The call ends at once.
    Hangup,
}
