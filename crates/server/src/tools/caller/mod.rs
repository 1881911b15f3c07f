//! A test caller: places one call over SIP, plays, listens, and says what it saw. It stands on the
//! same SIP and media cores as the server, but is a user agent of its own with its own sockets.

mod ladder;
mod media;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use tandem_media::session::RtpStatistics;
use tandem_media::{Codec, MediaParameters};
use tandem_sip::auth::Answerer;
use tandem_sip::message::Uri;
use tandem_sip::{EndedBy, Endpoint, EndpointConfig, Event, OutgoingInvite, SessionPolicy, Target};
use tandem_sip::{SessionId, Transport};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::{config::Tls, net::tls::SipTls};
pub use ladder::{Rung, Way};
use media::CallerMedia;
use wire::Wire;

/// How long the other side may take to confirm a BYE before the call is closed without it.
const FAREWELL: Duration = Duration::from_secs(2);

/// The call to place.
#[derive(Debug, Clone)]
pub struct CallPlan {
    /// Where to call, such as `sip:+918047111111@192.0.2.1:5060`.
    pub uri: String,
    /// Who calls, such as `sip:+919800000001@example.com`; by default made from the local address.
    pub from: Option<String>,
    /// The transport of the signalling.
    pub transport: Transport,
    /// Whether media is encrypted; keys stand in the signalling, so that only TLS keeps them secret.
    pub srtp: bool,
    /// PEM file of an authority to trust over TLS, beside those the machine trusts.
    pub authority: Option<PathBuf>,
    /// User name and password, should the called side ask for them.
    pub credentials: Option<(String, String)>,
    /// Codecs to offer, in order of preference.
    pub codecs: Vec<Codec>,
    /// What is played, at 8,000 samples a second; silence follows it.
    pub play: Arc<[i16]>,
    /// Keys to press once the call is up.
    pub digits: String,
    /// How long the call lasts from the answer on.
    pub duration: Duration,
}

/// Something worth telling while the call goes on.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A SIP message passed.
    Message(Rung),
    /// The call was answered, and this was agreed.
    Answered(Box<MediaParameters>),
    /// The time is up and the caller hangs up.
    HangingUp,
}

/// How a call went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the INVITE to the 200; `None` when the call was not answered.
    pub answered_after: Option<Duration>,
    /// How it ended, in words.
    pub ending: String,
    /// Whether it was answered and ended by either side in the regular way.
    pub is_success: bool,
    /// What was heard, at 8,000 samples a second, from the answer on.
    pub heard: Vec<i16>,
    /// The figures of the RTP session, if there was one.
    pub statistics: Option<RtpStatistics>,
    /// The codec that was agreed.
    pub codec: Option<Codec>,
}

/// Places the call and stays on it until it ends.
///
/// # Errors
/// When the address cannot be read, resolved or connected to, or a socket fails. A call that is
/// refused is an [`Outcome`], not an error.
pub async fn place(plan: CallPlan, notices: mpsc::Sender<Notice>) -> anyhow::Result<Outcome> {
    let tls = Tls { gateway_ca: plan.authority.clone(), ..Tls::default() };
    let tls = SipTls::load(&tls).context("--ca")?;
    Box::pin(place_with(plan, tls.connector(), notices)).await
}

/// The same, trusting over TLS whom the connector trusts.
///
/// # Errors
/// As [`place`].
pub async fn place_with(
    plan: CallPlan,
    tls: &TlsConnector,
    notices: mpsc::Sender<Notice>,
) -> anyhow::Result<Outcome> {
    let (host, remote) = resolve(&plan.uri, plan.transport).await?;
    let wire = Wire::open(plan.transport, remote, &host, tls)
        .await
        .with_context(|| format!("no {} connection to {remote}", plan.transport.via_name()))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let mut random = ChaCha8Rng::from_seed(seed);
    let local = wire.flow().local;
    let media = CallerMedia::bind(local.ip(), &plan.codecs, plan.srtp, &mut random).await?;
    let endpoint = Endpoint::new(EndpointConfig::default(), rand_core::Rng::next_u64(&mut random));
    let now = Instant::now();
    let caller = Caller {
        plan,
        wire,
        media,
        endpoint,
        notices,
        begun: now,
        answered: None,
        hang_up_at: None,
        ending: None,
        is_goodbye_heard: false,
        codec: None,
    };
    caller.run(now).await
}

/// The host of a SIP URI and its socket address: the literal one, or what the name resolves to.
async fn resolve(text: &str, transport: Transport) -> anyhow::Result<(String, SocketAddr)> {
    const EXAMPLE: &str = "a SIP URI is needed, such as sip:+918047111111@192.0.2.1:5060";
    let uri = Uri::parse(text.as_bytes()).with_context(|| format!("{text}: {EXAMPLE}"))?;
    if !uri.is_sip() {
        bail!("{text}: {EXAMPLE}");
    }
    let port = uri.port().unwrap_or(transport.default_port());
    if let Some(address) = uri.ip() {
        return Ok((address.to_string(), SocketAddr::new(address, port)));
    }
    let host = String::from_utf8_lossy(uri.host()).into_owned();
    let mut addresses = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("{host} does not resolve"))?;
    let first = addresses.next();
    drop(addresses);
    let first = first.with_context(|| format!("{host} has no address"))?;
    Ok((host, first))
}

/// One call in progress.
struct Caller {
    plan: CallPlan,
    wire: Wire,
    media: CallerMedia,
    endpoint: Endpoint,
    notices: mpsc::Sender<Notice>,
    begun: Instant,
    answered: Option<Instant>,
    hang_up_at: Option<Instant>,
    /// How it ended, and until when a last answer is waited for.
    ending: Option<(EndedBy, Instant)>,
    /// Whether the other side has confirmed our BYE or CANCEL.
    is_goodbye_heard: bool,
    codec: Option<Codec>,
}

impl Caller {
    async fn run(mut self, now: Instant) -> anyhow::Result<Outcome> {
        let session = self.invite(now)?;
        loop {
            self.drain(session).await?;
            let now = Instant::now();
            if let Some((by, until)) = &self.ending
                && (!matches!(by, EndedBy::HungUp) || self.is_goodbye_heard || now >= *until)
            {
                break;
            }
            let deadline = self.next_deadline(now);
            tokio::select! {
                received = self.wire.receive() => {
                    let now = Instant::now();
                    let payload = received.context("the signalling connection")?;
                    let confirms = self.note(now, Way::In, &payload).await;
                    self.is_goodbye_heard |= confirms;
                    self.wire.hand_over(&mut self.endpoint, now, payload);
                }
                received = self.media.receive() => received.context("the media socket")?,
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            self.expire(session).await?;
        }
        Ok(self.outcome())
    }

    fn invite(&mut self, now: Instant) -> anyhow::Result<SessionId> {
        let flow = self.wire.flow();
        let from = self.plan.from.clone().unwrap_or_else(|| format!("sip:tandem-call@{}", flow.local));
        let credentials = self.plan.credentials.clone();
        self.wire.announce(&mut self.endpoint, now);
        let outgoing = OutgoingInvite {
            uri: self.plan.uri.clone().into(),
            from: format!("<{from}>").into(),
            to: format!("<{}>", self.plan.uri).into(),
            call_id: None,
            routes: Vec::new(),
            target: Target::Flow(flow),
            local: flow.local,
            sdp: Some(self.media.offer()),
            credentials: credentials.map(|(user, password)| Answerer::new(user, password)),
            headers: Vec::new(),
            policy: SessionPolicy::default(),
        };
        self.endpoint.invite(now, outgoing).context("the call cannot be placed: check the URI and --from")
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let farewell = self.ending.as_ref().map(|(_, until)| *until);
        let timer = self.endpoint.poll_timeout().map(|(at, _)| at);
        let deadlines = [timer, self.media.next_tick(), self.hang_up_at, farewell];
        deadlines.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(1))
    }

    async fn expire(&mut self, session: SessionId) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        if self.hang_up_at.is_some_and(|at| at <= now) {
            self.hang_up_at = None;
            self.tell(Notice::HangingUp).await;
            self.media.end();
            // The other side may have been faster; then there is nothing left to end.
            let _ = self.endpoint.hangup(now, session, None);
        }
        self.media.tick(now).await.context("the media socket")
    }

    async fn drain(&mut self, session: SessionId) -> anyhow::Result<()> {
        loop {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                self.note(Instant::now(), Way::Out, &transmit.payload).await;
                self.wire.send(&transmit.payload).await.context("the signalling connection")?;
            }
            let Some(event) = self.endpoint.poll_event() else { return Ok(()) };
            self.handle(session, event).await?;
        }
    }

    async fn handle(&mut self, session: SessionId, event: Event) -> anyhow::Result<()> {
        let now = Instant::now();
        match event {
            Event::Answered { body, .. } => {
                let answer = body.context("the 200 carries no SDP answer")?;
                let play = Arc::clone(&self.plan.play);
                let parameters = self
                    .media
                    .begin(now, &answer, play, &self.plan.digits)
                    .context("the SDP answer cannot be used")?;
                self.answered = Some(now);
                self.hang_up_at = Some(now + self.plan.duration);
                self.codec = Some(parameters.codec);
                self.tell(Notice::Answered(Box::new(parameters))).await;
            }
            Event::Ended { by, .. } => {
                self.hang_up_at = None;
                self.media.end();
                self.ending = Some((by, now + FAREWELL));
            }
            // A caller that only tests takes no changes of the session.
            Event::Offer { .. } => drop(self.endpoint.refuse_offer(now, session, 488)),
            Event::Incoming(incoming) => self.endpoint.answer_options(*incoming),
            _ => {}
        }
        Ok(())
    }

    /// Tells of a message; true when it is the final response to our BYE.
    async fn note(&self, now: Instant, way: Way, payload: &bytes::Bytes) -> bool {
        let Some(rung) = Rung::of(now - self.begun, way, payload) else { return false };
        let confirms = rung.is_answer_to_bye;
        self.tell(Notice::Message(rung)).await;
        confirms
    }

    async fn tell(&self, notice: Notice) {
        // Whoever placed the call need not listen.
        let _ = self.notices.send(notice).await;
    }

    fn outcome(self) -> Outcome {
        let (by, _) = self.ending.expect("the loop ends when the call has");
        let is_regular = matches!(by, EndedBy::HungUp | EndedBy::ByeReceived);
        let (heard, statistics) = self.media.finish();
        Outcome {
            answered_after: self.answered.map(|at| at - self.begun),
            ending: describe(&by),
            is_success: is_regular && self.answered.is_some(),
            heard,
            statistics,
            codec: self.codec,
        }
    }
}

fn describe(by: &EndedBy) -> String {
    match by {
        EndedBy::HungUp => "the caller hung up".to_owned(),
        EndedBy::ByeReceived => "the called side hung up".to_owned(),
        EndedBy::Refused { status, response } => {
            let phrase = String::from_utf8_lossy(response.reason()).into_owned();
            format!("refused with {status} {phrase}")
        }
        EndedBy::NoResponse => "nobody answered: no response to the INVITE".to_owned(),
        EndedBy::TransportLost => "the connection was lost".to_owned(),
        other => format!("{other:?}"),
    }
}
