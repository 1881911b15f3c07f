//! Logs and metrics.
//!
//! Logs go through `tracing`, one span per call with its `execution_id` and account. Metrics go through one
//! recorder per process; what threads count by themselves is read when somebody asks for the page, so that
//! no packet pays for a metric. A call's identifier is never a label.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tandem_call::{CallRecord, bridge::BridgeStatistics};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{LogFormat, Telemetry},
    media::{Count, MediaCounters, Ports},
    metric_list,
    net::{tcp::TcpCounters, udp::UdpCounters},
    signalling::{EngineCounts, Gauges},
};

/// Bounds of histograms over delays, in seconds: one packet time and its parts matter most.
const DELAYS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0];
/// Bounds of histograms over set-up times, in seconds.
const SETUPS: [f64; 10] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Bounds of histograms over durations of calls, in seconds.
const DURATIONS: [f64; 9] = [1.0, 5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 1_800.0, 7_200.0];

/// Starts logging to standard error. A second call does nothing: the first one's settings stand.
pub fn install_logs(telemetry: &Telemetry) {
    // The configuration was checked before; should the filter still not parse, INFO is better than silence.
    let filter = EnvFilter::try_new(&telemetry.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match telemetry.format {
        LogFormat::Plain => registry.with(fmt::layer().with_writer(io::stderr)).try_init(),
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(layer.with_writer(io::stderr)).try_init()
        }
    };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// What one server counts by itself.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Signalling.
    pub gauges: Arc<Gauges>,
    /// UDP.
    pub udp: Arc<UdpCounters>,
    /// TCP.
    pub tcp: Arc<TcpCounters>,
    /// Media threads.
    pub media: Vec<Arc<MediaCounters>>,
    /// RTP ports.
    pub ports: Arc<Ports>,
}

/// The metrics of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    sources: Arc<Mutex<Option<Sources>>>,
}

/// Metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be set up: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// The metrics of this process; set up by the first call.
    ///
    /// # Errors
    /// When another recorder was installed before.
    pub fn install() -> Result<Self, MetricsError> {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match INSTALLED.get() {
            Some(handle) => handle.clone(),
            None => {
                let recorder = builder().map_err(|error| MetricsError(error.to_string()))?.build_recorder();
                let handle = recorder.handle();
                metrics::set_global_recorder(recorder).map_err(|error| MetricsError(error.to_string()))?;
                metric_list::describe();
                INSTALLED.get_or_init(|| handle).clone()
            }
        };
        Ok(Self { handle, sources: Arc::default() })
    }

    /// Has these counted too, from now on.
    pub fn observe(&self, sources: Sources) {
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = Some(sources);
    }

    /// The page, in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sources) = sources {
            collect(&sources);
        }
        self.handle.run_upkeep();
        self.handle.render()
    }
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_delay_seconds".to_owned()), &DELAYS)?
        .set_buckets_for_metric(Matcher::Suffix("_setup_seconds".to_owned()), &SETUPS)?
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &DURATIONS)
}

fn collect(sources: &Sources) {
    let Sources { gauges, udp, tcp, media, ports } = sources;
    level("tandem_calls_held", &gauges.calls);
    level("tandem_agents_dialling", &gauges.dialling);
    total("tandem_signalling_inputs_total", &gauges.inputs);
    total("tandem_signalling_faults_total", &gauges.panics);
    total("tandem_sip_transmit_failures_total", &gauges.transmit_failures);
    gauge!("tandem_signalling_longest_turn_seconds")
        .set(gauges.longest_turn_us.load(Ordering::Relaxed) as f64 / 1e6);
    collect_engine(gauges);
    total("tandem_sip_udp_received_total", &udp.received);
    total("tandem_sip_udp_dropped_total", &udp.dropped);
    total("tandem_sip_udp_unroutable_total", &udp.unroutable);
    total("tandem_sip_udp_sent_total", &udp.sent);
    total("tandem_sip_udp_send_blocked_total", &udp.send_blocked);
    level("tandem_sip_connections", &tcp.open);
    total("tandem_sip_connections_accepted_total", &tcp.accepted);
    total("tandem_sip_connections_failed_total", &tcp.failed);
    total("tandem_sip_tls_handshakes_failed_total", &tcp.handshakes_failed);
    let closed = [
        ("too_many", &tcp.refused_total),
        ("too_many_of_address", &tcp.refused_address),
        ("unproven", &tcp.unproven),
        ("idle", &tcp.idle),
        ("stalled", &tcp.stalled),
    ];
    for (cause, count) in closed {
        counter!("tandem_sip_connections_closed_total", "cause" => cause)
            .absolute(count.load(Ordering::Relaxed));
    }
    let counts = ports.counts();
    for (state, number) in [("leased", counts.leased), ("resting", counts.resting), ("all", counts.pairs)] {
        gauge!("tandem_rtp_port_pairs", "state" => state).set(number as f64);
    }
    counter!("tandem_rtp_ports_exhausted_total").absolute(counts.exhausted);
    counter!("tandem_rtp_ports_occupied_total").absolute(counts.occupied);
    for (number, counters) in media.iter().enumerate() {
        collect_media(number.to_string(), counters);
    }
}

fn collect_engine(gauges: &Gauges) {
    let EngineCounts { calls, sip, held } =
        gauges.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let events = [
        ("received", sip.received),
        ("sent", sip.sent),
        ("malformed", sip.malformed),
        ("incoming", sip.incoming),
        ("stateless_replies", sip.stateless_replies),
        ("repeated_requests", sip.repeated_requests),
        ("stray_acks", sip.stray_acks),
        ("stray_responses", sip.stray_responses),
        ("foreign_requests", sip.foreign_requests),
        ("unknown_dialogs", sip.unknown_dialogs),
        ("merged_requests", sip.merged_requests),
        ("overloaded", sip.overloaded),
        ("out_of_order", sip.out_of_order),
        ("glare", sip.glare),
        ("retransmissions", sip.retransmissions),
        ("success_repeats", sip.success_repeats),
        ("timeouts", sip.timeouts),
        ("transport_failures", sip.transport_failures),
        ("provisionals_withheld", sip.provisionals_withheld),
        ("forks_ended", sip.forks_ended),
        ("streams_closed", sip.streams_closed),
        ("keep_alives", sip.keep_alives),
        ("large_by_tcp", sip.large_by_tcp),
        ("large_by_udp", sip.large_by_udp),
        ("moved_requests", sip.moved_requests),
        ("pongs_missed", sip.pongs_missed),
        ("unsent", sip.unsent),
    ];
    for (event, count) in events {
        counter!("tandem_sip_events_total", "event" => event).absolute(count);
    }
    let events = [
        ("calls", calls.calls),
        ("answered", calls.answered),
        ("placed", calls.placed),
        ("not_placed", calls.not_placed),
        ("qualify_asked", calls.qualify_asked),
        ("qualify_failed", calls.qualify_failed),
        ("qualify_delayed", calls.qualify_delayed),
        ("register_sent", calls.register_sent),
        ("register_accepted", calls.register_accepted),
        ("register_refused", calls.register_refused),
        ("register_unanswered", calls.register_unanswered),
        ("register_delayed", calls.register_delayed),
        ("registered_calls", calls.registered_calls),
        ("invites", calls.invites),
        ("failovers", calls.failovers),
        ("redirects_followed", calls.redirects_followed),
        ("redirects_refused", calls.redirects_refused),
        ("silenced", calls.silenced),
        ("waited_for_routing", calls.waited),
        ("found_alone", calls.found_alone),
        ("turned_from_waiting", calls.turned_from_waiting),
        ("repeated_refusals", calls.repeated_refusals),
        ("malformed", calls.malformed),
        ("other_requests", calls.other_requests),
        ("refused_changes", calls.refused_changes),
        ("encrypted", calls.encrypted),
        ("encryption_broken", calls.encryption_broken),
        ("agent_protocol_errors", calls.agent_protocol_errors),
        ("agent_overflows", calls.agent_overflows),
        ("one_way_calls", calls.one_way_calls),
        ("unsupported_wishes", calls.unsupported_wishes),
        ("transfers", calls.transfers),
        ("transfers_refused", calls.transfers_refused),
        ("transfers_connected", calls.transfers_connected),
        ("transfers_failed", calls.transfers_failed),
        ("refers_refused", calls.refers_refused),
        ("late_inputs", calls.late_inputs),
        ("unexpected_inputs", calls.unexpected_inputs),
        ("lost_bridges", calls.lost_bridges),
    ];
    for (event, count) in events {
        counter!("tandem_engine_events_total", "event" => event).absolute(count);
    }
    let levels = [
        ("calls", held.calls),
        ("waiting_for_routing", held.waiting),
        ("sessions", held.endpoint.sessions),
        ("dialogs", held.endpoint.dialogs),
        ("server_transactions", held.endpoint.server_transactions),
        ("client_transactions", held.endpoint.client_transactions),
        ("streams", held.endpoint.streams),
        ("timers", held.endpoint.timers),
    ];
    for (what, number) in levels {
        gauge!("tandem_engine_held", "what" => what).set(number as f64);
    }
}

/// Enters a closed bridge into the histograms: how long audio took through this process, both ways; and what was heard
/// in it.
pub fn measure_bridge(statistics: &BridgeStatistics) {
    counter!("tandem_barge_ins_total").increment(statistics.barge_ins);
    counter!("tandem_inband_digits_total").increment(statistics.rtp.inband_digits);
    let ways = [("to_agent", &statistics.inbound_delay), ("to_caller", &statistics.outbound_delay)];
    for (way, delays) in ways {
        let histogram = histogram!("tandem_added_delay_seconds", "way" => way);
        for (upper, count) in delays.buckets() {
            if count > 0 {
                histogram.record_many(upper.as_secs_f64(), count as usize);
            }
        }
    }
}

/// Enters a call that is over into the histograms.
pub fn measure_call(record: &CallRecord) {
    if record.answered_unix_ms.is_some() {
        histogram!("tandem_call_setup_seconds").record(record.ring_ms() as f64 / 1e3);
        histogram!("tandem_call_duration_seconds").record(record.duration_ms() as f64 / 1e3);
    }
}

fn collect_media(thread: String, counters: &MediaCounters) {
    let totals: [(&'static str, &Count); 18] = [
        ("tandem_media_calls_opened_total", &counters.opened),
        ("tandem_media_calls_failed_total", &counters.failed),
        ("tandem_rtp_received_total", &counters.rtp_received),
        ("tandem_rtp_sent_total", &counters.rtp_sent),
        ("tandem_rtcp_received_total", &counters.rtcp_received),
        ("tandem_rtcp_sent_total", &counters.rtcp_sent),
        ("tandem_rtp_oversized_total", &counters.oversized),
        ("tandem_rtp_send_errors_total", &counters.send_errors),
        ("tandem_agent_messages_received_total", &counters.agent_received),
        ("tandem_agent_messages_sent_total", &counters.agent_sent),
        ("tandem_agent_messages_dropped_total", &counters.agent_dropped),
        ("tandem_recording_blocks_dropped_total", &counters.recording_dropped),
        ("tandem_agent_connections_broken_total", &counters.agent_broken),
        ("tandem_media_ticks_total", &counters.ticks),
        ("tandem_media_late_ticks_total", &counters.late_ticks),
        ("tandem_media_budget_exceeded_total", &counters.budget_exceeded),
        ("tandem_media_events_dropped_total", &counters.events_dropped),
        ("tandem_media_faults_total", &counters.panics),
    ];
    for (name, count) in totals {
        counter!(name, "thread" => thread.clone()).absolute(count.read());
    }
    gauge!("tandem_media_calls", "thread" => thread.clone()).set(counters.calls.read() as f64);
    gauge!("tandem_media_latest_tick_seconds", "thread" => thread)
        .set(counters.latest_us.read() as f64 / 1e6);
}

fn total(name: &'static str, count: &AtomicU64) {
    counter!(name).absolute(count.load(Ordering::Relaxed));
}

fn level(name: &'static str, count: &AtomicUsize) {
    gauge!(name).set(count.load(Ordering::Relaxed) as f64);
}
