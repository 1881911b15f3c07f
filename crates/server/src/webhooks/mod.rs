//! Tells accounts of their calls: each change of a call's status is POSTed to the account's webhooks and to its
//! agent's `webhook_url`.
//!
//! The queue is in the store, so a restart loses nothing. Each receiver has a few places; one that does not answer
//! rests between attempts, and holds up nobody else. Refuses to follow redirections, and to hurry: the engine
//! never waits for any of this.

pub mod feed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::net::post::Poster;
use crate::secrets::{Secret, hex, random};
use crate::store::{Delivery, DeliveryAttempt as Attempt, Store, StoreError, now_ms};

/// The signature: `t=<seconds since 1970>,v1=<HMAC-SHA256 over "t.body", hex>`.
pub const SIGNATURE: &str = "tandem-signature";
/// The moment of sending, seconds since 1970: part of what is signed.
pub const TIMESTAMP: &str = "tandem-timestamp";

/// Deliveries under way to one receiver.
const PLACES: usize = 4;
/// Receivers served at once.
const RECEIVERS: usize = 256;
/// How often the queue is looked into.
const GLANCE: Duration = Duration::from_millis(250);
/// How long a delivery belongs to whoever took it, in milliseconds; longer than an attempt may take.
const LEASE_MS: i64 = 60_000;
/// The first pause after a failed attempt; each later one is twice as long.
const FIRST_PAUSE_MS: i64 = 5_000;
/// The longest pause.
const LONGEST_PAUSE_MS: i64 = 3_600_000;
/// How long a receiver rests at most after one that did not answer.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How the sender works.
#[derive(Clone, Copy, Debug)]
pub struct SendLimits {
    /// Attempts before a delivery is given up.
    pub attempts: u32,
    /// The first pause, in milliseconds.
    pub first_pause_ms: i64,
}

impl SendLimits {
    /// With the usual pauses.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { attempts, first_pause_ms: FIRST_PAUSE_MS }
    }
}

/// Starts the task that sends; abort it to stop. `public_url` is the base of the URLs that receivers are told.
#[must_use]
pub fn start(store: Store, poster: Poster, limits: SendLimits, public_url: String) -> JoinHandle<()> {
    let (outcomes, ended) = mpsc::channel(RECEIVERS * PLACES);
    let (poster, public_url) = (Arc::new(poster), Arc::from(public_url));
    let sender = Sender { store, poster, limits, public_url, lines: HashMap::new(), outcomes };
    tokio::spawn(sender.run(ended))
}

/// What is known of one receiver.
#[derive(Debug, Default)]
struct Line {
    under_way: usize,
    failures: u32,
    rests_until: Option<Instant>,
}

struct Sender {
    store: Store,
    poster: Arc<Poster>,
    limits: SendLimits,
    public_url: Arc<str>,
    lines: HashMap<String, Line>,
    outcomes: mpsc::Sender<(String, bool)>,
}

impl Sender {
    async fn run(mut self, mut ended: mpsc::Receiver<(String, bool)>) {
        let mut glances = tokio::time::interval(GLANCE);
        glances.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((url, is_alive)) = ended.recv() => self.note(&url, is_alive),
                _ = glances.tick() => {}
            }
            if let Err(error) = self.send_due().await {
                tracing::warn!(%error, "webhooks could not be looked through; trying again");
                metrics::counter!("tandem_webhook_store_failures_total").increment(1);
            }
        }
    }

    fn note(&mut self, url: &str, is_alive: bool) {
        let Some(line) = self.lines.get_mut(url) else { return };
        line.under_way = line.under_way.saturating_sub(1);
        if is_alive {
            *line = Line { under_way: line.under_way, ..Line::default() };
        } else {
            line.failures = line.failures.saturating_add(1);
            let rest = Duration::from_millis(500) * 2_u32.saturating_pow(line.failures.min(10));
            line.rests_until = Some(Instant::now() + rest.min(LONGEST_REST));
        }
    }

    async fn send_due(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        self.lines.retain(|_, line| {
            line.under_way > 0 || line.rests_until.is_some_and(|until| until > now - LONGEST_REST)
        });
        let limit = u32::try_from(RECEIVERS * 2).unwrap_or(u32::MAX);
        for url in self.store.due_receivers(now_ms(), limit).await? {
            if !self.lines.contains_key(&url) && self.lines.len() >= RECEIVERS {
                continue;
            }
            let line = self.lines.entry(url.clone()).or_default();
            if line.rests_until.is_some_and(|until| until > now) {
                continue;
            }
            // One that failed last is tried with one delivery, not with all its places.
            let places = if line.failures > 0 { 1 } else { PLACES };
            let free = places.saturating_sub(line.under_way);
            if free == 0 {
                continue;
            }
            let limit = u32::try_from(free).unwrap_or(1);
            for delivery in self.store.take_deliveries(&url, now_ms(), LEASE_MS, limit).await? {
                line.under_way += 1;
                let (store, poster) = (self.store.clone(), Arc::clone(&self.poster));
                let public_url = Arc::clone(&self.public_url);
                let (limits, outcomes) = (self.limits, self.outcomes.clone());
                tokio::spawn(async move {
                    let url = delivery.url.clone();
                    let is_alive = deliver(&store, &poster, limits, &public_url, delivery).await;
                    // The sender is gone only when the server stops.
                    let _ = outcomes.send((url, is_alive)).await;
                });
            }
        }
        Ok(())
    }
}

/// Tries one delivery and writes down what came of it; whether the receiver answered at all.
async fn deliver(
    store: &Store,
    poster: &Poster,
    limits: SendLimits,
    public_url: &str,
    delivery: Delivery,
) -> bool {
    let secret = match delivery.webhook.as_str() {
        // An agent's own URL has no secret: the vendor's webhooks are not signed.
        "" => Ok(None),
        webhook => store.webhook_secret(webhook).await.map(Some),
    };
    let outcome = match (secret, store.execution_told(&delivery).await) {
        (Ok(secret), Ok(execution)) => {
            let body = crate::api::execution_body(&execution, public_url).to_string();
            send(poster, &delivery, body, secret.as_ref()).await
        }
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    };
    let is_alive = outcome.is_ok();
    let (status, error) = match outcome {
        Ok(status) if (200..300).contains(&status) => (Some(status), None),
        Ok(status @ 300..400) => {
            (Some(status), Some(format!("answered {status}; redirections are not followed")))
        }
        Ok(status) => (Some(status), Some(format!("answered {status}"))),
        Err(error) => (None, Some(error)),
    };
    let attempt = match (error, status) {
        (None, status) => Attempt::Delivered { status: status.unwrap_or(200) },
        (Some(error), status) if delivery.attempts + 1 >= limits.attempts => {
            Attempt::GivenUp { status, error }
        }
        (Some(error), status) => {
            Attempt::Again { status, error, at: now_ms() + pause(limits.first_pause_ms, delivery.attempts) }
        }
    };
    let word = match &attempt {
        Attempt::Delivered { .. } => "delivered",
        Attempt::Again { .. } => "again",
        Attempt::GivenUp { .. } => "given_up",
    };
    metrics::counter!("tandem_webhook_attempts_total", "outcome" => word).increment(1);
    if let Err(error) = store.note_attempt(&delivery.id, &attempt).await {
        // Its lease runs out and it is tried again: receivers know repetitions by their identifier.
        tracing::warn!(%error, "an attempt of a webhook was not written down");
    }
    is_alive
}

async fn send(
    poster: &Poster,
    delivery: &Delivery,
    body: String,
    secret: Option<&Secret>,
) -> Result<u16, String> {
    let timestamp = now_ms() / 1_000;
    let text = |value: String| HeaderValue::try_from(value).map_err(|error| error.to_string());
    let mut headers = vec![
        (HeaderName::from_static("tandem-event"), text(delivery.event.clone())?),
        (HeaderName::from_static("tandem-delivery"), text(delivery.id.clone())?),
        (HeaderName::from_static("tandem-attempt"), HeaderValue::from(delivery.attempts + 1)),
        (HeaderName::from_static(TIMESTAMP), HeaderValue::from(timestamp)),
    ];
    if let Some(secret) = secret {
        let signature = format!("t={timestamp},v1={}", sign(secret, timestamp, body.as_bytes()));
        headers.push((HeaderName::from_static(SIGNATURE), text(signature)?));
    }
    poster.post(&delivery.url, &headers, Bytes::from(body)).await.map_err(|error| error.to_string())
}

/// HMAC-SHA256 over `timestamp.body`, hex: with the moment in it, what was recorded cannot be sent again later.
#[must_use]
pub fn sign(secret: &Secret, timestamp: i64, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    hex(&mac.finalize().into_bytes())
}

/// The pause before the next attempt: doubled each time, bounded, and spread by a fifth, so that what failed together
/// does not come back together.
fn pause(first_ms: i64, attempts: u32) -> i64 {
    let doubled = first_ms.saturating_mul(2_i64.saturating_pow(attempts.min(30))).min(LONGEST_PAUSE_MS);
    let spread = i64::from(u32::from_le_bytes(random::<4>()) % 400) - 200;
    doubled + doubled * spread / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_a_bound_and_are_spread() {
        for (attempts, expected) in
            [(0, 5_000), (1, 10_000), (4, 80_000), (20, LONGEST_PAUSE_MS), (99, LONGEST_PAUSE_MS)]
        {
            let pauses: Vec<i64> = (0..50).map(|_| pause(FIRST_PAUSE_MS, attempts)).collect();
            assert!(
                pauses.iter().all(|pause| (*pause - expected).abs() <= expected / 5),
                "{attempts}: {pauses:?}"
            );
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }

    #[test]
    fn the_signature_is_the_one_any_library_makes() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac whsec_abc
        let signature = sign(&Secret::new("whsec_abc"), 1_700_000_000, b"{}");
        assert_eq!(signature, "bad9ac117e973d721c232d46744158d75e3f1b44e36771e13d01b9e6a580bc72");
        assert_ne!(signature, sign(&Secret::new("whsec_abc"), 1_700_000_001, b"{}"));
        assert_ne!(signature, sign(&Secret::new("whsec_abd"), 1_700_000_000, b"{}"));
    }
}
