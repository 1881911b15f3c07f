//! What happened in the course of a call, in order, in the shape of Bolna's log: entries that are requests or responses
//! of a component.
//!
//! Made of what is known of the call: its order's way through the queue, the SIP messages as long as this node
//! remembers them, the milestones of its record, and what its agent and its media path did otherwise than wished.

use serde::Serialize;
use tandem_call::ladder::Heading;
use tandem_call::{CallDirection, CallRecord, IncidentKind, Rung};
use utoipa::ToSchema;

use super::shapes::naive;
use crate::store::StoredExecution;

/// What happened in the course of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct ExecutionLog {
    /// Always `success`.
    status: &'static str,
    /// In the order of time.
    data: Vec<LogEntry>,
}

/// One thing that happened.
#[derive(Serialize, ToSchema)]
struct LogEntry {
    /// When; UTC.
    #[schema(example = "2026-01-28T13:17:50.116924")]
    created_at: String,
    /// Towards a component, or from it.
    #[serde(rename = "type")]
    kind: LogKind,
    /// What took part.
    component: Component,
    /// Always `sip-trunk`.
    provider: &'static str,
    /// What it was, in words.
    data: String,
    /// Always null: filled by Bolna's own agents.
    #[schema(required)]
    reasoning_content: Option<String>,
    #[serde(skip)]
    at: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LogKind {
    Request,
    Response,
}

/// What takes part in a call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Component {
    /// The queue of outbound calls.
    Queue,
    /// A SIP message.
    Sip,
    /// The call as a whole.
    Call,
    /// The agent's socket.
    Agent,
    /// The audio.
    Media,
}

/// Makes the log.
pub(super) fn log(stored: &StoredExecution, rungs: &[Rung]) -> ExecutionLog {
    let record = &stored.record;
    let mut data: Vec<LogEntry> = Vec::new();
    for event in stored.order.iter().flat_map(|order| &order.events) {
        let at = event.at.unsigned_abs();
        data.push(entry(at, LogKind::Response, Component::Queue, event.text.clone()));
    }
    for rung in rungs {
        let kind = match rung.heading {
            Heading::In => LogKind::Response,
            Heading::Out => LogKind::Request,
        };
        let peer = rung.peer.map_or_else(|| "a name".to_owned(), |peer| peer.to_string());
        let way = match rung.heading {
            Heading::In => "from",
            Heading::Out => "to",
        };
        let text = format!("{} ({}, {} bytes, {way} {peer})", rung.start_line, rung.cseq, rung.bytes);
        data.push(entry(rung.at_unix_ms, kind, Component::Sip, text));
    }
    data.extend(milestones(record));
    for incident in &record.incidents.entries {
        let component = match incident.kind {
            IncidentKind::DigitRefused | IncidentKind::EncryptionBroken => Component::Media,
            IncidentKind::EncryptionRefused => Component::Sip,
            IncidentKind::CallerLookupFailed => Component::Call,
            _ => Component::Agent,
        };
        data.push(entry(incident.at_unix_ms, LogKind::Response, component, incident.detail.clone()));
    }
    // Sorting keeps the order of what happened in the same millisecond.
    data.sort_by_key(|entry| entry.at);
    ExecutionLog { status: "success", data }
}

fn milestones(record: &CallRecord) -> Vec<LogEntry> {
    let mut data = Vec::new();
    let mut add = |at: Option<u64>, component, text: String| {
        data.extend(at.map(|at| entry(at, LogKind::Response, component, text)));
    };
    if record.direction == CallDirection::Inbound {
        let text = format!("call from {} to {} admitted; the agent is asked", record.from, record.to);
        add(Some(record.started_unix_ms), Component::Call, text);
    }
    add(record.ringing_unix_ms, Component::Call, "the other side hears ringing".to_owned());
    if record.answered_unix_ms.is_some() && record.direction == CallDirection::Inbound {
        add(record.answered_unix_ms, Component::Agent, "the agent's socket is up".to_owned());
    }
    add(record.answered_unix_ms, Component::Call, "answered".to_owned());
    if record.ended_unix_ms.is_some() {
        let by = record.hangup_by.map_or("nobody known", |by| by.as_str());
        let reason = record.hangup_reason.map_or("no reason", |reason| reason.as_str());
        let mut text = format!("ended as {} by {by}: {reason}", record.status.as_str());
        if let Some(error) = &record.error_message {
            text.push_str("; ");
            text.push_str(error);
        }
        add(record.ended_unix_ms, Component::Call, text);
        if record.answered_unix_ms.is_some() {
            let media = &record.media;
            let text = format!(
                "{} packets received, {} sent, {} lost; {} ms of the agent's audio were heard",
                media.packets_received, media.packets_sent, media.packets_lost, media.heard_ms
            );
            add(record.ended_unix_ms, Component::Media, text);
        }
    }
    data
}

fn entry(at: u64, kind: LogKind, component: Component, data: String) -> LogEntry {
    LogEntry {
        created_at: naive(i64::try_from(at).unwrap_or(i64::MAX)),
        kind,
        component,
        provider: "sip-trunk",
        data,
        reasoning_content: None,
        at,
    }
}
