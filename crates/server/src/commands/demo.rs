//! `tandem demo`: a whole call on this machine, shown as it happens.

use std::process::ExitCode;

/// Arguments of `tandem demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End after the call; the exit code tells whether the audio came back.
    #[arg(long)]
    pub once: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// What kept it from running.
pub async fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    std::future::ready(()).await;
    anyhow::bail!("the demonstration is not wired yet")
}
