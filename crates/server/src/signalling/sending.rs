//! Carries out what the engine wants sent: over a datagram socket or a connection, to an address or a name.
//!
//! A message that cannot be sent is reported to the engine, which knows what depends on it. Refuses to choose a
//! target: only a name is turned into an address here.

use std::{net::SocketAddr, sync::atomic::Ordering};

use tandem_call::{Input, location::Wanted};
use tandem_sip::{Target, Transmit, TransmitId, Transport};

use super::{Signalling, ways::Asker};
use crate::net::tcp::{Outgoing, Peer};

impl Signalling {
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
                let wanted = Wanted { transport: Some(transport), host, port };
                self.locate(wanted, Asker::Message(outgoing));
            }
            Target::Close(flow) => self.parts.connections.close(flow),
        }
    }

    /// `name` is the one that led to the address: over TLS the peer has to prove that it bears it.
    pub(super) fn send_to(
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

    pub(super) fn transmit_failed(&mut self, id: TransmitId) {
        self.gauges.transmit_failures.fetch_add(1, Ordering::Relaxed);
        self.engine(Input::TransmitFailed { transmit: id });
    }
}
