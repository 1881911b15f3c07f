//! The checks behind `tandem check`: what this machine makes of a configuration, each finding with its remedy.
//!
//! Looks, and changes nothing: no database is made or migrated, no key file written, no packet sent. Sockets are
//! opened for an instant to see whether they can be.

mod machine;
mod network;
mod storage;

use std::fmt;
use std::path::Path;

use crate::config::{Config, ConfigError};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Works, with a limit or risk worth knowing.
    Warning,
    /// Keeps the server from starting or calls from working.
    Fault,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub text: String,
    /// What mends it; empty when nothing needs mending.
    pub remedy: String,
}

impl Finding {
    fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Good, subject, text: text.into(), remedy: String::new() }
    }

    fn warning(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, subject, text: text.into(), remedy: remedy.into() }
    }

    fn fault(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fault, subject, text: text.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<15} {}", self.level, self.subject, self.text)?;
        if !self.remedy.is_empty() {
            write!(f, "\n{:24} -> {}", "", self.remedy)?;
        }
        Ok(())
    }
}

/// Secrets of the environment that the checks look at.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Length of `TANDEM_API_KEY`, if it is set.
    pub api_key_length: Option<usize>,
    /// `TANDEM_SECRET_KEY`, if it is set.
    pub secret_key: Option<crate::secrets::Secret>,
}

/// Runs every check of a configuration.
pub async fn run(file: Option<&Path>, loaded: Result<Config, ConfigError>, given: &Given) -> Vec<Finding> {
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            return error
                .problems
                .iter()
                .map(|problem| {
                    Finding::fault(
                        "configuration",
                        problem.to_string(),
                        "mend this key; config/tandem.toml explains each",
                    )
                })
                .collect();
        }
    };
    let source =
        file.map_or("the defaults and the environment".to_owned(), |file| file.display().to_string());
    let mut findings = vec![Finding::good("configuration", format!("{source}; node {}", config.node_name()))];
    network::listeners(&config, &mut findings);
    network::media_ports(&config, &mut findings);
    network::public_address(&config, &mut findings);
    machine::descriptors(&config, &mut findings);
    machine::socket_buffers(&mut findings);
    machine::certificates(&config, &mut findings);
    storage::keys(&config, given, &mut findings);
    storage::database(&config, given, &mut findings).await;
    findings
}
