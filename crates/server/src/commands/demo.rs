//! `tandem demo`: a whole call on this machine, shown as it happens.
//!
//! The real server, a built-in agent that echoes, a trunk and a number made through the real REST
//! API, and a real SIP call from a built-in caller over loopback. What the caller heard is written
//! as a WAV and measured as audio, not as packets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tandem_media::Codec;
use tandem_sip::Transport;
use tokio::sync::mpsc;

use super::call::{print_notice, print_statistics};
use crate::config::Config;
use crate::server::{RunningServer, Secrets, Server};
use crate::tools::caller::{self, CallPlan, Outcome};
use crate::tools::measure::{self, Comparison};
use crate::tools::test_agent::{EventKind, Heard, Mode, Options, TestAgent};
use crate::tools::wav;

/// The number that is called.
const DID: &str = "+918047123456";

/// The number that calls.
const CALLER: &str = "+919800000001";

/// What the caller plays.
const PLAYED_MS: usize = 4_000;

/// Silence before it.
const LEAD_IN_MS: usize = 200;

/// How long the caller stays on the line, so that the end of the echo is heard.
const CALL: Duration = Duration::from_millis(PLAYED_MS as u64 + 1_000);

/// Where what the caller heard is written.
const WAV: &str = "tandem-demo.wav";

/// How much of the audio a busy machine may lose.
const LOST_MAX: f64 = 0.05;

/// Where, at the latest, the echo of an unloaded machine comes back.
const DELAY_MAX_MS: f64 = 500.0;

/// Arguments of `tandem demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End after the call; the exit code tells whether the audio came back.
    #[arg(long)]
    pub once: bool,
    /// Where to write what the caller heard.
    #[arg(long, value_name = "WAV", default_value = WAV)]
    pub record: PathBuf,
}

/// Runs the demonstration.
///
/// # Errors
/// What kept it from running.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    println!("Tandem demo: a caller, a carrier's trunk, a number, an agent - all on this machine.\n");
    let folder = Folder::make()?;
    let key = api_key();
    let server = start_server(&folder, &key).await?;
    let agent = start_agent().await?;
    let api = Api { base: format!("http://{}", server.api), key: key.clone() };
    let agent_id = provision(&api, agent.local_address()).await?;
    let first_call = tokio::spawn(print_call_of_agent(agent));

    let sip = *server.sip_udp.first().context("the server takes no SIP over UDP")?;
    // Nobody speaks the moment the line opens; the first packet may pass before the ACK does.
    let mut signal = vec![0; LEAD_IN_MS * measure::SAMPLE_RATE_HZ / 1_000];
    signal.extend(measure::melody(PLAYED_MS));
    let played: Arc<[i16]> = signal.into();
    let outcome = place_call(sip, Arc::clone(&played)).await?;
    // The agent's last line belongs above the figures; a call that never reached it has none.
    let agent = tokio::time::timeout(Duration::from_secs(2), first_call).await.ok().transpose()?.flatten();
    let is_good = report(&arguments.record, &played, &outcome)?;
    print_record(&api, &agent_id).await?;

    if arguments.once {
        server.stop().await;
        return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    print_what_next(&server, sip, &key, &arguments.record);
    let further_calls = tokio::spawn(async move {
        let mut agent = agent;
        while let Some(running) = agent {
            agent = print_call_of_agent(running).await;
        }
    });
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    println!("\nstopping");
    further_calls.abort();
    server.stop().await;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line of progress, under its heading.
fn say(heading: &str, text: impl std::fmt::Display) {
    println!("{heading:<10} {text}");
}

/// The folder of the demonstration's database; removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The key the demonstration talks to its own API with.
fn api_key() -> String {
    let given = std::env::var("TANDEM_API_KEY").ok().filter(|key| !key.is_empty());
    given.unwrap_or_else(|| format!("bn-demo-{}", uuid::Uuid::new_v4().simple()))
}

async fn start_server(folder: &Folder, key: &str) -> anyhow::Result<RunningServer> {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let sip = SocketAddr::new(localhost, free_or(5_060, is_free_for_sip));
    let mut config = Config::default();
    config.node.name = "demo".to_owned();
    config.sip.udp = vec![sip];
    config.sip.tcp = vec![sip];
    config.api.listen = SocketAddr::new(localhost, free_or(8_080, is_free_for_tcp));
    config.store.url = format!("sqlite:{}", folder.0.join("tandem.db").display());
    let secrets = Secrets { api_key: Some(key.to_owned()), secret_key: None };
    let server = Server::start(config, secrets).await?;
    say("server", format_args!("SIP on {sip} (udp, tcp), API on http://{}", server.api));
    Ok(server)
}

/// The usual port when it is free, else one the system picks.
fn free_or(usual: u16, is_free: fn(u16) -> bool) -> u16 {
    if is_free(usual) {
        return usual;
    }
    let picked = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    picked.map(|address| address.port()).ok().filter(|port| is_free(*port)).unwrap_or(0)
}

fn is_free_for_tcp(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn is_free_for_sip(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && is_free_for_tcp(port)
}

async fn start_agent() -> anyhow::Result<TestAgent> {
    let options = Options { dialect: "asterisk".to_owned(), mode: Mode::Echo, hang_up_after: None };
    let agent = TestAgent::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await?;
    say("agent", format_args!("echoes at ws://{}/, dialect asterisk", agent.local_address()));
    Ok(agent)
}

/// Makes agent, trunk and number through the REST API and maps them; gives the agent's id.
async fn provision(api: &Api, agent: SocketAddr) -> anyhow::Result<String> {
    let body = json!({
        "agent_config": {"agent_name": "Echo", "telephony_provider": "sip-trunk"},
        "websocket": {"url": format!("ws://{agent}/call/{{execution_id}}"), "dialect": "asterisk"},
    });
    let created = api.post("/v2/agent", &body).await?;
    let agent_id = text(&created, "agent_id")?;
    let body = json!({
        "name": "Demo carrier", "provider": "loopback", "auth_type": "ip-based", "inbound_enabled": true,
        "gateways": [{"gateway_address": "127.0.0.1"}],
        "ip_identifiers": [{"ip_address": "127.0.0.0/8"}],
        "qualify_frequency": 0,
    });
    let trunk_id = text(&api.post("/sip-trunks/trunks", &body).await?, "id")?;
    let numbers = format!("/sip-trunks/trunks/{trunk_id}/numbers");
    let number_id = text(&api.post(&numbers, &json!({"phone_number": DID})).await?, "id")?;
    let mapping = json!({"agent_id": agent_id, "phone_number_id": number_id});
    api.post("/inbound/setup", &mapping).await?;
    Ok(agent_id)
}

/// Prints what the agent says of one call, a line for each thing that is not audio, and gives the agent
/// back when its connection is closed.
async fn print_call_of_agent(mut agent: TestAgent) -> Option<TestAgent> {
    loop {
        let event = agent.event().await?;
        let is_last = matches!(event.kind, EventKind::Closed { .. });
        let line = match event.kind {
            EventKind::Connected(_) => "the server connected".to_owned(),
            EventKind::Heard(Heard::Started(start)) => start,
            EventKind::FirstAudio => "hears the caller and echoes".to_owned(),
            EventKind::Closed { audio_messages } => format!("closed after {audio_messages} frames of audio"),
            EventKind::Failed(reason) => format!("failed: {reason}"),
            EventKind::Heard(_) => continue,
        };
        say("agent", line);
        if is_last {
            return Some(agent);
        }
    }
}

async fn place_call(sip: SocketAddr, played: Arc<[i16]>) -> anyhow::Result<Outcome> {
    say("\ncaller", format_args!("{CALLER} calls {DID}\n"));
    let plan = CallPlan {
        authority: None,
        uri: format!("sip:{DID}@{sip}"),
        from: Some(format!("sip:{CALLER}@127.0.0.1")),
        transport: Transport::Udp,
        srtp: false,
        credentials: None,
        codecs: vec![Codec::PCMU, Codec::PCMA],
        play: played,
        digits: String::new(),
        duration: CALL,
    };
    let (sender, mut notices) = mpsc::channel(256);
    let call = tokio::spawn(Box::pin(caller::place(plan, sender)));
    while let Some(notice) = notices.recv().await {
        print_notice(&notice);
    }
    call.await?
}

/// Writes the WAV and says what is in it; true when the audio came back as it should.
fn report(path: &Path, played: &[i16], outcome: &Outcome) -> anyhow::Result<bool> {
    println!();
    say("call", &outcome.ending);
    if let Some(after) = outcome.answered_after {
        say("answered", format_args!("{:.1} ms after the INVITE", after.as_secs_f64() * 1e3));
    }
    if let Some(statistics) = &outcome.statistics {
        print_statistics(statistics);
    }
    if outcome.heard.is_empty() {
        say("audio", "nothing was heard");
        return Ok(false);
    }
    wav::write(path, &outcome.heard)?;
    let seconds = outcome.heard.len() as f64 / measure::SAMPLE_RATE_HZ as f64;
    say("WAV", format_args!("{} - what the caller heard, {seconds:.1} s", path.display()));
    let Some(comparison) = measure::compare(played, &outcome.heard) else {
        say("audio", "what was heard does not resemble what was played");
        return Ok(false);
    };
    print_comparison(&comparison);
    Ok(outcome.is_success && is_good(&comparison))
}

fn print_comparison(comparison: &Comparison) {
    let grown = comparison.delay_last_ms - comparison.delay_ms;
    let later = if grown > 1.0 { format!(" ({grown:.0} ms more at the end)") } else { String::new() };
    say(
        "delay",
        format_args!("{:.0} ms, mouth to ear and back through the agent{later}", comparison.delay_ms),
    );
    say(
        "level",
        format_args!(
            "{:.1} dBFS, {:+.2} dB of what was played",
            comparison.heard_level_dbfs, comparison.level_change_db
        ),
    );
    say(
        "loss",
        format_args!(
            "{:.1} % of the audio ({} of {} frames silent)",
            100.0 * comparison.lost_share(),
            comparison.silent_frames,
            comparison.played_frames
        ),
    );
    say(
        "noise",
        format_args!(
            "{:.0} dB below the signal (G.711 itself allows about 38)",
            comparison.signal_to_noise_db
        ),
    );
}

/// What an echo over loopback must reach, also on a machine that is busy with other things: next to no
/// loss, the level as it was, G.711's own noise alone.
fn is_good(comparison: &Comparison) -> bool {
    comparison.lost_share() < LOST_MAX
        && comparison.level_change_db.abs() < 0.5
        && comparison.signal_to_noise_db > 30.0
        && comparison.delay_ms < DELAY_MAX_MS
}

/// Prints the record of the call, as the API gives it.
async fn print_record(api: &Api, agent_id: &str) -> anyhow::Result<()> {
    let path = format!("/v2/agent/{agent_id}/executions");
    let mut record = Value::Null;
    // The record is written when the bridge has closed, a moment after the caller's last message.
    for _ in 0..100 {
        record = api.get(&path).await?["data"][0].clone();
        if record["status"] == "completed" || record["status"] == "failed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let field = |name: &str| record[name].to_string();
    say(
        "record",
        format_args!(
            "{} status {} duration {} s, hung up by {} ({})",
            field("id"),
            field("status"),
            field("conversation_duration"),
            record["telephony_data"]["hangup_by"],
            record["telephony_data"]["hangup_reason"],
        ),
    );
    Ok(())
}

fn print_what_next(server: &RunningServer, sip: SocketAddr, key: &str, wav: &Path) {
    println!("\nThe server stays up; Ctrl-C ends it.");
    say("API", format_args!("http://{}   Authorization: Bearer {key}", server.api));
    say("metrics", format_args!("http://{}/metrics", server.api));
    // As it was started, so that the line can be pasted; and with a voice, for an echo of silence is silence.
    let program = std::env::args().next().unwrap_or_else(|| "tandem".to_owned());
    let wav = wav.display();
    let sound = format!("--play {wav} --record heard.wav --duration 5");
    say("call it", format_args!("{program} call sip:{DID}@{sip} {sound}"));
}

/// The server's REST API, as any client sees it.
struct Api {
    base: String,
    key: String,
}

impl Api {
    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request("GET", path, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.request("POST", path, Some(body)).await?;
        let name = ["id", "agent_id", "message"].iter().find_map(|name| answer[name].as_str());
        say("API", format_args!("POST {path} -> {}", name.unwrap_or_default()));
        Ok(answer)
    }

    async fn request(&self, method: &'static str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", format!("Bearer {}", self.key))
            .header("Content-Type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())?;
        let what = format!("{method} {path}");
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(10)))
                .build()
                .into();
            let mut response = agent.run(request).with_context(|| what.clone())?;
            let status = response.status();
            let text = response.body_mut().read_to_string()?;
            if !status.is_success() {
                bail!("{what}: {status}: {text}");
            }
            Ok(serde_json::from_str(&text)?)
        })
        .await?
    }
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    Ok(value[name].as_str().with_context(|| format!("no {name} in {value}"))?.to_owned())
}
