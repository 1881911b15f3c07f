//! The media thread with real sockets on loopback: a caller's RTP on one side, an agent's WebSocket on the
//! other.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tandem_agent::{DialectConfig, StreamFacts};
use tandem_call::{
    BridgeFailure, CallId,
    bridge::{AgentDial, AgentPlan, BridgeCommand, BridgeEvent, BridgeLimits, BridgePlan, OnClose},
};
use tandem_media::{LatchPolicy, Law, MediaParameters};
use tokio::sync::mpsc::Receiver;
use tungstenite::Message;

use super::{Media, MediaEvent, Ports};
use crate::net::{
    fence::Fence,
    ws_connect::{
        AgentStream, Connected, DialError, DialRequest, DialTimes, Dialler, Framing, verifying_tls,
    },
};
use crate::recording::RecordingQueue;

const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::LOCALHOST);

fn plan(caller: SocketAddr) -> BridgePlan {
    BridgePlan {
        call: CallId(uuid::Uuid::new_v4()),
        account: "default".into(),
        media: Some(MediaParameters::plain(caller, Law::Mulaw)),
        peer: caller.ip(),
        latch: LatchPolicy::default(),
        media_timeout: None,
        silence: None,
        agent: AgentPlan {
            url: String::new(),
            headers: Vec::new(),
            subprotocol: None,
            fallback_url: None,
            dialect: DialectConfig::default(),
            facts: StreamFacts::default(),
            on_close: OnClose::default(),
            dial: AgentDial::WithThePort,
            question: None,
        },
        limits: BridgeLimits::default(),
    }
}

fn event(events: &mut Receiver<MediaEvent>) -> MediaEvent {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(5), events.recv()).await })
        .expect("an event comes in time")
        .expect("the thread lives")
}

/// Connects a WebSocket to an agent that runs `agent` on a thread of its own.
fn connect(agent: impl FnOnce(tungstenite::WebSocket<std::net::TcpStream>) + Send + 'static) -> Connected {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        agent(tungstenite::WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None));
    });
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    Connected {
        stream: AgentStream::Plain(stream),
        leftover: Vec::new(),
        framing: Framing::WebSocket,
        peer: address,
        subprotocol: None,
    }
}

fn echo<S: Read + Write>(mut agent: tungstenite::WebSocket<S>) {
    while let Ok(message) = agent.read() {
        if message.is_binary() && agent.send(message).is_err() {
            return;
        }
    }
}

fn open(media: &mut Media, events: &mut Receiver<MediaEvent>, plan: BridgePlan) -> SocketAddr {
    let call = plan.call;
    media.open(plan, LOOPBACK, LOOPBACK, 7);
    match event(events) {
        MediaEvent::Opened { call: opened, rtp } if opened == call => rtp,
        other => panic!("not opened: {other:?}"),
    }
}

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    // A ramp that begins with the packet's number, in codes that are no silence.
    packet.extend([1 + (sequence / 100) as u8, 1 + (sequence % 100) as u8]);
    packet.extend((2..160_u8).map(|index| 1 + index % 100));
    packet
}

/// Sends sixty packets at the frame clock and counts those of the fifth to the forty-fifth that come back
/// whole. A busy machine may delay this test's own packets beyond what a jitter buffer waits, so a few may be
/// missing; none may be altered.
fn echoed(caller: &UdpSocket, rtp: SocketAddr) -> usize {
    caller.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let began = Instant::now();
    let mut heard = Vec::new();
    let mut buffer = [0; 2_048];
    for sequence in 0..60_u16 {
        caller.send_to(&packet(sequence), rtp).unwrap();
        let next = began + Duration::from_millis(20) * u32::from(sequence + 1);
        while Instant::now() < next {
            if let Ok((length, source)) = caller.recv_from(&mut buffer) {
                assert_eq!(source, rtp);
                heard.extend_from_slice(&buffer[12..length]);
            }
        }
    }
    let is_heard = |sequence: &u16| heard.windows(160).any(|window| window == &packet(*sequence)[12..]);
    (5..45).filter(is_heard).count()
}

/// What a caller says comes back from an echoing agent unchanged, at the frame clock.
#[test]
fn what_the_caller_says_comes_back_from_an_echoing_agent() {
    let (mut media, mut events) =
        Media::start(1, Ports::new(31_600, 31_619, Duration::ZERO), &RecordingQueue::idle()).unwrap();
    let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = plan(caller.local_addr().unwrap());
    let call = plan.call;
    let rtp = open(&mut media, &mut events, plan);
    media.attach(call, connect(echo));
    media.command(call, BridgeCommand::Start);
    let whole = echoed(&caller, rtp);
    assert!(whole >= 36, "{whole} of 40 packets came back whole");
    let counters = &media.counters()[0];
    assert!(counters.rtp_sent.read() > 50, "the frame clock ran: {counters:?}");
    assert_eq!(counters.send_errors.read(), 0);

    media.close(call);
    loop {
        match event(&mut events) {
            MediaEvent::Closed { call: closed, statistics } => {
                assert_eq!(closed, call);
                assert!(statistics.agent_frames_received > 30, "{statistics:?}");
                break;
            }
            MediaEvent::Bridge { event: BridgeEvent::Latched { .. }, .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn when_the_range_is_used_up_the_next_call_is_told_so() {
    let (mut media, mut events) =
        Media::start(1, Ports::new(31_620, 31_621, Duration::from_secs(9)), &RecordingQueue::idle()).unwrap();
    let caller = SocketAddr::from((LOOPBACK, 9));
    let first = plan(caller);
    let call = first.call;
    let _ = open(&mut media, &mut events, first);
    media.open(plan(caller), LOOPBACK, LOOPBACK, 7);
    assert!(matches!(event(&mut events), MediaEvent::Failed { cause: BridgeFailure::NoPorts, .. }));
    media.close(call);
    assert!(matches!(event(&mut events), MediaEvent::Closed { .. }));
    assert_eq!(media.ports().counts().resting, 1, "a closed call's port rests");
}

#[test]
fn a_call_that_failed_to_open_still_reports_its_end() {
    let (mut media, mut events) =
        Media::start(1, Ports::new(31_630, 31_630, Duration::ZERO), &RecordingQueue::idle()).unwrap();
    let plan = plan(SocketAddr::from((LOOPBACK, 9)));
    let call = plan.call;
    media.open(plan, LOOPBACK, LOOPBACK, 7);
    assert!(matches!(event(&mut events), MediaEvent::Failed { .. }));
    media.close(call);
    assert!(matches!(event(&mut events), MediaEvent::Closed { call: closed, .. } if closed == call));
}

/// A thousand messages in one burst and a fault in the framing end one call; the other's clock runs on.
#[test]
fn an_agent_that_sends_rubbish_ends_its_own_call_alone() {
    let (mut media, mut events) =
        Media::start(1, Ports::new(31_640, 31_659, Duration::ZERO), &RecordingQueue::idle()).unwrap();
    let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bad = plan(caller.local_addr().unwrap());
    let good = plan(caller.local_addr().unwrap());
    let (bad_call, good_call) = (bad.call, good.call);
    let _ = open(&mut media, &mut events, bad);
    let _ = open(&mut media, &mut events, good);
    media.attach(good_call, connect(echo));
    media.attach(
        bad_call,
        connect(|mut agent| {
            for _ in 0..1_000 {
                let _ = agent.send(Message::binary(vec![1; 1_600]));
            }
            // Reserved bits set: a fault of the protocol (RFC 6455 section 5.2).
            let _ = agent.get_mut().write_all(&[0xF2, 0x00, 0xFF, 0xFF]);
            std::thread::sleep(Duration::from_secs(2));
        }),
    );
    media.command(bad_call, BridgeCommand::Start);
    media.command(good_call, BridgeCommand::Start);
    loop {
        match event(&mut events) {
            MediaEvent::Bridge { call, event: BridgeEvent::AgentClosed { .. } } => {
                assert_eq!(call, bad_call);
                break;
            }
            MediaEvent::Bridge { call, .. } => assert_eq!(call, bad_call),
            other => panic!("unexpected {other:?}"),
        }
    }
    let counters = media.counters()[0].clone();
    let before = counters.agent_sent.read();
    std::thread::sleep(Duration::from_millis(200));
    assert!(counters.agent_sent.read() > before + 5, "the good call's agent hears on");
    assert_eq!(counters.agent_broken.read(), 1);
}

/// An echoing agent behind TLS, with a certificate of the test authority. Returns its port.
fn agent_behind_tls() -> u16 {
    let chain = CertificateDer::from_pem_slice(include_bytes!("../../tests/certificates/agent.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../tests/certificates/agent.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that does not trust us ends here.
            if let Ok(socket) = tungstenite::accept(rustls::StreamOwned::new(session, stream)) {
                echo(socket);
            }
        }
    });
    port
}

fn dial(extra: &[CertificateDer<'static>], port: u16) -> Result<Connected, DialError> {
    let dialler = Dialler::new(verifying_tls(extra).unwrap().0, Fence::default(), DialTimes::default());
    let request =
        DialRequest { url: format!("wss://localhost:{port}/call"), headers: Vec::new(), subprotocol: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(dialler.dial(&request))
}

#[test]
fn an_agent_behind_tls_is_heard_when_its_authority_is_trusted() {
    let (mut media, mut events) =
        Media::start(1, Ports::new(31_660, 31_679, Duration::ZERO), &RecordingQueue::idle()).unwrap();
    let authority =
        CertificateDer::from_pem_slice(include_bytes!("../../tests/certificates/authority.pem")).unwrap();
    let connected = dial(&[authority], agent_behind_tls()).unwrap();
    assert!(matches!(connected.stream, AgentStream::Tls(..)));
    let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = plan(caller.local_addr().unwrap());
    let call = plan.call;
    let rtp = open(&mut media, &mut events, plan);
    media.attach(call, connected);
    media.command(call, BridgeCommand::Start);
    let whole = echoed(&caller, rtp);
    assert!(whole >= 36, "{whole} of 40 packets came back whole");
}

#[test]
fn an_agent_whose_authority_is_unknown_is_not_spoken_to() {
    let error = dial(&[], agent_behind_tls()).unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}
