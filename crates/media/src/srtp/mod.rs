//! SRTP and SRTCP: what leaves is encrypted and authenticated, what comes is taken only when it proves itself.
//!
//! Keys come from the SDP (`crate::sdp::crypto`, RFC 4568); this folder knows only keys and packets. The ciphers and MACs are
//! libraries' ([`transform`] names them); the layout of the packets, the packet index with its rollover counter and the
//! replay windows are here. [`Outbound`] protects what we send, [`Inbound`] opens what the peer sends. Neither allocates
//! per packet.
//!
//! RFC 3711 (SRTP), RFC 6188 (AES-256 in counter mode), RFC 7714 (AES-GCM). Not spoken: the F8 cipher, AES-192, key
//! derivation rates other than zero, SRTCP or SRTP left in the clear.

mod inbound;
mod index;
mod key;
mod outbound;
mod suite;
mod transform;

pub use inbound::{Inbound, Rejected};
pub use key::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Mki, SrtpKeys};
pub use outbound::Outbound;
pub use suite::Suite;
