//! `tandem check`: each finding about this machine and configuration, with its remedy.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::checks::{self, Given, Level};
use crate::config::Config;
use crate::secrets::Secret;

/// Arguments of `tandem check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file (TOML). Without it: embedded defaults and the environment.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs all checks and prints the findings; fails when one of them would keep the server from serving.
///
/// # Errors
/// Never: what is wrong is a finding.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config.as_deref();
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let given = Given {
        api_key_length: variable("TANDEM_API_KEY").map(|key| key.len()),
        secret_key: variable("TANDEM_SECRET_KEY").map(Secret::new),
    };
    let findings = checks::run(file, Config::load(file), &given).await;
    for finding in &findings {
        println!("{finding}");
    }
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (faults, warnings) = (count(Level::Fault), count(Level::Warning));
    println!("\n{faults} faults, {warnings} warnings");
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
