//! The command line: six subcommands, one module each under [`crate::commands`].
//!
//! This file only names arguments and starts the runtime; it decides nothing about calls.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{agent, call, check, demo, key, serve, transfer};

/// SIP B2BUA and media server for voice agents.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(serve::Arguments),
    /// Run a whole call on this machine, from a built-in caller to a built-in agent, and show it.
    Demo(demo::Arguments),
    /// Look at configuration, ports, limits, address and database; say what to mend and how.
    Check(check::Arguments),
    /// Place a test call.
    Call(call::Arguments),
    /// Run a test agent.
    Agent(agent::Arguments),
    /// Create, list and revoke API keys; change the key that seals stored secrets.
    Key(key::Arguments),
    /// Write an account's trunks, numbers, mappings and agents into one file.
    Export(transfer::ExportArguments),
    /// Take in what `export` wrote: all of it or nothing.
    Import(transfer::ImportArguments),
}

/// Parses the command line and runs the command it names; the exit code tells success.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tandem: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(arguments) => Box::pin(serve::run(arguments)).await,
            Command::Demo(arguments) => Box::pin(demo::run(arguments)).await,
            Command::Check(arguments) => Box::pin(check::run(arguments)).await,
            Command::Call(arguments) => Box::pin(call::run(arguments)).await,
            Command::Agent(arguments) => Box::pin(agent::run(arguments)).await,
            Command::Key(arguments) => Box::pin(key::run(arguments)).await,
            Command::Export(arguments) => Box::pin(transfer::export(arguments)).await,
            Command::Import(arguments) => Box::pin(transfer::import(arguments)).await,
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
