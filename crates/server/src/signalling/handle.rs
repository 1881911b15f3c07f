//! What the rest of the process holds of signalling: a handle to ask it something, and what it counts.
//!
//! Refuses to reach into the engine: whatever is asked waits its turn like everything else.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tandem_call::{Census, Dial};
use tokio::sync::{mpsc, oneshot};

use crate::dialling::Placed;

/// What the rest of the process asks of signalling.
#[derive(Debug)]
pub(super) enum Control {
    Drain { until: Instant, begun: oneshot::Sender<()> },
    Place { dial: Box<Dial>, done: oneshot::Sender<Placed> },
    Stop,
}

/// Signalling has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Ended;

/// Speaks to the signalling task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SignallingHandle {
    pub(super) control: mpsc::Sender<Control>,
    pub(super) gauges: Arc<Gauges>,
}

impl SignallingHandle {
    /// Refuses new calls from now on, begins to take registrations back, and ends the calls that remain at `until`.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn drain(&self, until: Instant) -> Result<(), Ended> {
        let (begun, has_begun) = oneshot::channel();
        self.control.send(Control::Drain { until, begun }).await.map_err(|_| Ended)?;
        has_begun.await.map_err(|_| Ended)
    }

    /// Places a call, and returns once it is over or cannot be placed now.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn place(&self, dial: Dial) -> Result<Placed, Ended> {
        let (done, placed) = oneshot::channel();
        self.control.send(Control::Place { dial: Box::new(dial), done }).await.map_err(|_| Ended)?;
        placed.await.map_err(|_| Ended)
    }

    /// Ends the task.
    pub async fn stop(&self) {
        let _ = self.control.send(Control::Stop).await;
    }

    /// Calls open at this moment.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.gauges.calls.load(Ordering::Relaxed)
    }

    /// Registrations that registrars are still to be told to forget.
    #[must_use]
    pub fn unregistering(&self) -> usize {
        self.gauges.unregistering.load(Ordering::Relaxed)
    }

    /// Whether new calls are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.gauges.is_draining.load(Ordering::Relaxed)
    }

    /// What signalling counts.
    #[must_use]
    pub fn gauges(&self) -> Arc<Gauges> {
        Arc::clone(&self.gauges)
    }
}

/// A copy of what the engine counted and holds.
#[derive(Debug, Clone, Default)]
pub struct EngineCounts {
    /// The engine.
    pub calls: tandem_call::Counters,
    /// Its SIP endpoint.
    pub sip: tandem_sip::Counters,
    /// What both hold.
    pub held: Census,
}

/// What signalling counts for others to read.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Calls open now, those included whose record is not written yet.
    pub calls: AtomicUsize,
    /// Registrations being taken back.
    pub unregistering: AtomicUsize,
    /// Calls whose agent is being dialled.
    pub dialling: AtomicUsize,
    /// Inputs handed to the engine.
    pub inputs: AtomicU64,
    /// Inputs whose working ended in a fault of ours.
    pub panics: AtomicU64,
    /// Messages that could not be sent.
    pub transmit_failures: AtomicU64,
    /// Calls that ended, each with its record.
    pub records: AtomicU64,
    /// Verdicts given.
    pub verdicts: AtomicU64,
    /// Longest time one turn of the task took, in microseconds.
    pub longest_turn_us: AtomicU64,
    /// What the engine counted and holds; copied now and then.
    pub engine: Mutex<EngineCounts>,
    /// New calls are refused.
    pub is_draining: AtomicBool,
}
