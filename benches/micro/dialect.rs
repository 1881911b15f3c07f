//! Encoding and decoding 20 ms of audio in each dialect: time and allocations.

use divan::{AllocProfiler, Bencher, black_box};
use tandem_agent::{Dialect, DialectConfig, DialectKind, FrameKind, StreamFacts, stream_sid};
use uuid::Uuid;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const DIALECTS: [&str; 3] = ["asterisk", "twilio", "bolna"];
const CALL: Uuid = Uuid::from_u128(42);

fn main() {
    divan::main();
}

/// A dialect whose start messages are out, and the bytes of a frame in the coding it takes.
fn started(name: &str) -> (Dialect, Vec<u8>) {
    let facts = StreamFacts { call: CALL, ..StreamFacts::default() };
    let config = DialectConfig::new(DialectKind::from_name(name).expect("a known dialect"));
    let mut dialect = Dialect::new(&config, &facts).expect("a valid configuration");
    let mut out = Vec::new();
    while dialect.poll_start(&facts, &mut out).is_some() {
        out.clear();
    }
    (dialect, vec![0x55; if name == "bolna" { 640 } else { 160 }])
}

#[divan::bench(args = DIALECTS)]
fn encode_20_ms(bencher: Bencher, name: &str) {
    let (mut dialect, audio) = started(name);
    let mut out = Vec::with_capacity(4_096);
    let mut timestamp_ms = 0;
    bencher.bench_local(|| {
        out.clear();
        timestamp_ms += 20;
        dialect.encode_audio(timestamp_ms, black_box(&audio), &mut out)
    });
}

#[divan::bench(args = DIALECTS)]
fn decode_20_ms(bencher: Bencher, name: &str) {
    let (mut dialect, _) = started(name);
    let payload = base64_simd::STANDARD.encode_to_string([0x55; 160]);
    let (kind, message) = match name {
        "asterisk" => (FrameKind::Binary, vec![0x55; 160]),
        "twilio" => {
            let sid = stream_sid(CALL);
            let text =
                format!(r#"{{"event":"media","streamSid":"{sid}","media":{{"payload":"{payload}"}}}}"#);
            (FrameKind::Text, text.into_bytes())
        }
        _ => {
            let audio = base64_simd::STANDARD.encode_to_string([0x55; 960]);
            let text = format!(
                r#"{{"type":"streamAudio","data":{{"audioDataType":"raw","sampleRate":24000,"audioData":"{audio}"}}}}"#
            );
            (FrameKind::Text, text.into_bytes())
        }
    };
    bencher.bench_local(|| {
        let mut bytes = 0;
        let decoded = dialect.decode(kind, black_box(&message), &mut |command| {
            if let tandem_agent::AgentCommand::Audio { data, .. } = command {
                bytes += data.len();
            }
        });
        (decoded.is_ok(), bytes)
    });
}
