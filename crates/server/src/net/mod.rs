//! Sockets of the signalling side: what arrives is stamped with its flow and handed on in order.

pub mod fence;
pub mod holder;
pub mod http;
pub mod listen;
pub mod local_address;
pub mod post;
pub mod resolve;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod ws_connect;
