//! `tandem call`: a test caller on the command line.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `tandem call`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to call, such as `sip:919876543210@192.0.2.1:5060`.
    #[arg(value_name = "SIP-URI")]
    pub uri: String,
    /// The caller's address, such as `sip:alice@example.com`.
    #[arg(long, value_name = "SIP-URI")]
    pub from: Option<String>,
    /// WAV file to play to the called side.
    #[arg(long, value_name = "WAV")]
    pub play: Option<PathBuf>,
    /// WAV file to write what was heard into.
    #[arg(long, value_name = "WAV")]
    pub record: Option<PathBuf>,
    /// User name for digest authentication.
    #[arg(long)]
    pub user: Option<String>,
    /// Password for digest authentication.
    #[arg(long)]
    pub password: Option<String>,
    /// Transport: udp, tcp or tls.
    #[arg(long, default_value = "udp")]
    pub transport: String,
    /// Offer SRTP.
    #[arg(long)]
    pub srtp: bool,
    /// Digits to send once the call is up.
    #[arg(long)]
    pub dtmf: Option<String>,
    /// Seconds after which to hang up.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
}

/// Places the call; the exit code tells success.
///
/// # Errors
/// What kept the call from being placed.
pub async fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    std::future::ready(()).await;
    anyhow::bail!("the caller is not wired yet")
}
