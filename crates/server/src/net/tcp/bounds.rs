//! How many connections there may be, in all and from one address, and what befell them.
//!
//! A place is taken before a connection is served and given back when its task ends, however it ends.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::signalling::NetInput;

/// The bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct TcpLimits {
    /// Connections at once.
    pub connections: usize,
    /// Accepted connections from one address at once.
    pub per_address: usize,
    /// Time from accepting a connection until something was sent on it.
    pub unproven: Duration,
    /// Time without a byte in either direction.
    pub idle: Duration,
    /// Time for an outbound connection to be accepted, and for one write.
    pub patience: Duration,
}

/// What befell the connections.
#[derive(Debug, Default)]
pub struct TcpCounters {
    /// Open now.
    pub open: AtomicUsize,
    /// Accepted.
    pub accepted: AtomicU64,
    /// Refused because there are too many.
    pub refused_total: AtomicU64,
    /// Refused because one address has too many.
    pub refused_address: AtomicU64,
    /// Closed because nothing worth an answer came in time.
    pub unproven: AtomicU64,
    /// Closed for idling.
    pub idle: AtomicU64,
    /// Closed because the peer did not read what it was sent.
    pub stalled: AtomicU64,
    /// TLS handshakes of peers that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Outbound connections that failed.
    pub failed: AtomicU64,
}

/// What all connection tasks share.
pub struct TcpShared {
    pub(super) limits: TcpLimits,
    pub(super) inputs: mpsc::Sender<NetInput>,
    pub(super) counters: Arc<TcpCounters>,
    pub(super) next: AtomicU64,
    pub(super) tls: TlsConnector,
    by_address: Mutex<BTreeMap<IpAddr, usize>>,
}

impl std::fmt::Debug for TcpShared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TcpShared").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl TcpShared {
    /// Shared state that reports to `inputs`; connections that we open over TLS are verified by `tls`.
    #[must_use]
    pub fn new(limits: TcpLimits, inputs: mpsc::Sender<NetInput>, tls: TlsConnector) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inputs,
            counters: Arc::default(),
            next: AtomicU64::new(1),
            tls,
            by_address: Mutex::default(),
        })
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> Arc<TcpCounters> {
        Arc::clone(&self.counters)
    }

    /// A place for one more connection, or `None` when a bound is reached. Only accepted connections count
    /// against an address: how many we open is for us to decide.
    pub(super) fn admit(self: &Arc<Self>, accepted_from: Option<IpAddr>) -> Option<Place> {
        if self.counters.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections {
            self.counters.open.fetch_sub(1, Ordering::Relaxed);
            self.counters.refused_total.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some(address) = accepted_from {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let held = by_address.entry(address).or_default();
            if *held >= self.limits.per_address {
                self.counters.open.fetch_sub(1, Ordering::Relaxed);
                self.counters.refused_address.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            *held += 1;
        }
        Some(Place { shared: Arc::clone(self), address: accepted_from })
    }
}

/// One connection's place among the bounds; leaving gives it back.
pub(super) struct Place {
    pub(super) shared: Arc<TcpShared>,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.counters.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut by_address = self.shared.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = by_address.get_mut(&address) {
                *held -= 1;
                if *held == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}
