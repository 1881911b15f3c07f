//! Signalling's side of a call's media: its ports, and its agent, dialled once the ports are bound.
//!
//! Refuses to touch audio: media threads own the sockets that are made here.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::atomic::Ordering,
};

use futures_util::future::{Either, select};
use tandem_call::{
    AgentFailure, BridgeFailure, CallId, CallerAnswer, Input,
    bridge::{AgentDial, AgentPlan, BridgePlan},
};
use tokio::task::AbortHandle;

use super::Signalling;
use crate::{
    caller_lookup, clock,
    media::MediaEvent,
    net::ws_connect::{Connected, DialError, DialRequest, Dialler},
    store::PROVIDER_PLACE_BEGINS,
    telemetry,
};

/// A dial that is over.
pub(super) struct Dialled {
    call: CallId,
    outcome: Result<Connected, DialError>,
    /// What came of looking the caller up, and whether one of whom nothing is known is refused.
    looked_up: Option<(bool, CallerAnswer)>,
}

/// What signalling keeps of a call.
pub(super) struct Call {
    /// Dialled when the ports are bound, or when the engine says so.
    agent: Option<AgentPlan>,
    dial: Option<AbortHandle>,
    pub(super) span: tracing::Span,
}

impl Signalling {
    pub(super) fn media(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::Opened { call, rtp } => {
                self.engine(Input::BridgeOpened { call, rtp });
                let dials =
                    self.calls.get(&call).and_then(|known| known.agent.as_ref()).map(|agent| agent.dial);
                if dials == Some(AgentDial::WithThePort) {
                    self.dial(call);
                }
            }
            MediaEvent::Failed { call, cause } => self.engine(Input::BridgeFailed { call, cause }),
            MediaEvent::SecondOpened { call, rtp } => self.engine(Input::SecondOpened { call, rtp }),
            MediaEvent::SecondFailed { call, cause } => self.engine(Input::SecondFailed { call, cause }),
            MediaEvent::Bridge { call, event } => self.engine(Input::Bridge { call, event }),
            MediaEvent::Closed { call, statistics } => {
                telemetry::measure_bridge(&statistics);
                self.engine(Input::BridgeClosed { call, statistics });
            }
        }
    }

    pub(super) fn dialled(&mut self, dialled: Dialled) {
        let Dialled { call, outcome, looked_up } = dialled;
        self.gauges.dialling.fetch_sub(1, Ordering::Relaxed);
        let Some(known) = self.calls.get_mut(&call) else {
            return;
        };
        known.dial = None;
        let span = known.span.clone();
        if let Some((must_be_known, answer)) = looked_up {
            self.engine(Input::CallerLookedUp { call, must_be_known, answer });
        }
        match outcome {
            Ok(connected) => {
                tracing::debug!(parent: &span, peer = %connected.peer, "the agent is connected");
                // The media thread takes commands in order, so it holds the socket before it is told to start.
                self.parts.media.attach(call, connected);
                self.engine(Input::AgentConnected { call });
            }
            Err(error) => {
                tracing::info!(parent: &span, %error, "the agent was not reached");
                self.engine(Input::AgentRefused { call, cause: failure_of(&error) });
            }
        }
    }

    pub(super) fn open(&mut self, call: CallId, plan: BridgePlan) {
        let span = tracing::info_span!("call", execution_id = %call, account = %plan.account);
        tracing::info!(parent: &span, "call begins");
        let agent = Some(plan.agent.clone());
        self.calls.insert(call, Call { agent, dial: None, span });
        self.gauges.calls.store(self.calls.len(), Ordering::Relaxed);
        let peer = plan.media.as_ref().map_or(plan.peer, |media| media.remote.ip());
        // On hold the peer may name 0.0.0.0 (RFC 3264 section 8.4); its signalling address tells the way.
        let peer = if peer.is_unspecified() { plan.peer } else { peer };
        match self.media_addresses(peer) {
            Ok((wildcard, advertised)) => {
                self.seeds = self.seeds.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let seed = self.seeds;
                self.parts.media.open(plan, wildcard, advertised, seed);
            }
            Err(error) => {
                tracing::warn!(execution_id = %call, %peer, %error, "there is no route to the caller's media");
                self.engine(Input::BridgeFailed { call, cause: BridgeFailure::System });
            }
        }
    }

    /// Binds a second pair of ports for a call.
    pub(super) fn open_second(&mut self, call: CallId, peer: IpAddr) {
        match self.media_addresses(peer) {
            Ok((wildcard, advertised)) => self.parts.media.open_second(call, wildcard, advertised),
            Err(error) => {
                tracing::warn!(execution_id = %call, %peer, %error, "there is no route to the second leg's media");
                self.engine(Input::SecondFailed { call, cause: BridgeFailure::System });
            }
        }
    }

    /// Where to bind for media of this peer, and the address that is written into SDP.
    fn media_addresses(&mut self, peer: IpAddr) -> std::io::Result<(IpAddr, IpAddr)> {
        let wildcard: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let public = self.parts.media_address.filter(|public| public.is_ipv4() == peer.is_ipv4());
        let advertised = match public {
            Some(public) => public,
            None => self.locals.towards(SocketAddr::new(wildcard, 0), peer, clock::now())?.ip(),
        };
        Ok((wildcard, advertised))
    }

    pub(super) fn close(&mut self, call: CallId) {
        if let Some(known) = self.calls.get_mut(&call) {
            known.agent = None;
            if let Some(dial) = known.dial.take() {
                dial.abort();
                self.gauges.dialling.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if self.parts.media.holds(call) {
            self.parts.media.close(call);
        } else {
            self.engine(Input::BridgeClosed { call, statistics: Box::default() });
        }
    }

    /// Dials the call's agent; meanwhile its caller is looked up, if the agent's owner wants that.
    pub(super) fn dial(&mut self, call: CallId) {
        let Some(known) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(agent) = known.agent.take() else {
            return;
        };
        let dialler = self.parts.dialler.clone();
        let client = self.parts.callers.clone();
        let results = self.dialled.0.clone();
        self.gauges.dialling.fetch_add(1, Ordering::Relaxed);
        if let Some(missing) = missing_provider(&agent.headers) {
            self.gauges.dialling.fetch_sub(1, Ordering::Relaxed);
            return self.engine(Input::AgentRefused { call, cause: AgentFailure::BadUrl(missing) });
        }
        let task = tokio::spawn(async move {
            let question = agent.question.clone();
            let looking = async {
                let question = question?;
                Some((question.must_be_known, caller_lookup::ask(&client, &question).await))
            };
            let dialling = pin!(dial(&dialler, call, agent));
            let (outcome, looked_up) = match select(dialling, pin!(looking)).await {
                Either::Left((Err(error), _)) => (Err(error), None),
                Either::Left((connected, looking)) => (connected, looking.await),
                Either::Right((looked_up, dialling)) => (dialling.await, looked_up),
            };
            let _ = results.send(Dialled { call, outcome, looked_up }).await;
        });
        known.dial = Some(task.abort_handle());
    }
}

/// Dials an agent, and its fallback if the first cannot be reached.
async fn dial(dialler: &Dialler, call: CallId, agent: AgentPlan) -> Result<Connected, DialError> {
    let mut request = DialRequest { url: agent.url, headers: agent.headers, subprotocol: agent.subprotocol };
    let outcome = dialler.dial(&request).await;
    if let (Err(error), Some(fallback)) = (&outcome, agent.fallback_url) {
        tracing::debug!(execution_id = %call, %error, "the agent's fallback is tried");
        request.url = fallback;
        return dialler.dial(&request).await;
    }
    outcome
}

/// Says which provider's secret a header wants that its account does not keep; routing has filled in the others.
fn missing_provider(headers: &[(String, String)]) -> Option<String> {
    headers.iter().find_map(|(name, value)| {
        let (_, rest) = value.split_once(PROVIDER_PLACE_BEGINS)?;
        let provider = rest.split('}').next().unwrap_or_default();
        Some(short(&format!(
            "the header {name} names the provider {provider}, which the account does not keep; add it with POST /providers"
        )))
    })
}

/// The engine's word for a failed dial.
fn failure_of(error: &DialError) -> AgentFailure {
    match error {
        DialError::Url(why) => AgentFailure::BadUrl(short(why)),
        DialError::Header(name) => AgentFailure::BadUrl(short(&format!("header {name:?} cannot be sent"))),
        DialError::Resolve { host, source } => AgentFailure::NameUnknown(short(&format!("{host}: {source}"))),
        DialError::Fenced { address } => AgentFailure::Forbidden(address.to_string()),
        DialError::Connect { place, source } => {
            AgentFailure::Unreachable(short(&format!("{place}: {source}")))
        }
        DialError::Dropped { address, source } => AgentFailure::Unreachable(short(&format!(
            "{address} dropped the connection during the upgrade: {source}"
        ))),
        DialError::Tls { address, source } => AgentFailure::Tls(short(&format!("{address}: {source}"))),
        DialError::Status { status, .. } => AgentFailure::Status(*status),
        DialError::Upgrade(why) => AgentFailure::NotWebSocket((*why).to_owned()),
        DialError::Timeout(_) => AgentFailure::Timeout,
    }
}

/// A detail that fits a record: names and what libraries say may be long.
fn short(text: &str) -> String {
    const MOST: usize = 200;
    text.chars().take(MOST).collect()
}
