//! `tandem agent`: a test agent on the command line.

use std::net::SocketAddr;
use std::process::ExitCode;

/// Arguments of `tandem agent`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dialect to speak: asterisk, twilio or bolna.
    #[arg(long, value_name = "NAME")]
    pub dialect: String,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// `echo`, `tone`, or `speak` followed by a WAV file.
    #[arg(long, value_name = "MODE", num_args = 1..=2, default_value = "echo")]
    pub mode: Vec<String>,
}

/// Runs the agent until interrupted.
///
/// # Errors
/// What kept it from listening.
pub async fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    std::future::ready(()).await;
    anyhow::bail!("the agent is not wired yet")
}
