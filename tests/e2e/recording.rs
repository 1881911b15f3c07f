//! Recordings of real calls: both sides as they were heard, paused and stopped, sealed, cut off by a kill, deleted.

use std::fs;
use std::io::Cursor;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_media::{Law, g711};
use tandem_tests::awaited;
use tandem_tests::product::{Product, Provisioned};

use crate::agent::Agent;
use crate::phone::{Phone, packet};
use crate::{DID, product_with, text};

/// The echo agent's calls are recorded as `recording` says.
fn recorded_product(configuration: &str, recording: &Value) -> (Product, Provisioned) {
    let (product, provisioned) = product_with(&Agent::echo(), configuration);
    let path = format!("/v2/agent/{}", provisioned.agent_id);
    let (status, answer) = product.request("PATCH", &path, Some(&json!({"recording": recording})));
    assert_eq!(status, 200, "{answer}");
    (product, provisioned)
}

/// The recording once it is in its place.
fn download(product: &Product, call: &str) -> Vec<u8> {
    let path = format!("/recordings/call/{call}");
    awaited::until(
        Duration::from_secs(10),
        || format!("no recording: {:?}\n{}", product.get(&path), product.log()),
        || {
            let (status, bytes) = product.bytes(&path);
            (status == 200).then_some(bytes)
        },
    )
}

/// Left and right of a WAV, read by a library of somebody else's.
fn sides(wav: Vec<u8>) -> (Vec<i16>, Vec<i16>) {
    let reader = hound::WavReader::new(Cursor::new(wav)).expect("a WAV");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
    let samples: Vec<i16> = reader.into_samples().map(|sample| sample.expect("a sample")).collect();
    (samples.iter().step_by(2).copied().collect(), samples.iter().skip(1).step_by(2).copied().collect())
}

fn decoded(codes: &[u8]) -> Vec<i16> {
    codes.iter().map(|code| g711::decode(Law::Mulaw, *code)).collect()
}

/// How many of these frames of 20 ms are found whole in a side.
fn found<'a>(side: &[i16], frames: impl Iterator<Item = &'a [u8]>) -> usize {
    let is_whole = |frame: &&[u8]| {
        let frame = decoded(frame);
        side.windows(160).any(|window| window == frame)
    };
    frames.filter(is_whole).count()
}

fn packets(range: std::ops::Range<u16>) -> Vec<Vec<u8>> {
    range.map(|sequence| packet(sequence)[12..].to_vec()).collect()
}

/// The one call that is up.
fn live_call(product: &Product) -> Value {
    let (_, live) = product.get("/v1/calls");
    live["data"][0].clone()
}

fn talk_and_hang_up(phone: &mut Phone, rtp: SocketAddr, duration: Duration) -> Vec<u8> {
    let heard = phone.talk(rtp, duration);
    phone.hang_up();
    heard
}

fn recorded_files(product: &Product) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => walk(&path, found),
                path => found.push(path),
            }
        }
    }
    let mut files = Vec::new();
    walk(&product.folder().join("recordings"), &mut files);
    files
}

#[test]
fn both_sides_are_in_the_recording_as_they_were_heard_and_only_their_account_gets_it() {
    let (product, provisioned) = recorded_product("", &json!({"enabled": true}));
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = talk_and_hang_up(&mut phone, rtp, Duration::from_secs(3));
    let call = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    let id = text(&call, "id");
    let (left, right) = sides(download(&product, id));
    let said = packets(10..130);
    let whole = found(&left, said.iter().map(Vec::as_slice));
    assert!(whole >= 110, "{whole} of 120 packets are on the caller's side");
    let words: Vec<&[u8]> =
        heard.chunks_exact(160).filter(|frame| frame.iter().any(|code| *code != 0xff)).collect();
    let whole = found(&right, words.iter().copied());
    assert_eq!(whole, words.len(), "whatever the caller heard is on the agent's side");
    assert!(left.len().abs_diff(3 * 8_000) < 8_000 / 2, "{} samples of 3 s", left.len());

    let (_, call) = product.get(&format!("/executions/{id}"));
    let url = call["telephony_data"]["recording_url"].as_str().unwrap_or_default();
    assert!(url.ends_with(&format!("/recordings/call/{id}")), "{call}");
    let recording = &call["telephony_data"]["media"]["recording"];
    assert_eq!((text(recording, "state"), &recording["lost_ms"]), ("completed", &json!(0)), "{call}");
    assert_eq!(product.get(&format!("/recordings/transfer/{id}")).0, 404);

    let (status, other) = product.post("/sub-accounts/create", &json!({"name": "other"}));
    assert_eq!(status, 200, "{other}");
    assert_eq!(product.bytes_as(&format!("/recordings/call/{id}"), text(&other, "api_key")).0, 404);
    assert_eq!(product.bytes_as(&format!("/recordings/call/{id}"), "bn-nobody").0, 403);

    let path = format!("/recordings/call/{id}");
    assert_eq!(product.request("DELETE", &path, None).0, 204);
    let (status, refusal) = product.get(&path);
    assert_eq!(status, 404);
    assert!(refusal.to_string().contains("was deleted"), "{refusal}");
    assert!(recorded_files(&product).is_empty(), "{:?}", recorded_files(&product));
    let (_, call) = product.get(&format!("/executions/{id}"));
    assert!(call["telephony_data"]["recording_url"].is_null(), "{call}");
    assert_eq!(product.request("DELETE", &path, None).0, 404);
}

#[test]
fn a_recording_is_begun_paused_resumed_and_ended_by_the_api() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let id = text(&live_call(&product), "id").to_owned();
    let path = format!("/v1/calls/{id}/recording");
    let ask = |action: &str, expected: u16| {
        let (status, answer) = product.post(&path, &json!({"action": action, "pause": "skip"}));
        assert_eq!(status, expected, "{action}: {answer}");
        answer
    };
    let is = |state: &str| {
        awaited::until(
            Duration::from_secs(5),
            || format!("not {state}: {}", live_call(&product)),
            || (text(&live_call(&product)["recording"], "state") == state).then_some(()),
        );
    };
    assert!(ask("pause", 409).to_string().contains("start it first"));
    ask("start", 202);
    is("recording");
    phone.talk(rtp, Duration::from_secs(1));
    ask("pause", 202);
    is("paused");
    ask("pause", 409);
    phone.talk(rtp, Duration::from_secs(2));
    ask("resume", 202);
    is("recording");
    phone.talk(rtp, Duration::from_secs(1));
    ask("stop", 202);
    is("completed");
    assert!(ask("start", 409).to_string().contains("pause and resume"));
    let (status, answer) = product.post(&path, &json!({"action": "rewind"}));
    assert_eq!(status, 400, "{answer}");
    // It is whole while the call goes on.
    let (left, _) = sides(download(&product, &id));
    let seconds = left.len() as f64 / 8_000.0;
    assert!((1.5..3.0).contains(&seconds), "{seconds} s of 1 s, a pause, and 1 s");
    phone.hang_up();
    assert_eq!(product.ended_calls(&provisioned.agent_id, 1).len(), 1);
}

#[test]
fn a_sealed_recording_is_unreadable_on_disk_and_served_opened() {
    let (product, provisioned) = recorded_product("[recording]\nencrypt = true", &json!({}));
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    talk_and_hang_up(&mut phone, rtp, Duration::from_secs(2));
    let call = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    let (left, _) = sides(download(&product, text(&call, "id")));
    let said = packets(10..80);
    assert!(found(&left, said.iter().map(Vec::as_slice)) >= 60);
    let files = recorded_files(&product);
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = fs::read(&files[0]).expect("the file");
    let word: Vec<u8> =
        decoded(&said[0][..8]).iter().flat_map(|s| [s.to_le_bytes(), s.to_le_bytes()]).flatten().collect();
    assert!(!bytes.windows(4).any(|window| window == b"RIFF"));
    assert!(!bytes.windows(word.len()).any(|window| window == word));
}

/// Killed in mid-call, plain and sealed: the next process finds what was said up to the last second.
#[test]
fn a_recording_survives_a_kill_up_to_the_last_second() {
    for configuration in ["", "[recording]\nencrypt = true"] {
        let (mut product, provisioned) = recorded_product(configuration, &json!({}));
        let mut phone = Phone::over_udp(product.sip, DID);
        let rtp = phone.call();
        phone.talk(rtp, Duration::from_secs(4));
        product.kill_and_start_again();
        let call = product.ended_calls(&provisioned.agent_id, 1).remove(0);
        let (left, right) = sides(download(&product, text(&call, "id")));
        // 200 packets were said; those of the last second may be lost, and a few come late.
        let said = packets(10..150);
        let whole = found(&left, said.iter().map(Vec::as_slice));
        assert!(whole >= 130, "{whole} of 140 packets are on the caller's side");
        assert!(left.len() >= 3 * 8_000 && left.len() == right.len(), "{} samples of 4 s", left.len());
        let unfinished = product.folder().join("recordings/unfinished");
        assert_eq!(fs::read_dir(unfinished).expect("the folder").count(), 0);
    }
}

#[test]
fn a_recording_that_cannot_be_written_is_told_in_the_calls_incidents_and_harms_nothing_else() {
    let (product, provisioned) = recorded_product("[recording]\nfolder = \"/proc/nowhere\"", &json!({}));
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = talk_and_hang_up(&mut phone, rtp, Duration::from_secs(1));
    assert!(heard.len() > 160 * 30, "the call is heard all the same");
    let call = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    let (_, call) = product.get(&format!("/executions/{}", text(&call, "id")));
    let data = &call["telephony_data"];
    assert_eq!(text(&data["media"]["recording"], "state"), "failed", "{call}");
    let incident = &data["incidents"]["entries"][0];
    assert_eq!(text(incident, "kind"), "recording_failed", "{call}");
    assert!(product.metric("tandem_recording_failures_total", "") >= 1.0);
}
