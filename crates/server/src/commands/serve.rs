//! `tandem serve`: runs the server until a signal ends it.
//!
//! The first SIGTERM or SIGINT drains: new calls are refused, those that are up finish within a bound, and
//! the exit code is 0. The second ends at once.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;

use crate::{
    config::Config,
    limits,
    server::{RunningServer, Secrets, Server},
    shutdown::Signals,
    telemetry,
};

/// Arguments of `tandem serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file (TOML). Without it: embedded defaults and the environment.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the server until a signal ends it.
///
/// # Errors
/// What kept it from starting, with the remedy.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(arguments.config.as_deref())?;
    telemetry::install_logs(&config.telemetry);
    let open_files = limits::raise_open_files();
    let needed = limits::open_files_needed(
        config.limits.calls,
        config.limits.connections + config.limits.api_connections,
    );
    if open_files < needed {
        tracing::warn!(
            open_files,
            needed,
            "limits.calls and limits.connections need more open files: raise `ulimit -n`"
        );
    }
    let bound = Duration::from_secs(config.limits.drain_seconds);
    // Taken before the first call can come, so that no signal ends the process the hard way.
    let mut signals = Signals::take().context("signals cannot be taken over")?;
    let server = tokio::select! {
        started = Server::start(config, Secrets::from_environment()) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    announce(&server);
    let signal = signals.next().await;
    tracing::info!(signal, calls = server.calls(), bound_s = bound.as_secs(), "draining");
    let ended = tokio::select! {
        ended = server.drain(bound) => ended,
        signal = signals.next() => {
            tracing::warn!(signal, calls = server.calls(), "ending at once");
            return Ok(ExitCode::FAILURE);
        }
    };
    tokio::select! {
        () = server.stop() => {}
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    }
    tracing::info!(ended, "stopped");
    Ok(ExitCode::SUCCESS)
}

fn announce(server: &RunningServer) {
    for address in &server.sip_udp {
        tracing::info!(%address, "taking SIP over UDP");
    }
    for address in &server.sip_tcp {
        tracing::info!(%address, "taking SIP over TCP");
    }
    for address in &server.sip_tls {
        tracing::info!(%address, "taking SIP over TLS");
    }
    tracing::info!(address = %server.api, "the API listens");
    if let Some(key) = &server.created_key {
        // To standard output, not into a log that is kept: it cannot be shown a second time.
        println!("API key of the account \"default\", shown this once: {key}");
    }
}
