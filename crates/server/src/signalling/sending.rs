//! Carries out what the engine wants sent: over a datagram socket or a connection, to an address or a name.
//!
//! A message that cannot be sent is reported to the engine, which knows what depends on it. Refuses to choose a
//! target: only a name is turned into an address here.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use tandem_call::Input;
use tandem_sip::{Target, Transmit, TransmitId, Transport};

use super::Signalling;
use crate::{
    clock,
    net::{
        resolve,
        tcp::{Outgoing, Peer},
    },
};

/// Names looked up at once.
const LOOKUPS: usize = 64;
/// How long a look-up may take.
const LOOKUP_TIME: Duration = Duration::from_secs(3);
/// How long an answer of the resolver is used, and how many are kept.
const LOOKUP_KEPT: (Duration, usize) = (Duration::from_secs(30), 1_024);

/// A look-up that is over, and the message that waits for it.
pub(super) struct Resolved {
    transport: Transport,
    name: (String, u16),
    addresses: Vec<SocketAddr>,
    waiting: Outgoing,
}

impl Signalling {
    pub(super) fn resolved(&mut self, resolved: Resolved) {
        let Resolved { transport, name, addresses, waiting } = resolved;
        self.lookups -= 1;
        let first = addresses.first().copied();
        let host = name.0.clone();
        if !addresses.is_empty() {
            if self.names.len() >= LOOKUP_KEPT.1 {
                self.names.clear();
            }
            self.names.insert(name, (clock::now() + LOOKUP_KEPT.0, addresses));
        }
        match first {
            Some(remote) => self.send_to(transport, None, (remote, Some(&host)), waiting),
            None => self.transmit_failed(waiting.id),
        }
    }

    pub(super) fn transmit(&mut self, transmit: Transmit) {
        let Transmit { id, target, payload } = transmit;
        let outgoing = Outgoing { id, payload };
        match target {
            Target::Flow(flow) if flow.connection != 0 => {
                if self.parts.connections.send(flow, outgoing).is_err() {
                    self.transmit_failed(id);
                }
            }
            Target::Flow(flow) => {
                self.send_to(flow.transport, Some(flow.local), (flow.remote, None), outgoing);
            }
            Target::Address { transport, local, remote, name } => {
                self.send_to(transport, local, (remote, name.as_deref()), outgoing);
            }
            Target::Name { transport, host, port } => {
                let port = port.unwrap_or_else(|| transport.default_port());
                self.send_to_name(transport, (host, port), outgoing);
            }
            Target::Close(flow) => self.parts.connections.close(flow),
        }
    }

    /// `name` is the one that led to the address: over TLS the peer has to prove that it bears it.
    fn send_to(
        &mut self,
        transport: Transport,
        local: Option<SocketAddr>,
        (remote, name): (SocketAddr, Option<&str>),
        outgoing: Outgoing,
    ) {
        let id = outgoing.id;
        let sent = match transport {
            Transport::Udp => self.parts.udp.send(local, remote, &outgoing.payload).is_ok(),
            Transport::Tcp => {
                self.parts.connections.send_to(Peer { transport, remote, name: None }, outgoing).is_ok()
            }
            Transport::Tls => {
                let peer = Peer { transport, remote, name: name.map(str::to_owned) };
                self.parts.connections.send_to(peer, outgoing).is_ok()
            }
        };
        if !sent {
            self.transmit_failed(id);
        }
    }

    fn send_to_name(&mut self, transport: Transport, name: (String, u16), outgoing: Outgoing) {
        if let Some((until, addresses)) = self.names.get(&name)
            && *until > clock::now()
            && let Some(remote) = addresses.first().copied()
        {
            self.send_to(transport, None, (remote, Some(&name.0)), outgoing);
            return;
        }
        if self.lookups >= LOOKUPS {
            self.transmit_failed(outgoing.id);
            return;
        }
        self.lookups += 1;
        let results = self.resolved.0.clone();
        tokio::spawn(async move {
            let addresses = resolve::lookup(&name.0, name.1, LOOKUP_TIME).await.unwrap_or_default();
            let _ = results.send(Resolved { transport, name, addresses, waiting: outgoing }).await;
        });
    }

    pub(super) fn transmit_failed(&mut self, id: TransmitId) {
        self.gauges.transmit_failures.fetch_add(1, Ordering::Relaxed);
        self.engine(Input::TransmitFailed { transmit: id });
    }
}
