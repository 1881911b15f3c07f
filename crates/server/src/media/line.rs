//! One leg's media sockets: RTP and RTCP, connected to the peer once it is known where its audio comes from.
//!
//! A connected socket costs a fifth less per packet, and the kernel keeps strangers out. Only a peer that sends from where
//! it receives can be connected to. Refuses to know what packets mean.

use std::{io, net::SocketAddr};

use super::{counters::MediaCounters, ports::PortPair};

/// Largest media packet: a 60 ms packet of 16-bit audio at 8 kHz is a third of it. One byte more is kept to
/// tell a larger one.
pub(super) const PACKET_BYTES: usize = 2_048;

/// The sockets of one leg.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) ports: PortPair,
    /// RTCP comes and goes on the RTP port (RFC 5761).
    is_multiplexed: bool,
    /// The peer's ICE may check from, and go on from, other addresses: the RTP socket stays open to them.
    does_ice: bool,
    /// Where the bridge says the peer's RTP comes from.
    latched: Option<SocketAddr>,
    /// The peer the RTP socket is connected to.
    connected: Option<SocketAddr>,
}

/// What came from a socket.
pub(super) enum Datagram {
    /// RTP of this length, in the buffer.
    Rtp(usize, SocketAddr),
    /// RTCP of this length, in the buffer.
    Rtcp(usize, SocketAddr),
    /// Something that is no media packet, or an error that passes: counted.
    Nothing,
    /// The socket is empty.
    Blocked,
}

impl Line {
    pub(super) fn new(ports: PortPair, is_multiplexed: bool, does_ice: bool) -> Self {
        Self { ports, is_multiplexed, does_ice, latched: None, connected: None }
    }

    /// The RTP port.
    pub(super) fn port(&self) -> u16 {
        self.ports.address.port()
    }

    /// Other media was negotiated: it may come from elsewhere, so the socket is open to all again, for the bridge to judge.
    pub(super) fn renegotiated(&mut self, is_multiplexed: bool, does_ice: bool) {
        self.is_multiplexed = is_multiplexed;
        self.does_ice = does_ice;
        if self.connected.take().is_some() {
            // Fails only for a socket that cannot be used at all.
            let _ = rustix::net::connect_unspec(&self.ports.rtp);
        }
    }

    pub(super) fn latched(&mut self, source: SocketAddr) {
        self.latched = Some(source);
    }

    /// The next datagram of either socket.
    pub(super) fn receive(&self, is_rtcp: bool, buffer: &mut [u8], counters: &MediaCounters) -> Datagram {
        let socket = if is_rtcp { &self.ports.rtcp } else { &self.ports.rtp };
        match socket.recv_from(buffer) {
            Ok((length, _)) if length > PACKET_BYTES => {
                counters.oversized.add(1);
                Datagram::Nothing
            }
            Ok((length, source)) if is_rtcp || (self.is_multiplexed && is_rtcp_packet(&buffer[..length])) => {
                counters.rtcp_received.add(1);
                Datagram::Rtcp(length, source)
            }
            Ok((length, source)) => {
                counters.rtp_received.add(1);
                Datagram::Rtp(length, source)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Datagram::Blocked,
            // An ICMP error of a packet we sent.
            Err(_) => {
                counters.send_errors.add(1);
                Datagram::Nothing
            }
        }
    }

    pub(super) fn send_rtp(&mut self, to: SocketAddr, packet: &[u8], counters: &MediaCounters) {
        let may_connect = self.connected.is_none() && self.latched == Some(to) && !self.does_ice;
        if may_connect && self.ports.rtp.connect(to).is_ok() {
            self.connected = Some(to);
        }
        let sent = if self.connected == Some(to) {
            self.ports.rtp.send(packet)
        } else {
            self.ports.rtp.send_to(packet, to)
        };
        match sent {
            Ok(_) => counters.rtp_sent.add(1),
            Err(_) => counters.send_errors.add(1),
        }
    }

    pub(super) fn send_rtcp(&self, to: SocketAddr, packet: &[u8], counters: &MediaCounters) {
        let socket = if self.is_multiplexed { &self.ports.rtp } else { &self.ports.rtcp };
        match socket.send_to(packet, to) {
            Ok(_) => counters.rtcp_sent.add(1),
            Err(_) => counters.send_errors.add(1),
        }
    }
}

/// RFC 5761 section 4: RTCP packet types lie where a RTP packet would have its marker and payload types 64
/// to 95.
fn is_rtcp_packet(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..=223).contains(kind))
}
