//! baresip as a wideband telephone: G.722 by an implementation that nobody here wrote, and the two WAVs compared.

use std::f64::consts::TAU;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;
use tandem_tests::product::{Product, free_port, ip_trunk};

use crate::baresip::{configure, recording_in};
use crate::echo_agent::EchoAgent;

const DID: &str = "+918047333344";
const RATE_HZ: u32 = 16_000;
/// One tone of the telephone band, and one that no G.711 carries.
const TONES_HZ: [f64; 2] = [1_000.0, 5_200.0];
const AMPLITUDE: f64 = 5_000.0;

/// Level of each tone in a second of what was heard, against what was played, in decibels.
fn call(product: &Product, codec: &str) -> ([f64; 2], String) {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    configure(folder.path(), port, &[], "module g722.so\n");
    let path = folder.path().join("config");
    let configuration = fs::read_to_string(&path).expect("the configuration");
    fs::write(&path, configuration.replace("_srate 8000", "_srate 16000")).expect("written");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut played = hound::WavWriter::create(folder.path().join("played.wav"), spec).expect("a WAV");
    for at in 0..RATE_HZ * 20 {
        let sum: f64 = TONES_HZ.iter().map(|hz| (TAU * hz * f64::from(at) / f64::from(RATE_HZ)).sin()).sum();
        played.write_sample((AMPLITUDE * sum) as i16).expect("written");
    }
    played.finalize().expect("written");
    let line = format!("<sip:+919800000002@{}>;regint=0;audio_codecs={codec}\n", product.sip);
    fs::write(folder.path().join("accounts"), line).expect("written");
    let output = Command::new("timeout")
        .args(["20", "baresip", "-f"])
        .arg(folder.path())
        .args(["-t", "7", "-e", &format!("/dial sip:{DID}@{}", product.sip)])
        .stdin(Stdio::null())
        .output()
        .expect("baresip runs; tests/run installs it");
    let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let recording = recording_in(folder.path()).unwrap_or_else(|| panic!("nothing was heard:\n{log}"));
    let mut reader = hound::WavReader::open(recording).expect("the recording");
    let rate_hz = f64::from(reader.spec().sample_rate);
    let samples: Vec<f64> =
        reader.samples::<i16>().map(|sample| f64::from(sample.expect("a sample"))).collect();
    // The loudest second: past the set-up, before the end.
    let window = rate_hz as usize;
    let second =
        samples.chunks_exact(window).max_by_key(|second| second.iter().map(|s| s.abs()).sum::<f64>() as u64);
    let second = second.unwrap_or_else(|| panic!("less than a second was heard:\n{log}"));
    let level = |hz: f64| {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (at, sample) in second.iter().enumerate() {
            let (s, c) = (TAU * hz * at as f64 / rate_hz).sin_cos();
            (sine, cosine) = (sine + sample * s, cosine + sample * c);
        }
        20.0 * (2.0 * (sine * sine + cosine * cosine).sqrt() / second.len() as f64 / AMPLITUDE)
            .max(1e-9)
            .log10()
    };
    (TONES_HZ.map(level), log)
}

fn product(allow: &str, agent: &EchoAgent, encoding: &str) -> (Product, String) {
    let product = Product::start();
    let mut trunk = ip_trunk("carrier", "127.0.0.1/32");
    trunk["allow"] = json!(allow);
    let websocket = json!({"url": agent.url(), "dialect": "asterisk", "encoding": encoding});
    let ids = product.provision(DID, &trunk, &websocket);
    (product, ids.agent_id)
}

#[test]
fn a_wideband_telephone_hears_both_octaves_back() {
    let agent = EchoAgent::start("asterisk", &[]);
    for encoding in ["slin16", "slin24"] {
        let (product, agent_id) = product("g722,ulaw,alaw", &agent, encoding);
        let ([low, high], log) = call(&product, "G722/16000/1,PCMU/8000/1");
        assert!(low.abs() < 1.0 && high.abs() < 1.5, "{encoding}: {low:.2} dB, {high:.2} dB\n{log}");
        let record = product.ended_calls(&agent_id, 1).pop().expect("one call");
        assert_eq!(record["telephony_data"]["media"]["codec"], "G722", "{record}");
    }
}

/// The control: the same telephone on a trunk that does not allow G.722 gets the telephone band. It resamples for that
/// itself, both ways, which costs it some of the tone: so an agent that speaks µ-law, to whom nothing is converted, says how
/// loud the tone can be.
#[test]
fn a_wideband_telephone_speaks_g711_where_the_trunk_allows_no_more() {
    let agent = EchoAgent::start("asterisk", &[]);
    let [(plain, _), (converted, log)] = ["ulaw", "slin16"].map(|encoding| {
        let (product, agent_id) = product("ulaw,alaw", &agent, encoding);
        let (levels, log) = call(&product, "G722/16000/1,PCMU/8000/1");
        let record = product.ended_calls(&agent_id, 1).pop().expect("one call");
        assert_eq!(record["telephony_data"]["media"]["codec"], "PCMU", "{record}");
        assert!(levels[0].abs() < 3.0 && levels[1] < -25.0, "{encoding}: {levels:.2?} dB\n{log}");
        (levels, log)
    });
    assert!((converted[0] - plain[0]).abs() < 0.3, "{plain:.2?} dB, converted {converted:.2?} dB\n{log}");
}
