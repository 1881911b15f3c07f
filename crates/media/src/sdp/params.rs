//! What a negotiation comes to: the parameters an RTP session runs by. No text is read or written here.

use std::net::SocketAddr;

use crate::codec::Codec;
use crate::ice::IceCredentials;
use crate::srtp::SrtpKeys;

/// Which way media flows, seen from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We send only.
    SendOnly,
    /// We receive only: the peer holds us, or plays to us.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// From whether we send and whether we receive.
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether this side sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether this side receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other side: send-only is its receive-only.
    pub const fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// What both allow.
    pub const fn and(self, other: Self) -> Self {
        Self::new(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The SDP attribute's name.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The direction an SDP attribute of this name stands for.
    pub fn from_attribute(name: &[u8]) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|direction| name.eq_ignore_ascii_case(direction.attribute().as_bytes()))
    }
}

/// The negotiated telephone-event format (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Its dynamic payload type, as the offer numbered it.
    pub payload_type: u8,
    /// Its RTP clock in Hz: 8000 beside G.711, but 16000 is met.
    pub clock_hz: u32,
}

/// What offer and answer agreed on for the one audio stream of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaParameters {
    /// Where the peer wants RTP. The address is unspecified when the peer gave none that can be used: a
    /// hold in the old style (`c=0.0.0.0`), or a host name. Then only latching can find the peer.
    pub remote: SocketAddr,
    /// Where the peer wants RTCP when it says so (RFC 3605); otherwise it is the RTP port plus one.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share one port (RFC 5761).
    pub rtcp_mux: bool,
    /// The codec we send, whose form of audio is the one in which the agent's side sees the call.
    pub codec: Codec,
    /// Payload type of [`MediaParameters::codec`].
    pub payload_type: u8,
    /// Other codecs with their payload types, when the peer may send those too.
    pub alternatives: [Option<(Codec, u8)>; 2],
    /// The format of DTMF events, if agreed.
    pub telephone_event: Option<TelephoneEvent>,
    /// Milliseconds of audio in each packet we send: 10, 20, 30, 40, 50 or 60.
    pub ptime_ms: u8,
    /// Which way media flows, seen from us.
    pub direction: Direction,
    /// The keys of both directions when RTP and RTCP are encrypted.
    pub srtp: Option<SrtpKeys>,
    /// Our ICE credentials when the answer took part in ICE.
    pub ice: Option<IceCredentials>,
}

impl MediaParameters {
    /// Parameters of a plain stream of `codec` to `remote`: its static payload type, 20 ms, both ways, no DTMF.
    pub fn plain(remote: SocketAddr, codec: impl Into<Codec>) -> Self {
        let codec = codec.into();
        Self {
            remote,
            remote_rtcp: None,
            rtcp_mux: false,
            codec,
            payload_type: codec.payload_type(),
            alternatives: [None; 2],
            telephone_event: None,
            ptime_ms: 20,
            direction: Direction::SendRecv,
            srtp: None,
            ice: None,
        }
    }

    /// The codec a received payload type stands for, if it is one of the negotiated ones.
    pub fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        if payload_type == self.payload_type {
            return Some(self.codec);
        }
        let mut others = self.alternatives.iter().flatten();
        others.find(|(_, number)| *number == payload_type).map(|(codec, _)| *codec)
    }

    /// Bytes of payload in each packet we send.
    pub fn frame_bytes(&self) -> usize {
        usize::from(self.ptime_ms) * 8
    }
}
