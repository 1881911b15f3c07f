//! SRTP: a packet of 20 ms protected, and one protected and opened again by the other side. Opening cannot be repeated by
//! itself, for no packet is taken twice.

use tandem_media::rtp::packet::Header;
use tandem_media::srtp::{Inbound, KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Outbound, Suite};

use super::Step;

struct Path {
    outbound: Outbound,
    inbound: Inbound,
    sequence: u16,
    packet: Vec<u8>,
    clear: Vec<u8>,
}

impl Path {
    /// Between two sides that use the suite of this name.
    fn of(suite: &str) -> Self {
        let (suite, _) = Suite::from_name(suite.as_bytes()).expect("a suite of ours");
        let key = MasterKey::ours(suite, &KeyMaterial([7; MASTER_OCTETS_MAX]));
        let (packet, clear) = (Vec::with_capacity(2_048), Vec::with_capacity(2_048));
        Self { outbound: Outbound::new(key), inbound: Inbound::new(key), sequence: 0, packet, clear }
    }

    fn protect(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.packet.clear();
        let (sequence, timestamp) = (self.sequence, u32::from(self.sequence) * 160);
        let header = Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 9 };
        header.write(&[0x55; 160], &mut self.packet);
        assert!(self.outbound.protect_rtp(0, &mut self.packet));
    }

    fn open(&mut self) {
        assert_eq!(self.inbound.open_rtp(&self.packet, &mut self.clear), Ok(()));
    }
}

pub(super) fn protect(suite: &str) -> Step {
    let mut path = Path::of(suite);
    Box::new(move || path.protect())
}

pub(super) fn protect_and_open(suite: &str) -> Step {
    let mut path = Path::of(suite);
    Box::new(move || {
        path.protect();
        path.open();
    })
}
