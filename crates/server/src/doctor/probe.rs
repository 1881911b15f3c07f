//! One request to a carrier from a socket of its own, and the response to it.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tandem_sip::auth::Answerer;
use tandem_sip::{
    ContactUse, Endpoint, EndpointConfig, Event, NoResponseCause, OutgoingRequest, Response, Target,
};

use crate::clock;
use crate::tools::caller::wire::Wire;

/// What is asked.
pub(super) struct Question {
    pub(super) method: &'static str,
    pub(super) uri: String,
    /// From and To: who asks of whom.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) credentials: Option<Answerer>,
}

/// Asks, and waits for the final response.
///
/// # Errors
/// Why there is none, in words.
pub(super) async fn ask(wire: &mut Wire, question: Question, within: Duration) -> anyhow::Result<Response> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let mut endpoint = Endpoint::new(EndpointConfig::default(), u64::from_le_bytes(seed));
    let flow = wire.flow();
    let now = clock::now();
    let until = now + within;
    wire.announce(&mut endpoint, now);
    let outgoing = OutgoingRequest {
        method: question.method.to_owned(),
        uri: question.uri.into(),
        from: format!("<{}>", question.from).into(),
        to: format!("<{}>", question.to).into(),
        call_id: None,
        cseq: 1,
        routes: Vec::new(),
        target: Target::Flow(flow),
        local: flow.local,
        // A REGISTER without a Contact asks and changes nothing (RFC 3261 section 10.2.3).
        contact: if question.method == "REGISTER" { ContactUse::Without } else { ContactUse::Ours },
        headers: vec![("Accept".into(), "application/sdp".into())],
        credentials: question.credentials,
    };
    endpoint.request(now, outgoing).map_err(|misuse| anyhow!("it cannot be asked: {misuse}"))?;
    loop {
        while let Some(transmit) = endpoint.poll_transmit() {
            wire.send(&transmit.payload).await.context("it cannot be sent to")?;
        }
        match endpoint.poll_event() {
            Some(Event::Response { response, .. }) => return Ok(*response),
            Some(Event::NoResponse { cause: NoResponseCause::TimedOut, .. }) => {
                return Err(anyhow!("it does not answer"));
            }
            Some(Event::NoResponse { cause: NoResponseCause::TransportFailed, .. }) => {
                return Err(anyhow!("it cannot be sent to"));
            }
            // Whatever else it says is no answer.
            Some(_) => continue,
            None => {}
        }
        let timer = endpoint.poll_timeout().map_or(until, |(at, _)| at.min(until));
        tokio::select! {
            received = wire.receive() => {
                let payload = received.context("the connection was lost")?;
                wire.hand_over(&mut endpoint, clock::now(), payload);
            }
            () = tokio::time::sleep_until(timer.into()) => endpoint.handle_timeout(clock::now()),
        }
        let now: Instant = clock::now();
        if now >= until {
            return Err(anyhow!("it does not answer within {} seconds", within.as_secs()));
        }
    }
}
