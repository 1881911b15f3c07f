//! The control plane's metrics: name, kind and meaning of each, so that one list tells what there is. An account
//! is a label nowhere: tenants come and go, and a metric's labels must not.

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
    metric("tandem_calls", Kind::Gauge, "Calls that are up on this node"),
    metric("tandem_calls_ended_total", Kind::Counter, "Calls that ended, by final status"),
    metric("tandem_verdicts_total", Kind::Counter, "INVITEs decided, by verdict code"),
    metric("tandem_routing_numbers", Kind::Gauge, "Numbers in the routing table"),
    metric(
        "tandem_routing_publish_delay_seconds",
        Kind::Seconds,
        "Time to read the store and hand the engine a table",
    ),
    metric("tandem_routing_failures_total", Kind::Counter, "Reloads of routing that failed"),
    metric(
        "tandem_journal_lost_total",
        Kind::Counter,
        "Records and verdicts lost because the database did not keep up",
    ),
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
        "tandem_gateway_lookups_total",
        Kind::Counter,
        "Look-ups of gateways' names, by outcome: found, stale (the last answer is used), failed",
    ),
    metric("tandem_api_refused_keys_total", Kind::Counter, "API requests without a valid key"),
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
