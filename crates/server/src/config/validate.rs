//! What must hold between keys, and the ranges of single ones. Looks at nothing outside the configuration:
//! what the machine makes of it is `tandem check`'s work.

use std::net::SocketAddr;

use super::{Config, Limits, RecordingKeep};

/// Each fault as its key and what is wrong with it.
pub(super) fn faults(config: &Config) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    node(config, &mut faults);
    sip(config, &mut faults);
    media(config, &mut faults);
    recording(config, &mut faults);
    api(config, &mut faults);
    for (key, value) in limits(&config.limits) {
        if value == 0 {
            faults.push((key, "0 would refuse everything; give 1 or more".to_owned()));
        }
    }
    let url = &config.store.url;
    if !["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        let scheme = url.split(':').next().unwrap_or_default();
        faults.push((
            "store.url",
            format!("{scheme:?} is no store; give sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE"),
        ));
    }
    if config.security.nonce_seconds == 0 {
        faults.push(("security.nonce_seconds", "0 would refuse every digest; give 1 or more".to_owned()));
    }
    if config.security.digest_algorithms.is_empty() {
        faults.push((
            "security.digest_algorithms",
            "none would leave userpass trunks without a way in; give [\"MD5\", \"SHA-256\"]".to_owned(),
        ));
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.telemetry.log) {
        faults.push((
            "telemetry.log",
            format!(
                "{:?} will not do ({error}); give a level or directives such as \"info,tandem_sip=debug\"",
                config.telemetry.log
            ),
        ));
    }
    faults
}

fn node(config: &Config, faults: &mut Vec<(&'static str, String)>) {
    let name = &config.node.name;
    if name.len() > 64 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        faults.push((
            "node.name",
            format!("{name:?} will not do; give up to 64 characters without blanks, such as \"edge-1\""),
        ));
    }
}

fn sip(config: &Config, faults: &mut Vec<(&'static str, String)>) {
    let sip = &config.sip;
    if sip.udp.is_empty() && sip.tcp.is_empty() && sip.tls.listen.is_empty() {
        faults.push((
            "sip.udp",
            "there is no listener: sip.udp, sip.tcp and sip.tls.listen are all empty; give one an address"
                .to_owned(),
        ));
    }
    let files =
        [("sip.tls.certificate", &sip.tls.certificate), ("sip.tls.private_key", &sip.tls.private_key)];
    for (key, file) in files {
        if file.is_none() && !sip.tls.listen.is_empty() {
            faults.push((key, "is missing; sip.tls.listen needs it: give the path of a PEM file".to_owned()));
        } else if file.is_none() && files.iter().any(|(_, file)| file.is_some()) {
            faults.push((
                key,
                "is missing; a certificate and its key go together: give both or neither".to_owned(),
            ));
        }
    }
}

fn media(config: &Config, faults: &mut Vec<(&'static str, String)>) {
    let ports = config.media.ports;
    let mut clash = |key: &str, addresses: &[SocketAddr]| {
        for address in addresses {
            if (ports.first..=ports.last).contains(&address.port()) {
                faults.push((
                    "media.ports",
                    format!("{ports} holds port {} of {key}; choose ranges apart", address.port()),
                ));
            }
        }
    };
    clash("sip.udp", &config.sip.udp);
}

fn recording(config: &Config, faults: &mut Vec<(&'static str, String)>) {
    let recording = &config.recording;
    if recording.folder.as_os_str().is_empty() {
        faults.push(("recording.folder", "is empty; give the path of a folder".to_owned()));
    }
    if recording.keep == RecordingKeep::Disk {
        return;
    }
    let s3 = &recording.s3;
    let needed = [
        ("recording.s3.endpoint", &s3.endpoint),
        ("recording.s3.region", &s3.region),
        ("recording.s3.bucket", &s3.bucket),
        ("recording.s3.access_key", &s3.access_key),
        ("recording.s3.secret_key", &s3.secret_key),
    ];
    for (key, value) in needed {
        if value.is_empty() {
            faults.push((key, "is missing; recording.keep = \"s3\" needs it".to_owned()));
        }
    }
    let is_url = s3.endpoint.starts_with("https://") || s3.endpoint.starts_with("http://");
    if !is_url && !s3.endpoint.is_empty() {
        let message = format!(
            "{:?} will not do; give a URL such as \"https://s3.eu-central-1.amazonaws.com\"",
            s3.endpoint
        );
        faults.push(("recording.s3.endpoint", message));
    }
}

fn api(config: &Config, faults: &mut Vec<(&'static str, String)>) {
    let api = &config.api;
    if ![401, 403].contains(&api.auth_failure_status) {
        faults.push((
            "api.auth_failure_status",
            format!("{} will not do; give 403 or 401", api.auth_failure_status),
        ));
    }
    if ![409, 422].contains(&api.duplicate_number_status) {
        faults.push((
            "api.duplicate_number_status",
            format!("{} will not do; give 409 or 422", api.duplicate_number_status),
        ));
    }
    if ![200, 409].contains(&api.exotel_duplicate_status) {
        faults.push((
            "api.exotel_duplicate_status",
            format!("{} will not do; give 200 or 409", api.exotel_duplicate_status),
        ));
    }
    if let Some(url) = &api.public_url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        faults.push((
            "api.public_url",
            format!("{url:?} will not do; give a URL such as \"https://voice.example\""),
        ));
    }
}

fn limits(limits: &Limits) -> [(&'static str, u64); 30] {
    [
        ("limits.calls", limits.calls.into()),
        ("limits.stranger_requests_per_second", limits.stranger_requests_per_second.into()),
        ("limits.connections", limits.connections.into()),
        ("limits.connections_per_address", limits.connections_per_address.into()),
        ("limits.connection_idle_seconds", limits.connection_idle_seconds),
        ("limits.call_seconds", limits.call_seconds),
        ("limits.ringing_seconds", limits.ringing_seconds),
        ("limits.gateway_ms", limits.gateway_ms),
        ("limits.agent_connect_ms", limits.agent_connect_ms),
        ("limits.agent_ahead_seconds", limits.agent_ahead_seconds),
        ("limits.media_timeout_seconds", limits.media_timeout_seconds),
        ("limits.drain_seconds", limits.drain_seconds),
        ("limits.api_connections", limits.api_connections.into()),
        ("limits.api_header_seconds", limits.api_header_seconds),
        ("limits.api_request_seconds", limits.api_request_seconds),
        ("limits.api_idle_seconds", limits.api_idle_seconds),
        ("limits.api_body_bytes", limits.api_body_bytes as u64),
        ("limits.api_upload_bytes", limits.api_upload_bytes as u64),
        ("limits.api_json_depth", limits.api_json_depth as u64),
        ("limits.queued_calls", limits.queued_calls.into()),
        ("limits.verdicts", limits.verdicts.into()),
        ("limits.api_requests_per_minute", limits.api_requests_per_minute.into()),
        ("limits.api_narrow_per_minute", limits.api_narrow_per_minute.into()),
        ("limits.api_exotel_per_minute", limits.api_exotel_per_minute.into()),
        ("limits.api_failures_per_minute", limits.api_failures_per_minute.into()),
        ("limits.audit_days", limits.audit_days.into()),
        ("limits.audit_entries", limits.audit_entries.into()),
        ("limits.webhook_attempts", limits.webhook_attempts.into()),
        ("limits.webhook_timeout_ms", limits.webhook_timeout_ms),
        ("limits.webhook_days", limits.webhook_days.into()),
    ]
}
