//! A voice agent to test against: accepts WebSocket connections, echoes the caller or plays
//! to him, and reports what it hears.

mod speaker;

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tandem_media::resample::Resampler;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};

pub use speaker::{Heard, NAMES, Speaker};

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 2_000;

/// Messages kept for sending while the server reads slowly; beyond it the oldest echo is dropped.
const UNSENT_MAX: usize = 4_096;

/// How long a server may take to close after it was asked for the end.
const GOODBYE: Duration = Duration::from_secs(2);

const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

/// What the agent does with a call.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Sends the caller's audio back, byte for byte.
    Echo,
    /// Plays a steady tone of 440 Hz in real time.
    Tone,
    /// Plays these samples (8,000 a second) once, in one burst, followed by a mark.
    Speak(Arc<[i16]>),
}

/// How to run the agent.
#[derive(Debug, Clone)]
pub struct Options {
    /// The dialect by its configured name; see [`Speaker::named`].
    pub dialect: String,
    /// What to do with a call.
    pub mode: Mode,
    /// Hang up this long after the stream began.
    pub hang_up_after: Option<Duration>,
}

/// Something that happened on one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Connections are numbered from 1 as they come.
    pub connection: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// A server connected from this address.
    Connected(SocketAddr),
    /// A message other than audio was understood.
    Heard(Heard),
    /// The first audio arrived.
    FirstAudio,
    /// The connection ended after this many messages of audio.
    Closed {
        /// Messages of caller's audio that arrived.
        audio_messages: u64,
    },
    /// The connection could not be served.
    Failed(String),
}

/// A running test agent; dropping it ends it with all its connections.
#[derive(Debug)]
pub struct TestAgent {
    local: SocketAddr,
    events: mpsc::Receiver<Event>,
    accepting: JoinHandle<()>,
}

impl TestAgent {
    /// Listens on `listen` (port 0 takes a free one) and serves calls until dropped.
    ///
    /// # Errors
    /// When the dialect is unknown or the address cannot be listened on.
    pub async fn start(listen: SocketAddr, options: Options) -> anyhow::Result<Self> {
        if Speaker::named(&options.dialect).is_none() {
            anyhow::bail!("--dialect {}: the test agent speaks {}", options.dialect, NAMES.join(", "));
        }
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            anyhow::anyhow!("cannot listen on {listen}: {error}; choose another --listen")
        })?;
        let local = listener.local_addr()?;
        let (sender, events) = mpsc::channel(1_024);
        let accepting = tokio::spawn(accept(listener, Arc::new(options), sender));
        Ok(Self { local, events, accepting })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next event. Events beyond 1,024 unread ones are dropped, never the audio.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, options: Arc<Options>, events: mpsc::Sender<Event>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                // A connection that died before it was accepted is nobody's loss.
                let Ok((stream, peer)) = accepted else { continue };
                number += 1;
                let report = Report { connection: number, events: events.clone() };
                report.send(EventKind::Connected(peer));
                connections.spawn(serve(stream, Arc::clone(&options), report));
            }
        }
    }
}

/// Where the events of one connection go.
struct Report {
    connection: u64,
    events: mpsc::Sender<Event>,
}

impl Report {
    fn send(&self, kind: EventKind) {
        // A full queue means that nobody looks: the call goes on, unreported.
        let _ = self.events.try_send(Event { connection: self.connection, kind });
    }
}

async fn serve(stream: TcpStream, options: Arc<Options>, report: Report) {
    let accepted = async {
        stream.set_nodelay(true)?;
        // Whatever subprotocol is offered is taken, as the vendors' own servers do.
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let select = |request: &Request, mut response: Response| {
            if let Some(offered) = request.headers().get(SUBPROTOCOL) {
                response.headers_mut().insert(SUBPROTOCOL, offered.clone());
            }
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(stream, select).await
    };
    let socket = match accepted.await {
        Ok(socket) => socket,
        Err(error) => return report.send(EventKind::Failed(error.to_string())),
    };
    let speaker = Speaker::named(&options.dialect).expect("checked when the agent started");
    let mut talk = Talk::new(speaker, &options, &report);
    if let Err(error) = talk.run(socket).await {
        report.send(EventKind::Failed(error.to_string()));
    }
    report.send(EventKind::Closed { audio_messages: talk.audio_messages });
}

/// One conversation.
struct Talk<'a> {
    speaker: Speaker,
    options: &'a Options,
    report: &'a Report,
    started_at: Option<Instant>,
    audio_messages: u64,
    unsent: VecDeque<Message>,
    tone_phase: f64,
}

impl<'a> Talk<'a> {
    fn new(speaker: Speaker, options: &'a Options, report: &'a Report) -> Self {
        let unsent = VecDeque::new();
        Self { speaker, options, report, started_at: None, audio_messages: 0, unsent, tone_phase: 0.0 }
    }

    async fn run(&mut self, mut socket: WebSocketStream<TcpStream>) -> Result<(), tungstenite::Error> {
        let mut clock = interval(Duration::from_millis(20));
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let ticks = matches!(self.options.mode, Mode::Tone) || self.options.hang_up_after.is_some();
        loop {
            tokio::select! {
                _ = clock.tick(), if ticks => {
                    if self.is_time_to_hang_up() {
                        return self.hang_up(&mut socket).await;
                    }
                    self.play_tone();
                }
                message = socket.next() => match message {
                    None | Some(Ok(Message::Close(_))) => return Ok(()),
                    Some(message) => self.handle(&message?),
                },
            }
            while let Some(message) = self.unsent.pop_front() {
                socket.feed(message).await?;
            }
            socket.flush().await?;
        }
    }

    /// Says so where the dialect has a word for it, and lets the server close; closes otherwise.
    async fn hang_up(&mut self, socket: &mut WebSocketStream<TcpStream>) -> Result<(), tungstenite::Error> {
        if let Some(goodbye) = self.speaker.hang_up() {
            socket.send(goodbye).await?;
            let patience = tokio::time::sleep(GOODBYE);
            tokio::pin!(patience);
            loop {
                let message = tokio::select! {
                    () = &mut patience => break,
                    message = socket.next() => message,
                };
                let Some(Ok(message)) = message else { break };
                if message.is_close() {
                    return Ok(());
                }
                self.speaker.understand(&message);
                if let Some(answer) = self.speaker.answer() {
                    socket.send(answer).await?;
                }
            }
        }
        socket.close(None).await
    }

    fn is_time_to_hang_up(&self) -> bool {
        match (self.started_at, self.options.hang_up_after) {
            (Some(started_at), Some(after)) => started_at.elapsed() >= after,
            _ => false,
        }
    }

    fn handle(&mut self, message: &Message) {
        if matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return;
        }
        match self.speaker.understand(message) {
            Heard::Audio => {
                if self.audio_messages == 0 {
                    self.report.send(EventKind::FirstAudio);
                    self.begin();
                }
                self.audio_messages += 1;
                if matches!(self.options.mode, Mode::Echo) {
                    let echo = self.speaker.echo(message);
                    self.unsent.extend(echo);
                }
            }
            heard => self.report.send(EventKind::Heard(heard)),
        }
        self.unsent.extend(self.speaker.answer());
        while self.unsent.len() > UNSENT_MAX {
            self.unsent.pop_front();
        }
    }

    /// The caller can hear from the first audio on.
    fn begin(&mut self) {
        self.started_at = Some(Instant::now());
        if let Mode::Speak(samples) = &self.options.mode {
            let rate_hz = self.speaker.rate_hz();
            let mut converted = Vec::new();
            if rate_hz == 8_000 {
                converted.extend_from_slice(samples);
            } else {
                let mut resampler = Resampler::new(8_000, rate_hz).expect("dialects speak whole ratios");
                resampler.process(samples, &mut converted);
            }
            self.unsent.extend(self.speaker.say(&converted));
            self.unsent.extend(self.speaker.mark("spoken"));
        }
    }

    fn play_tone(&mut self) {
        if self.started_at.is_none() || !matches!(self.options.mode, Mode::Tone) {
            return;
        }
        let rate_hz = f64::from(self.speaker.rate_hz());
        let samples: Vec<i16> = (0..(rate_hz / 50.0) as usize)
            .map(|_| {
                self.tone_phase = (self.tone_phase + 440.0 / rate_hz).fract();
                ((TAU * self.tone_phase).sin() * 8_000.0) as i16
            })
            .collect();
        self.unsent.extend(self.speaker.say(&samples));
    }
}
