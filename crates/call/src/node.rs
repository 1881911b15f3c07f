//! What all calls of an engine share: the endpoint, admission, the table, the clock's anchor, and what is to go out.
//!
//! Handed to each call's step by `&mut`, so that a call can act without knowing of its neighbours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::{ChaCha12Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use tandem_sip::{Endpoint, SessionId, Transport};
use uuid::{Builder, Uuid};

use crate::admission::Admission;
use crate::agent_rules::CallerIdentity;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::ids::{AgentId, CallId};
use crate::output::Output;
use crate::qualify::GatewayNews;
use crate::table::RoutingTable;
use crate::verdict::Verdict;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: EngineConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) admission: Admission,
    pub(crate) table: Arc<RoutingTable>,
    pub(crate) counters: Counters,
    pub(crate) outputs: VecDeque<Output>,
    /// Which call each session of the endpoint belongs to.
    pub(crate) sessions: BTreeMap<SessionId, CallId>,
    /// Which call each SIP Call-ID belongs to, for the ladder.
    pub(crate) sip_call_ids: BTreeMap<Bytes, CallId>,
    pub(crate) deadlines: BTreeSet<(Instant, CallId)>,
    pub(crate) random: ChaCha12Rng,
    /// Makes the randomness of each call's media keys; nothing else that anybody sees comes from it.
    pub(crate) media_keys: ChaCha20Rng,
    /// How the message came that is being dealt with.
    pub(crate) arrived_by: Option<Transport>,
    /// What calls found of gateways since the watch last looked.
    pub(crate) gateway_news: Vec<GatewayNews>,
    pub(crate) start: Instant,
    pub(crate) start_unix_ms: u64,
}

impl Node {
    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// The wall clock at an instant. It follows the monotonic one: steps of the system's clock do not reach records.
    pub(crate) fn unix_ms(&self, now: Instant) -> u64 {
        self.start_unix_ms.saturating_add(millis(now.saturating_duration_since(self.start)))
    }

    /// The wall clock at an instant that may lie ahead.
    pub(crate) fn unix_ms_of(&self, at: Instant, now: Instant) -> u64 {
        self.unix_ms(now)
            .saturating_add(millis(at.saturating_duration_since(now)))
            .saturating_sub(millis(now.saturating_duration_since(at)))
    }

    /// Stamps a verdict and lets it go.
    pub(crate) fn emit_verdict(&mut self, mut verdict: Box<Verdict>, now: Instant) {
        verdict.id = self.new_id(now);
        verdict.at_unix_ms = self.unix_ms(now);
        self.counters.verdict(verdict.code);
        self.emit(Output::Verdict(verdict));
    }

    /// A new identifier: a UUID of version 7, so that stores keep what is written together together.
    pub(crate) fn new_id(&mut self, now: Instant) -> Uuid {
        let mut random = [0; 10];
        self.random.fill_bytes(&mut random);
        Builder::from_unix_timestamp_millis(self.unix_ms(now), &random).into_uuid()
    }

    /// How many calls of the caller the agent had answered when the table was made.
    pub(crate) fn answered(&self, agent: &AgentId, caller: &CallerIdentity) -> u32 {
        match caller {
            CallerIdentity::Known(key) => self.table.answered(agent, key),
            CallerIdentity::Anonymous => 0,
        }
    }

    /// A Call-ID: 128 random bits, no host (RFC 3261 section 8.1.1.4).
    pub(crate) fn new_sip_call_id(&mut self) -> String {
        format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64())
    }

    /// The randomness of one call's media keys.
    pub(crate) fn new_media_random(&mut self) -> ChaCha20Rng {
        let mut seed = [0; 32];
        self.media_keys.fill_bytes(&mut seed);
        ChaCha20Rng::from_seed(seed)
    }

    /// A number for the `o=` line: below 2^62, for some peers read it signed.
    pub(crate) fn new_sdp_session(&mut self) -> u64 {
        self.random.next_u64() >> 2
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
