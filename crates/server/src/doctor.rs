//! The trunk doctor: walks the way to a trunk's carrier step by step, and says of each what came of it and what to do.
//!
//! It speaks from sockets of its own, so it can say where the way ends without touching a call, a watch or a binding: what
//! is registered is asked for by a REGISTER without a Contact (RFC 3261 section 10.2.3), which changes nothing. An
//! echo call is placed only when a number is given.
//!
//! Bounded: one examination of a trunk at a time, a few of a node, and the last ones of each trunk kept in memory.
//! Refuses to decide anything about calls: what it finds is shown, and routing does not know of it.

mod examination;
mod probe;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tandem_call::{AccountId, RegistrationStatus, Trunk, TrunkId};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use crate::clock;
use crate::net::resolve::SipResolver;

/// Examinations kept of each trunk.
const KEPT_OF_TRUNK: usize = 10;
/// Trunks whose examinations are kept; the one examined longest ago makes room.
const KEPT_TRUNKS: usize = 1_000;
/// Examinations under way at once.
const AT_ONCE: usize = 8;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The name's addresses (RFC 3263).
    Dns,
    /// A connection over TCP.
    Connect,
    /// TLS over it, and the certificate's name.
    Tls,
    /// An answer to OPTIONS.
    Options,
    /// An answer to REGISTER, and the password.
    Register,
    /// How the registration that the trunk keeps stands.
    Registration,
    /// A call to the number given.
    Call,
    /// Audio both ways on that call.
    Audio,
}

impl Check {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 8] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Options,
        Self::Register,
        Self::Registration,
        Self::Call,
        Self::Audio,
    ];

    /// The word for it in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Options => "options",
            Self::Register => "register",
            Self::Registration => "registration",
            Self::Call => "call",
            Self::Audio => "audio",
        }
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Not as it should be; the remedy says what to do.
    Failed,
    /// Not looked at, and why.
    Skipped,
}

impl Verdict {
    /// The word for it in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One step of an examination.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was looked at.
    pub check: Check,
    /// Where: a gateway or registrar as the trunk has it, or a number.
    pub target: String,
    /// What came of it.
    pub verdict: Verdict,
    /// When it was begun, in milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
    /// How long it took.
    pub took: Duration,
    /// What was seen, in words.
    pub detail: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: String,
}

/// One examination of a trunk.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Its name.
    pub id: Uuid,
    /// When it was begun, in milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
    /// When it was over; none while it goes on.
    pub ended_unix_ms: Option<u64>,
    /// The steps so far, in order.
    pub steps: Vec<Step>,
}

/// What is to be examined.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The trunk, as calls use it.
    pub trunk: Arc<Trunk>,
    /// How its registration stands, if it keeps one.
    pub registration: Option<RegistrationStatus>,
    /// The number to call, and the one to call from.
    pub call: Option<(String, String)>,
}

/// Why there is no examination now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// This trunk is being examined.
    #[error("the trunk is being examined; GET the same path for how far it is")]
    Trunk,
    /// Others are.
    #[error("{AT_ONCE} trunks are being examined on this node; try again in a minute")]
    Node,
}

#[derive(Debug, Default)]
struct Kept {
    examinations: BTreeMap<(AccountId, TrunkId), VecDeque<Examination>>,
    /// Trunks by when they were examined, the earliest first.
    order: VecDeque<(AccountId, TrunkId)>,
    under_way: usize,
}

/// Examines trunks, and keeps what was found.
#[derive(Clone)]
pub struct Doctor {
    tls: TlsConnector,
    resolver: Arc<SipResolver>,
    kept: Arc<Mutex<Kept>>,
}

impl std::fmt::Debug for Doctor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Doctor").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Doctor {
    /// A doctor that finds and trusts gateways as calls do.
    #[must_use]
    pub fn new(tls: TlsConnector, resolver: Arc<SipResolver>) -> Self {
        Self { tls, resolver, kept: Arc::default() }
    }

    /// Begins an examination; it goes on by itself.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn examine(&self, patient: Patient) -> Result<Examination, Busy> {
        let key = (patient.trunk.account.clone(), patient.trunk.id.clone());
        let begun = Examination {
            id: Uuid::now_v7(),
            started_unix_ms: clock::unix_ms(),
            ended_unix_ms: None,
            steps: Vec::new(),
        };
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_examined = kept
                .examinations
                .get(&key)
                .and_then(VecDeque::back)
                .is_some_and(|last| last.ended_unix_ms.is_none());
            if is_examined {
                return Err(Busy::Trunk);
            }
            if kept.under_way >= AT_ONCE {
                return Err(Busy::Node);
            }
            kept.under_way += 1;
            kept.begin(key.clone(), begun.clone());
        }
        metrics::counter!("tandem_trunk_examinations_total").increment(1);
        let doctor = self.clone();
        tokio::spawn(async move {
            let record = Record { doctor: doctor.clone(), key, id: begun.id };
            examination::run(&doctor, &patient, &record).await;
        });
        Ok(begun)
    }

    /// The trunk's examinations, the latest first.
    #[must_use]
    pub fn of_trunk(&self, account: &str, trunk: &str) -> Vec<Examination> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.examinations.get(&(account.into(), trunk.into()));
        found.into_iter().flatten().rev().cloned().collect()
    }
}

impl Kept {
    fn begin(&mut self, key: (AccountId, TrunkId), examination: Examination) {
        self.order.retain(|known| *known != key);
        self.order.push_back(key.clone());
        while self.order.len() > KEPT_TRUNKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.examinations.remove(&oldest);
        }
        let of_trunk = self.examinations.entry(key).or_default();
        of_trunk.push_back(examination);
        while of_trunk.len() > KEPT_OF_TRUNK {
            of_trunk.pop_front();
        }
    }
}

/// Where the steps of one examination are written down. Dropping it closes the examination, however it ended.
struct Record {
    doctor: Doctor,
    key: (AccountId, TrunkId),
    id: Uuid,
}

impl Record {
    fn note(&self, step: Step) {
        self.change(|examination| examination.steps.push(step));
    }

    fn change(&self, change: impl FnOnce(&mut Examination)) {
        let mut kept = self.doctor.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.examinations.get_mut(&self.key);
        // It may have made room for others meanwhile.
        if let Some(examination) = found.and_then(|all| all.iter_mut().find(|one| one.id == self.id)) {
            change(examination);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.change(|examination| examination.ended_unix_ms = Some(clock::unix_ms()));
        self.doctor.kept.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
    }
}
