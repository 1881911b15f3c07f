//! `tandem agent`: a test agent on the command line.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::tools::test_agent::{EventKind, Heard, Mode, Options, TestAgent};
use crate::tools::wav;

/// Arguments of `tandem agent`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dialect to speak: asterisk, bolna, twilio, plivo, vobiz, exotel, telnyx, vonage, genesys or jambonz.
    #[arg(long, value_name = "NAME")]
    pub dialect: String,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// `echo`, `tone`, or `speak` followed by a WAV file.
    #[arg(long, value_name = "MODE", num_args = 1..=2, default_value = "echo")]
    pub mode: Vec<String>,
    /// Seconds after which to hang up each call.
    #[arg(long, value_name = "SECONDS")]
    pub hang_up_after: Option<u64>,
}

/// Runs the agent until interrupted, printing what happens on each connection.
///
/// # Errors
/// What kept it from listening.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let options = Options {
        mode: mode(&arguments.mode)?,
        hang_up_after: arguments.hang_up_after.map(Duration::from_secs),
        dialect: arguments.dialect,
    };
    let dialect = options.dialect.clone();
    let mut agent = TestAgent::start(arguments.listen, options).await?;
    println!("{dialect} agent at ws://{}/ (Ctrl-C ends it)", agent.local_address());
    loop {
        tokio::select! {
            signal = tokio::signal::ctrl_c() => {
                signal.context("cannot wait for Ctrl-C")?;
                return Ok(ExitCode::SUCCESS);
            }
            event = agent.event() => match event {
                Some(event) => println!("[{}] {}", event.connection, describe(&event.kind)),
                None => bail!("the agent stopped listening"),
            },
        }
    }
}

fn mode(words: &[String]) -> anyhow::Result<Mode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo"] => Ok(Mode::Echo),
        ["tone"] => Ok(Mode::Tone),
        ["speak", file] => Ok(Mode::Speak(wav::read(Path::new(file))?.into())),
        ["speak"] => bail!("--mode speak: name the WAV file to play, as in --mode speak hello.wav"),
        other => bail!("--mode {}: one of echo, tone, speak WAV is needed", other.join(" ")),
    }
}

fn describe(kind: &EventKind) -> String {
    match kind {
        EventKind::Connected(peer) => format!("connected from {peer}"),
        EventKind::Heard(Heard::Started(text)) => format!("started: {text}"),
        EventKind::Heard(Heard::Digit(digit)) => format!("digit {digit}"),
        EventKind::Heard(Heard::MarkPlayed(name)) => format!("mark played: {name}"),
        EventKind::Heard(Heard::Stopped) => "stopped".to_owned(),
        EventKind::Heard(Heard::Other(text)) => format!("message: {text}"),
        EventKind::Heard(Heard::Audio) | EventKind::FirstAudio => "first audio".to_owned(),
        EventKind::Closed { audio_messages } => format!("closed after {audio_messages} audio messages"),
        EventKind::Failed(reason) => format!("failed: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_is_not_known_names_those_that_are() {
        let words = ["sing".to_owned()];
        assert!(mode(&words).expect_err("unknown").to_string().contains("echo, tone, speak"));
        let words = ["speak".to_owned()];
        assert!(mode(&words).expect_err("no file").to_string().contains("WAV"));
    }
}
