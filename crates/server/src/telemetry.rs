//! Logs, metrics, and the span of a call.
//!
//! Metrics are described here, all of them, so that one list tells what there is. Secrets are never logged; what
//! holds one has a `Debug` that does not show it. Numbers and display names stay below INFO.

use std::io::IsTerminal as _;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tandem_call::CallRecord;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Telemetry};

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

/// The control plane's metrics. Others that the shell counts describe themselves where they are counted.
pub const METRICS: &[Metric] = &[
    metric("tandem_calls", Kind::Gauge, "Calls that are up on this node"),
    metric("tandem_calls_ended_total", Kind::Counter, "Calls that ended, by final status"),
    metric("tandem_verdicts_total", Kind::Counter, "INVITEs decided, by verdict code"),
    metric("tandem_routing_numbers", Kind::Gauge, "Numbers in the routing table"),
    metric("tandem_routing_publish_seconds", Kind::Seconds, "Time to read the store and hand the engine a table"),
    metric("tandem_routing_failures_total", Kind::Counter, "Reloads of routing that failed"),
    metric("tandem_journal_lost_total", Kind::Counter, "Records and verdicts lost because the database did not keep up"),
    metric("tandem_journal_failures_total", Kind::Counter, "Writes of records or verdicts that had to be repeated"),
    metric("tandem_store_failures_total", Kind::Counter, "API requests that the store failed"),
    metric("tandem_api_requests_total", Kind::Counter, "API requests, by method, route and status"),
    metric("tandem_api_request_seconds", Kind::Seconds, "Time to answer an API request, by method and route"),
    metric("tandem_api_refused_keys_total", Kind::Counter, "API requests without a valid key"),
];

/// Bounds of the histograms' buckets, seconds.
const BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Starts logging to standard error. A second call in one process changes nothing.
pub fn start_logging(telemetry: &Telemetry) {
    let filter = EnvFilter::try_new(&telemetry.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match telemetry.format {
        LogFormat::Plain => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(error, "logging was started before");
    }
}

/// Starts the recorder behind `/metrics`, for the whole process.
///
/// # Errors
/// When one is running already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(handle)
}

/// A recorder of its own, not the process's: for tests, which run side by side.
///
/// # Errors
/// When the buckets are malformed.
pub fn separate_metrics() -> Result<PrometheusHandle, BuildError> {
    Ok(builder()?.build_recorder().handle())
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Seconds => metrics::describe_histogram!(metric.name, metrics::Unit::Seconds, metric.help),
        }
    }
}

/// The span that every log line about a call stands in: target `tandem::call`, one per call.
pub fn call_span(record: &CallRecord) -> tracing::Span {
    tracing::info_span!(
        target: "tandem::call",
        "call",
        id = %record.id,
        account = %record.account,
        trunk = %record.trunk,
        number = %record.number,
        agent = %record.agent,
        sip_call_id = record.sip_call_id,
    )
}
