//! Every metric: name, kind and meaning, so that one list tells what there is; a test holds it to the sources and
//! another to the page. An account is a label nowhere: tenants come and go, and a metric's labels must not.

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, in buckets.
    Seconds,
}

/// One metric: name, kind, and what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, as scraped.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// What it tells, with its labels.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

/// The list.
pub const METRICS: &[Metric] = &[
    metric("tandem_calls", Kind::Gauge, "Calls that are up on this node: those that `/v1/calls` lists"),
    metric("tandem_calls_ended_total", Kind::Counter, "Calls that ended, by final status"),
    metric("tandem_recordings", Kind::Gauge, "Recordings that are being written"),
    metric("tandem_recordings_finished_total", Kind::Counter, "Recordings that are whole and in their place"),
    metric("tandem_recordings_expired_total", Kind::Counter, "Recordings deleted because they were old"),
    metric(
        "tandem_recording_failures_total",
        Kind::Counter,
        "Recordings that could not be written, repaired or put in their place",
    ),
    metric(
        "tandem_recording_blocks_dropped_total",
        Kind::Counter,
        "Half seconds of recordings lost because their writer did not keep up, by media thread",
    ),
    metric("tandem_recording_milliseconds_total", Kind::Counter, "Milliseconds written into recordings"),
    metric(
        "tandem_recording_uploads_total",
        Kind::Counter,
        "Attempts to bring a recording to the object store, by outcome: done or failed",
    ),
    metric("tandem_verdicts_total", Kind::Counter, "INVITEs decided, by verdict code"),
    metric("tandem_routing_numbers", Kind::Gauge, "Numbers in the routing table"),
    metric(
        "tandem_routing_publish_delay_seconds",
        Kind::Seconds,
        "Time to read the store and hand the engine a table",
    ),
    metric("tandem_routing_failures_total", Kind::Counter, "Reloads of routing that failed"),
    metric("tandem_journal_lost_total", Kind::Counter, "Verdicts lost because the database did not keep up"),
    metric(
        "tandem_journal_failures_total",
        Kind::Counter,
        "Writes of records or verdicts that had to be repeated",
    ),
    metric("tandem_journal_records_waiting", Kind::Gauge, "Calls whose record waits for the database"),
    metric(
        "tandem_journal_behind_total",
        Kind::Counter,
        "Times that the node took no new calls because records waited",
    ),
    metric("tandem_store_retries_total", Kind::Counter, "Transactions begun again after a passing fault"),
    metric("tandem_store_busy_total", Kind::Counter, "API requests that waited too long for the database"),
    metric("tandem_routing_reloads_total", Kind::Counter, "Times that routing was read whole"),
    metric(
        "tandem_routing_foreign_changes_total",
        Kind::Counter,
        "Changes by other processes that routing took over",
    ),
    metric(
        "tandem_routing_foreign_delay_seconds",
        Kind::Seconds,
        "Age of another process's change when routing took it over, by the clocks of both",
    ),
    metric("tandem_store_failures_total", Kind::Counter, "API requests that the store failed"),
    metric("tandem_api_requests_total", Kind::Counter, "API requests, by method, route and status"),
    metric(
        "tandem_api_request_delay_seconds",
        Kind::Seconds,
        "Time to answer an API request, by method and route",
    ),
    metric(
        "tandem_api_connections_refused_total",
        Kind::Counter,
        "HTTP connections closed for breaking a bound, by reason",
    ),
    metric(
        "tandem_caller_lookups_total",
        Kind::Counter,
        "Callers looked up at their agents' sources, by what came of it",
    ),
    metric("tandem_calls_queued_total", Kind::Counter, "Outbound calls put on the queue"),
    metric("tandem_call_queue_full_total", Kind::Counter, "Outbound calls refused because too many waited"),
    metric("tandem_call_queue_failures_total", Kind::Counter, "Times the queue could not be read or written"),
    metric("tandem_calls_being_placed", Kind::Gauge, "Outbound calls that this node is placing"),
    metric("tandem_calls_placed_total", Kind::Counter, "Outbound calls settled, by status"),
    metric(
        "tandem_calls_without_room_total",
        Kind::Counter,
        "Times that an outbound call was put back because its trunk or the node had no room",
    ),
    metric(
        "tandem_gateway_checks_total",
        Kind::Counter,
        "Outcomes of asking gateways by OPTIONS, by what the gateway was then held to be",
    ),
    metric("tandem_gateway_round_trip_seconds", Kind::Seconds, "From an OPTIONS to its answer"),
    metric(
        "tandem_gateway_lookups_total",
        Kind::Counter,
        "Look-ups of SIP servers' names, by outcome: found, stale (the last answer is used), absent, failed, refused (too many at \
         once), dropped (forgotten for want of room)",
    ),
    metric(
        "tandem_registration_attempts_total",
        Kind::Counter,
        "Attempts to register trunks at their carriers that are over, by outcome: accepted, failed",
    ),
    metric(
        "tandem_trunk_examinations_total",
        Kind::Counter,
        "Examinations of trunks by the doctor that were begun",
    ),
    metric("tandem_registration_round_trip_seconds", Kind::Seconds, "From a REGISTER to its answer"),
    metric(
        "tandem_registrations",
        Kind::Gauge,
        "Trunks that register, by how that stands: pending, registered, failed, unregistered",
    ),
    metric("tandem_api_refused_keys_total", Kind::Counter, "API requests without a valid key"),
    metric(
        "tandem_journal_refused_total",
        Kind::Counter,
        "Records, verdicts and webhooks left out because the database refuses what they hold, by what",
    ),
    metric(
        "tandem_calls_held",
        Kind::Gauge,
        "Calls that signalling holds: those being set up and just ended too",
    ),
    metric("tandem_agents_dialling", Kind::Gauge, "WebSockets to agents being set up"),
    metric("tandem_call_setup_seconds", Kind::Seconds, "INVITE to answer, of calls that were answered"),
    metric("tandem_call_duration_seconds", Kind::Seconds, "Answer to end, of calls that were answered"),
    metric(
        "tandem_barge_ins_total",
        Kind::Counter,
        "Callers who began to speak while an agent with voice_activity did",
    ),
    metric("tandem_inband_digits_total", Kind::Counter, "Keys that were found as tones in callers' audio"),
    metric("tandem_added_delay_seconds", Kind::Seconds, "How long audio took through this process, by way"),
    metric("tandem_engine_events_total", Kind::Counter, "What the call engine counted, by event"),
    metric("tandem_engine_held", Kind::Gauge, "What the call engine holds, by what"),
    metric("tandem_signalling_inputs_total", Kind::Counter, "Inputs that the call engine dealt with"),
    metric(
        "tandem_signalling_faults_total",
        Kind::Counter,
        "Inputs given up because of a fault in the program",
    ),
    metric("tandem_signalling_longest_turn_seconds", Kind::Gauge, "Longest time that one input took"),
    metric("tandem_sip_events_total", Kind::Counter, "What the SIP endpoint counted, by event"),
    metric(
        "tandem_sip_transmit_failures_total",
        Kind::Counter,
        "SIP messages that could not be handed to their transport",
    ),
    metric("tandem_sip_udp_received_total", Kind::Counter, "SIP datagrams received"),
    metric("tandem_sip_udp_dropped_total", Kind::Counter, "SIP datagrams dropped because too many waited"),
    metric("tandem_sip_udp_unroutable_total", Kind::Counter, "SIP datagrams with no socket to leave by"),
    metric("tandem_sip_udp_sent_total", Kind::Counter, "SIP datagrams sent"),
    metric(
        "tandem_sip_udp_send_blocked_total",
        Kind::Counter,
        "SIP datagrams that waited for room in the socket",
    ),
    metric("tandem_sip_connections", Kind::Gauge, "SIP connections that are open"),
    metric("tandem_sip_connections_accepted_total", Kind::Counter, "SIP connections accepted"),
    metric(
        "tandem_sip_tls_handshakes_failed_total",
        Kind::Counter,
        "SIP connections that ended before their TLS stood",
    ),
    metric("tandem_sip_connections_failed_total", Kind::Counter, "SIP connections that could not be made"),
    metric(
        "tandem_sip_connections_closed_total",
        Kind::Counter,
        "SIP connections closed for breaking a bound, by cause",
    ),
    metric("tandem_rtp_port_pairs", Kind::Gauge, "Pairs of RTP ports, by state"),
    metric(
        "tandem_rtp_ports_exhausted_total",
        Kind::Counter,
        "Calls for which no pair of RTP ports was free",
    ),
    metric("tandem_rtp_ports_occupied_total", Kind::Counter, "RTP ports found in use by another program"),
    metric("tandem_rtp_received_total", Kind::Counter, "RTP packets received, by media thread"),
    metric("tandem_rtp_sent_total", Kind::Counter, "RTP packets sent, by media thread"),
    metric("tandem_rtp_oversized_total", Kind::Counter, "RTP packets too long to be read, by media thread"),
    metric(
        "tandem_rtp_send_errors_total",
        Kind::Counter,
        "RTP packets that could not be sent, by media thread",
    ),
    metric("tandem_rtcp_received_total", Kind::Counter, "RTCP packets received, by media thread"),
    metric("tandem_rtcp_sent_total", Kind::Counter, "RTCP packets sent, by media thread"),
    metric("tandem_agent_messages_received_total", Kind::Counter, "Messages from agents, by media thread"),
    metric("tandem_agent_messages_sent_total", Kind::Counter, "Messages to agents, by media thread"),
    metric(
        "tandem_agent_messages_dropped_total",
        Kind::Counter,
        "Messages to agents dropped because the agent did not read, by media thread",
    ),
    metric(
        "tandem_agent_connections_broken_total",
        Kind::Counter,
        "WebSockets of agents that broke, by media thread",
    ),
    metric("tandem_media_calls", Kind::Gauge, "Calls with a media path, by media thread"),
    metric("tandem_media_calls_opened_total", Kind::Counter, "Media paths opened, by media thread"),
    metric(
        "tandem_media_calls_failed_total",
        Kind::Counter,
        "Media paths that failed to open, by media thread",
    ),
    metric("tandem_media_ticks_total", Kind::Counter, "Ticks of the media clock, by media thread"),
    metric(
        "tandem_media_late_ticks_total",
        Kind::Counter,
        "Ticks of the media clock that came late, by media thread",
    ),
    metric(
        "tandem_media_latest_tick_seconds",
        Kind::Gauge,
        "How late the latest tick of the media clock was, by media thread",
    ),
    metric(
        "tandem_media_budget_exceeded_total",
        Kind::Counter,
        "Times that a call had more to do in a turn than it may, by media thread",
    ),
    metric(
        "tandem_media_events_dropped_total",
        Kind::Counter,
        "Events of media paths dropped because signalling did not take them, by media thread",
    ),
    metric(
        "tandem_media_faults_total",
        Kind::Counter,
        "Calls given up because of a fault in the program, by media thread",
    ),
    metric(
        "tandem_api_rate_limited_total",
        Kind::Counter,
        "API requests refused for coming too fast, by account or address",
    ),
    metric(
        "tandem_api_answers_lost_total",
        Kind::Counter,
        "Answers that could not be kept for a repeated Idempotency-Key",
    ),
    metric(
        "tandem_api_answers_repeated_total",
        Kind::Counter,
        "Answers given again to a repeated Idempotency-Key",
    ),
    metric("tandem_store_dropped_rows_total", Kind::Counter, "Old rows dropped, by table"),
    metric("tandem_webhook_attempts_total", Kind::Counter, "Deliveries of webhooks tried, by outcome"),
    metric(
        "tandem_webhook_store_failures_total",
        Kind::Counter,
        "Times that the queue of webhooks could not be read or written",
    ),
    metric("tandem_webhooks_left_out_total", Kind::Counter, "Webhooks not queued because too many waited"),
];

/// Tells the recorder what each metric of the list is; once, after it is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Seconds => metrics::describe_histogram!(metric.name, metrics::Unit::Seconds, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every text of the sources that is a metric's name.
    fn named_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, names);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("metric_list.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').skip(1);
                let is_name = |text: &&str| {
                    text.starts_with("tandem_")
                        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                };
                names.extend(quoted.filter(is_name).map(str::to_owned));
            }
        }
    }

    #[test]
    fn the_list_holds_every_metric_of_the_sources_and_no_other() {
        let mut named = BTreeSet::new();
        named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut named);
        let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(listed.len(), METRICS.len(), "a name stands twice");
        assert_eq!(named.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the list");
        assert_eq!(listed.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "nowhere counted");
    }

    #[test]
    fn names_tell_the_kind() {
        for metric in METRICS {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.kind != Kind::Seconds || metric.name.ends_with("_seconds"), "{}", metric.name);
        }
    }
}
