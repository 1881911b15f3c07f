//! A whole call in every dialect, with the test agent that `tandem agent` is.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::json;
use tandem_server::tools::test_agent::NAMES;
use tandem_tests::product::{Product, binary, free_port, ip_trunk};

use tungstenite::Message;

use crate::{
    DID,
    agent::{Agent, accept},
    phone::{Phone, packet},
    text,
};

/// A `tandem agent`; dropping it ends it.
struct TestAgent(Child);

impl TestAgent {
    /// An echo that hangs up, and the port it listens on.
    fn start(dialect: &str, hang_up_after: u32) -> (Self, u16, mpsc::Receiver<String>) {
        let port = free_port();
        let mut child = Command::new(binary())
            .args(["agent", "--dialect", dialect, "--listen", &format!("127.0.0.1:{port}")])
            .args(["--hang-up-after", &hang_up_after.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test agent starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, printed) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let first = printed.recv_timeout(Duration::from_secs(20)).expect("it says that it listens");
        assert!(first.contains("Ctrl-C"), "{first}");
        (Self(child), port, printed)
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The caller hears its echo and the agent ends the call. Where the audio is not resampled it comes back as it was.
fn call_in(dialect: &str) {
    let (_agent, port, printed) = TestAgent::start(dialect, 2);
    let product = Product::start();
    let websocket = json!({"url": format!("ws://127.0.0.1:{port}/{{execution_id}}"), "dialect": dialect});
    let provisioned = product.provision(DID, &ip_trunk("loopback", "127.0.0.1/32"), &websocket);
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = phone.talk(rtp, Duration::from_millis(1_500));
    phone.await_bye(Duration::from_secs(6));
    // 16 kHz on the way: through two filters.
    let is_resampled = matches!(dialect, "vonage" | "bolna");
    let is_heard = |sequence: &u16| {
        let sent = &packet(*sequence)[12..];
        let is_loud = |code: &u8| *code & 0x7f < 0x60;
        if is_resampled {
            heard.iter().filter(|code| is_loud(code)).count() > 4_000
        } else {
            heard.windows(160).any(|window| window == sent)
        }
    };
    let whole = (10..40).filter(is_heard).count();
    assert!(whole >= 24, "{dialect}: {whole} of 30 packets came back");
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(text(&calls[0], "status"), "completed", "{dialect}: {}", calls[0]);
    assert_eq!(calls[0]["telephony_data"]["hangup_by"], "Callee", "{dialect}: {}", calls[0]);
    let told: Vec<String> = printed.try_iter().collect();
    assert!(told.iter().any(|line| line.contains("started")), "{dialect}: {told:?}");
    assert!(!told.iter().any(|line| line.contains("failed")), "{dialect}: {told:?}");
}

#[test]
fn every_dialect_carries_a_call_both_ways_until_the_agent_ends_it() {
    // A few at a time: each is a server and an agent of its own.
    for some in NAMES.chunks(4) {
        let calls: Vec<_> = some.iter().map(|name| std::thread::spawn(move || call_in(name))).collect();
        for call in calls {
            call.join().expect("the call went well");
        }
    }
}

/// A call to an agent of the test's own; what the caller heard of what it said.
fn call_to(agent: &Agent, websocket: serde_json::Value) -> Vec<u8> {
    let product = Product::start();
    let provisioned = product.provision(DID, &ip_trunk("loopback", "127.0.0.1/32"), &websocket);
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = phone.talk(rtp, Duration::from_millis(1_500));
    phone.await_bye(Duration::from_secs(6));
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(text(&calls[0], "status"), "completed", "{}", calls[0]);
    assert_eq!(calls[0]["telephony_data"]["hangup_by"], "Callee", "{} at {agent:?}", calls[0]);
    heard
}

fn assert_echoed(heard: &[u8]) {
    let is_heard = |sequence: &u16| heard.windows(160).any(|window| window == &packet(*sequence)[12..]);
    let whole = (10..40).filter(is_heard).count();
    assert!(whole >= 24, "{whole} of 30 packets came back");
}

#[test]
fn an_audiosocket_agent_echoes_over_tcp_and_hangs_up() {
    let agent = Agent::start(|mut stream| {
        let mut frames = 0;
        loop {
            let mut head = [0; 3];
            if stream.read_exact(&mut head).is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).expect("a whole frame");
            match (head[0], frames) {
                // The call's UUID comes first.
                (0x01, 0) => assert_eq!(payload.len(), 16),
                (0x10, 90) => return stream.write_all(&[0, 0, 0]).expect("the end is said"),
                (0x10, _) => {
                    // Cut anywhere, as TCP may.
                    stream.write_all(&head[..2]).expect("sent");
                    stream.write_all(&[&head[2..], &payload].concat()).expect("sent");
                }
                (kind, _) => panic!("frame {frames} of kind {kind}"),
            }
            frames += 1;
        }
    });
    let url = format!("tcp://{}", agent.address());
    assert_echoed(&call_to(&agent, json!({"url": url, "dialect": "audiosocket"})));
}

/// A service that wants its session set up before it takes audio, echoes, and lets the model end the call.
fn direct(
    dialect: &'static str,
    greet: &'static [&'static str],
    audio_of: fn(&Message) -> Option<String>,
    reply: fn(&str) -> Message,
    end: &'static str,
) {
    let agent = Agent::start(move |stream| {
        let mut socket = accept(stream);
        let mut greet = greet.iter();
        if let Some(first) = greet.next() {
            socket.send(Message::text(*first)).expect("sent");
        }
        let mut heard = 0;
        while let Ok(message) = socket.read() {
            if let Some(audio) = audio_of(&message) {
                heard += 1;
                socket.send(reply(&audio)).expect("sent");
            } else if let Some(next) = greet.next() {
                assert_eq!(heard, 0, "no audio before the session stands");
                socket.send(Message::text(*next)).expect("sent");
            }
            if heard == 90 {
                socket.send(Message::text(end)).expect("sent");
            }
        }
    });
    let url = format!("ws://{}/{{execution_id}}", agent.address());
    assert_echoed(&call_to(&agent, json!({"url": url, "dialect": dialect})));
}

fn field(message: &Message, name: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(message.to_text().ok()?).ok()?;
    Some(value[name].as_str()?.to_owned())
}

#[test]
fn a_realtime_model_is_set_up_heard_and_ends_the_call_by_its_tool() {
    direct(
        "openai-realtime",
        &[r#"{"type":"session.created"}"#, r#"{"type":"session.updated"}"#],
        |message| field(message, "audio"),
        |audio| {
            let delta = json!({"type": "response.output_audio.delta", "response_id": "r", "item_id": "i",
                "delta": audio});
            Message::text(delta.to_string())
        },
        r#"{"type":"response.function_call_arguments.done","call_id":"c","name":"end_call","arguments":"{}"}"#,
    );
}

#[test]
fn an_elevenlabs_agent_is_set_up_heard_and_ends_the_call_by_its_tool() {
    direct(
        "elevenlabs",
        &[r#"{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":
            {"agent_output_audio_format":"ulaw_8000","user_input_audio_format":"ulaw_8000"}}"#],
        |message| field(message, "user_audio_chunk"),
        |audio| {
            let event = json!({"type": "audio", "audio_event": {"event_id": 1, "audio_base_64": audio}});
            Message::text(event.to_string())
        },
        r#"{"type":"client_tool_call","client_tool_call":{"tool_name":"end_call","tool_call_id":"t"}}"#,
    );
}

#[test]
fn a_deepgram_agent_is_set_up_heard_and_ends_the_call_by_its_function() {
    direct(
        "deepgram",
        &[r#"{"type":"Welcome"}"#, r#"{"type":"SettingsApplied"}"#],
        |message| match message {
            // Carried as text to the closure that answers, one character a byte.
            Message::Binary(bytes) => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            _ => None,
        },
        |audio| Message::binary(audio.chars().map(|code| code as u8).collect::<Vec<u8>>()),
        r#"{"type":"FunctionCallRequest","functions":
            [{"id":"f","name":"end_call","arguments":"{}","client_side":true}]}"#,
    );
}

#[test]
fn a_test_agent_of_no_known_dialect_names_those_it_knows() {
    let output = Command::new(binary())
        .args(["agent", "--dialect", "morse", "--listen", "127.0.0.1:0"])
        .output()
        .expect("the test agent runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("morse") && told.contains("jambonz"), "{told}");
}
