//! baresip as a telephone: it plays a WAV to the agent and records what comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tandem_server::tools::{measure, wav};
use tandem_tests::certificates::Authority;
use tandem_tests::product::{Product, free_port, ip_trunk, userpass_trunk};

use crate::echo_agent::EchoAgent;

pub(crate) const DID: &str = "+918047333333";

/// What the telephone printed, and what it heard.
pub(crate) struct Heard {
    pub(crate) log: String,
    pub(crate) samples: Vec<i16>,
}

/// Calls the product's number for `seconds`, playing `played`, with this account line's parameters.
pub(crate) fn call(product: &Product, seconds: u32, played: &[i16], account: &str, transport: &str) -> Heard {
    let place = format!("{}{transport}", product.sip);
    call_at(&place, seconds, played, account, "")
}

/// The same at this place, `host:port` with parameters, with more lines in the telephone's configuration.
pub(crate) fn call_at(place: &str, seconds: u32, played: &[i16], account: &str, more: &str) -> Heard {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    configure(folder.path(), port, played, more);
    let line = format!("<sip:+919800000002@{place}>;regint=0;{account}\n");
    fs::write(folder.path().join("accounts"), line).expect("written");
    let output = Command::new("timeout")
        .args([&(seconds + 10).to_string(), "baresip", "-f"])
        .arg(folder.path())
        .args([
            "-t",
            &seconds.to_string(),
            "-e",
            &format!("/dial sip:{DID}@{}", place.split(';').next().unwrap_or(place)),
        ])
        .stdin(Stdio::null())
        .output()
        .expect("baresip runs; tests/run installs it");
    let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let recording = recording_in(folder.path()).unwrap_or_else(|| panic!("nothing was heard:\n{log}"));
    let samples = wav::read(&recording).expect("the recording");
    Heard { log, samples }
}

/// Writes what baresip reads at its start but its accounts: it takes calls at `port`, plays this and records
/// what it hears; `more` are further lines.
pub(crate) fn configure(folder: &Path, port: u16, played: &[i16], more: &str) {
    let source = folder.join("played.wav");
    wav::write(&source, played).expect("written");
    let configuration = format!(
        "poll_method epoll\nsip_listen 127.0.0.1:{port}\ncall_local_timeout 60\ncall_max_calls 4\n\
         audio_source aufile,{source}\naudio_player aufile,/dev/null\naudio_alert aufile,/dev/null\n\
         ausrc_srate 8000\nauplay_srate 8000\nausrc_format s16\nauplay_format s16\n\
         rtp_ports {rtp}-{rtp_last}\nrtp_stats yes\nmodule_path /usr/lib/baresip/modules\n\
         module g711.so\nmodule aufile.so\nmodule uuid.so\nmodule sndfile.so\nsnd_path {folder}\n\
         module_tmp account.so\nmodule_app menu.so\n{more}",
        source = source.display(),
        rtp = 12_000 + port % 2_000 * 2,
        rtp_last = 12_100 + port % 2_000 * 2,
        folder = folder.display(),
    );
    fs::write(folder.join("config"), configuration).expect("written");
    fs::write(folder.join("contacts"), "").expect("written");
}

/// The file that holds what the telephone decoded.
pub(crate) fn recording_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.to_string_lossy().ends_with("-dec.wav"))
}

/// What G.711 alone costs: the echo can be no closer to the original than this.
fn through_g711(law: tandem_media::Law, samples: &[i16]) -> Vec<i16> {
    use tandem_media::g711;
    samples.iter().map(|sample| g711::decode(law, g711::encode(law, *sample))).collect()
}

pub(crate) fn assert_the_echo_is_what_was_played(
    law: tandem_media::Law,
    played: &[i16],
    heard: &[i16],
    log: &str,
) {
    let reference = through_g711(law, played);
    let comparison = measure::compare(&reference, heard)
        .unwrap_or_else(|| panic!("the echo does not resemble what was played:\n{log}"));
    // A machine that runs all tests at once may let the telephone's own clock slip by a frame or two.
    assert!(comparison.lost_share() < 0.05, "{comparison:?}\n{log}");
    assert!(comparison.level_change_db.abs() < 0.5, "{comparison:?}");
    assert!(comparison.signal_to_noise_db > 30.0, "{comparison:?}\n{log}");
}

#[test]
fn the_telephone_hears_its_own_voice_back_in_both_laws() {
    for (law, codec) in [(tandem_media::Law::Mulaw, "PCMU"), (tandem_media::Law::Alaw, "PCMA")] {
        let agent = EchoAgent::start("asterisk", &[]);
        let product = Product::start();
        let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
        let ids = product.provision(DID, &ip_trunk("carrier", "127.0.0.1/32"), &websocket);
        let played = measure::melody(20_000);
        let heard = call(&product, 6, &played, &format!("audio_codecs={codec}/8000/1"), "");
        let common = played.len().min(heard.samples.len()).saturating_sub(16_000);
        assert_the_echo_is_what_was_played(law, &played[..common], &heard.samples, &heard.log);
        let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
        assert_eq!(record["status"], "completed", "{record}");
    }
}

#[test]
fn the_telephone_proves_itself_and_calls_over_tcp() {
    let agent = EchoAgent::start("twilio", &[]);
    let product = Product::start();
    let websocket = json!({"url": agent.url(), "dialect": "twilio"});
    product.provision(DID, &userpass_trunk("carrier", "trunkuser", "s3cret-trunk"), &websocket);
    let played = measure::melody(20_000);
    let account = "auth_user=trunkuser;auth_pass=s3cret-trunk;audio_codecs=PCMU/8000/1";
    let heard = call(&product, 6, &played, account, ";transport=tcp");
    let common = played.len().min(heard.samples.len()).saturating_sub(16_000);
    assert_the_echo_is_what_was_played(
        tandem_media::Law::Mulaw,
        &played[..common],
        &heard.samples,
        &heard.log,
    );
}

/// The telephone verifies our certificate, and the call's signalling is encrypted.
#[test]
fn the_telephone_calls_over_tls() {
    let agent = EchoAgent::start("asterisk", &[]);
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let authority = Authority::new("Telephones' authority");
    let trusted = authority.write(folder.path(), "ca");
    let files = authority.issue(folder.path(), "sip", &["127.0.0.1", "localhost"]);
    let product = Product::start_with(&files.table(port, ""));
    let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
    let ids = product.provision(DID, &ip_trunk("carrier", "127.0.0.1/32"), &websocket);
    let played = measure::melody(20_000);
    let place = format!("127.0.0.1:{port};transport=tls");
    let more = format!("sip_cafile {}\nsip_verify_server yes\n", trusted.display());
    let heard = call_at(&place, 6, &played, "audio_codecs=PCMU/8000/1", &more);
    let common = played.len().min(heard.samples.len()).saturating_sub(16_000);
    assert_the_echo_is_what_was_played(
        tandem_media::Law::Mulaw,
        &played[..common],
        &heard.samples,
        &heard.log,
    );
    let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
    assert_eq!(record["status"], "completed", "{record}");
    product.until_metric("tandem_sip_connections_accepted_total", "", 1.0);
}
