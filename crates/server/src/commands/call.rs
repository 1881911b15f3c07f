//! `tandem call`: a test caller on the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use tandem_media::{Codec, RtpStatistics};
use tandem_sip::Transport;
use tokio::sync::mpsc;

use crate::tools::caller::{self, CallPlan, Notice, Outcome};
use crate::tools::{measure, wav};

/// How long a call lasts when neither `--duration` nor a file to play says so.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// How long a call goes on behind the file it plays, to hear the end of the reply.
const AFTER_THE_FILE: Duration = Duration::from_secs(1);

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
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Password for digest authentication.
    #[arg(long, requires = "user")]
    pub password: Option<String>,
    /// Transport: udp, tcp or tls.
    #[arg(long, default_value = "udp")]
    pub transport: String,
    /// PEM file of an authority to trust over TLS, beside those the machine trusts.
    #[arg(long, value_name = "PEM")]
    pub ca: Option<PathBuf>,
    /// Offer SRTP, and take no call without: needs --transport tls, for the keys stand in the signalling.
    #[arg(long)]
    pub srtp: bool,
    /// Digits to send once the call is up.
    #[arg(long)]
    pub dtmf: Option<String>,
    /// Seconds after which to hang up.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
}

/// Places the call; the exit code tells whether it was answered and ended in the regular way.
///
/// # Errors
/// What kept the call from being placed.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let plan = plan(&arguments)?;
    let played = plan.play.clone();
    let (sender, mut notices) = mpsc::channel(256);
    let call = tokio::spawn(Box::pin(caller::place(plan, sender)));
    while let Some(notice) = notices.recv().await {
        print_notice(&notice);
    }
    let outcome = call.await??;
    print_outcome(&outcome);
    if let Some(path) = &arguments.record {
        wav::write(path, &outcome.heard)?;
        println!("heard      {} ({:.1} s)", path.display(), outcome.heard.len() as f64 / 8_000.0);
        if let Some(comparison) = measure::compare(&played, &outcome.heard) {
            println!(
                "echo       after {:.0} ms, {:+.1} dB, signal to noise {:.0} dB",
                comparison.delay_ms, comparison.level_change_db, comparison.signal_to_noise_db
            );
        }
    }
    Ok(if outcome.is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(arguments: &Arguments) -> anyhow::Result<CallPlan> {
    let transport = match arguments.transport.as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        other => bail!("--transport {other}: udp, tcp or tls is needed"),
    };
    if arguments.srtp && transport != Transport::Tls {
        bail!("--srtp: its keys would cross the network in the clear; add --transport tls");
    }
    let play = match &arguments.play {
        Some(path) => wav::read(path)?,
        None => Vec::new(),
    };
    let digits = arguments.dtmf.clone().unwrap_or_default();
    if let Some(wrong) = digits.chars().find(|digit| !"0123456789*#ABCD".contains(*digit)) {
        bail!("--dtmf {digits}: {wrong:?} is no key of a telephone; 0-9, *, # and A-D are");
    }
    let played = Duration::from_millis(play.len() as u64 / 8);
    let duration = match (arguments.duration, play.is_empty()) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, true) => DURATION_DEFAULT,
        (None, false) => played + AFTER_THE_FILE,
    };
    Ok(CallPlan {
        uri: arguments.uri.clone(),
        from: arguments.from.clone(),
        transport,
        srtp: arguments.srtp,
        authority: arguments.ca.clone(),
        credentials: arguments.user.clone().zip(arguments.password.clone()),
        codecs: vec![Codec::PCMU, Codec::PCMA],
        play: play.into(),
        digits,
        duration,
    })
}

/// Prints one line for what just happened.
pub(crate) fn print_notice(notice: &Notice) {
    match notice {
        Notice::Message(rung) => println!("{rung}"),
        Notice::Answered(media) => println!(
            "             media: {} at {}, {} ms packets{}{}",
            media.codec.encoding_name(),
            media.remote,
            media.ptime_ms,
            if media.telephone_event.is_some() { ", DTMF events" } else { ", no DTMF events" },
            media.srtp.map(|keys| format!(", {}", keys.suite().name())).unwrap_or_default()
        ),
        Notice::HangingUp => println!("             the caller hangs up"),
    }
}

fn print_outcome(outcome: &Outcome) {
    match outcome.answered_after {
        Some(after) => println!("answered   after {:.0} ms", after.as_secs_f64() * 1e3),
        None => println!("answered   never"),
    }
    println!("ended      {}", outcome.ending);
    if let Some(statistics) = &outcome.statistics {
        print_statistics(statistics);
    }
}

/// Prints the figures of an RTP session.
pub(crate) fn print_statistics(statistics: &RtpStatistics) {
    println!(
        "RTP        {} sent, {} received, {} lost, {} concealed, jitter {:.1} ms{}",
        statistics.packets_sent,
        statistics.packets_received,
        statistics.packets_lost,
        statistics.concealed_frames,
        f64::from(statistics.jitter_us) / 1e3,
        statistics
            .round_trip_us
            .map(|us| format!(", round trip {:.1} ms", f64::from(us) / 1e3))
            .unwrap_or_default()
    );
    let refused = [
        (statistics.refused_in_the_clear, "in the clear"),
        (statistics.refused_rtcp_in_the_clear, "of RTCP in the clear"),
        (statistics.refused_unauthentic, "that do not match the key"),
        (statistics.refused_replayed, "that came before"),
    ];
    for (count, what) in refused.into_iter().filter(|(count, _)| *count > 0) {
        println!("SRTP       {count} packets refused {what}");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn error_of(words: &[&str]) -> String {
        let line = Line::try_parse_from([&["call"], words].concat()).expect("readable");
        plan(&line.arguments).expect_err("refused").to_string()
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_by_name() {
        assert!(error_of(&["sip:a@b", "--transport", "sctp"]).contains("--transport sctp"));
        assert!(error_of(&["sip:a@b", "--dtmf", "12x"]).contains("'x'"));
        assert!(error_of(&["sip:a@b", "--srtp"]).contains("--transport tls"));
        assert!(error_of(&["sip:a@b", "--srtp", "--transport", "tcp"]).contains("--transport tls"));
        assert!(error_of(&["sip:a@b", "--play", "/nowhere.wav"]).contains("/nowhere.wav"));
    }
}
