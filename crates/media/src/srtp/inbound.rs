//! What the peer sends: opened under its master key, per source with its own rollover counter and replay windows.
//!
//! Nothing of a source is kept before a packet of it proved itself, so strangers cost a MAC and no memory. After a new key
//! was agreed on, packets under the one before are taken for a while: RFC 4568 section 7.1.4 has both sides "prepared to
//! receive media according to both the old and new offer/answer exchange", and a new key begins with counters of zero.
//!
//! RFC 3711 sections 3.3 (RTP), 3.4 (RTCP), 3.3.2 (replay); RFC 4568 sections 6.1 (lifetime, key identifier), 6.4.

use super::index::{Window, guess};
use super::outbound::rtp_facts;
use super::transform::{RTCP_CLEAR_OCTETS, RTCP_INDEX_OCTETS, Transform};
use super::{MasterKey, Suite};

/// Sources of one peer whose windows are kept. Each transfer or music on hold behind the peer may bring another; of more,
/// the one that was silent longest is forgotten.
const SOURCES_MAX: usize = 16;
/// Packets under the former key that are still taken once one under the new key came.
const STRAGGLERS: u32 = 50;

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Its tag does not match: in the clear, under another key, changed on the way, or no packet at all.
    NotAuthentic,
    /// It came before, or is too old to know.
    Replayed,
    /// The key was used for as many packets as its owner allowed.
    Expired,
}

/// Opens the peer's RTP and RTCP.
#[derive(Debug)]
pub struct Inbound {
    current: Keyed,
    former: Option<(Box<Keyed>, u32)>,
}

/// One master key and what was seen under it.
#[derive(Debug)]
struct Keyed {
    master: MasterKey,
    rtp: Transform,
    rtcp: Transform,
    sources: Vec<Source>,
    packets: u64,
    compounds: u64,
    /// Counts up with every packet, to tell which source was silent longest.
    clock: u64,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    rtp: Option<Window>,
    rtcp: Option<Window>,
    heard: u64,
}

impl Inbound {
    /// A context under the peer's key; its counters are zero.
    pub fn new(master: MasterKey) -> Self {
        Self { current: Keyed::new(master), former: None }
    }

    /// The key that counts now.
    pub fn master(&self) -> &MasterKey {
        &self.current.master
    }

    /// The suite.
    pub fn suite(&self) -> Suite {
        self.current.master.suite()
    }

    /// Takes a new key; the same one again changes nothing.
    pub fn change(&mut self, master: MasterKey) {
        if master != self.current.master {
            let former = std::mem::replace(&mut self.current, Keyed::new(master));
            self.former = Some((Box::new(former), STRAGGLERS));
        }
    }

    /// Opens a RTP packet into `clear`, which is emptied first.
    pub fn open_rtp(&mut self, packet: &[u8], clear: &mut Vec<u8>) -> Result<(), Rejected> {
        let opened = self.current.open_rtp(packet, clear);
        self.or_former(opened, |former| former.open_rtp(packet, clear))
    }

    /// Opens a SRTCP packet into `clear`, which is emptied first.
    pub fn open_rtcp(&mut self, packet: &[u8], clear: &mut Vec<u8>) -> Result<(), Rejected> {
        let opened = self.current.open_rtcp(packet, clear);
        self.or_former(opened, |former| former.open_rtcp(packet, clear))
    }

    fn or_former(
        &mut self,
        opened: Result<(), Rejected>,
        open: impl FnOnce(&mut Keyed) -> Result<(), Rejected>,
    ) -> Result<(), Rejected> {
        let (Err(Rejected::NotAuthentic), Some((former, left))) = (opened, &mut self.former) else {
            return opened;
        };
        open(former)?;
        if self.current.packets > 0 {
            *left -= 1;
            if *left == 0 {
                self.former = None;
            }
        }
        Ok(())
    }
}

impl Keyed {
    fn new(master: MasterKey) -> Self {
        Self {
            rtp: Transform::rtp(&master),
            rtcp: Transform::rtcp(&master),
            master,
            sources: Vec::new(),
            packets: 0,
            compounds: 0,
            clock: 0,
        }
    }

    fn open_rtp(&mut self, packet: &[u8], clear: &mut Vec<u8>) -> Result<(), Rejected> {
        let (sequence, ssrc, header) = rtp_facts(packet).ok_or(Rejected::NotAuthentic)?;
        if self.packets >= self.master.lifetime {
            return Err(Rejected::Expired);
        }
        let window = self.sources.iter().find(|source| source.ssrc == ssrc).and_then(|source| source.rtp);
        let index = match window {
            Some(window) => {
                let index = guess(window.highest(), sequence).ok_or(Rejected::Replayed)?;
                if !window.is_new(index) {
                    return Err(Rejected::Replayed);
                }
                self.try_rtp(packet, (ssrc, index, header), clear)?;
                index
            }
            None => self.begin_rtp(packet, (ssrc, sequence, header), clear)?,
        };
        self.packets += 1;
        let source = self.source(ssrc);
        match &mut source.rtp {
            Some(window) => window.note(index),
            None => source.rtp = Some(Window::begun_at(index)),
        }
        Ok(())
    }

    /// The first packet heard of a source. Its counter began at zero (RFC 4568 section 6.4), but a sender that began high
    /// may have rolled over before anything of it came through.
    fn begin_rtp(
        &mut self,
        packet: &[u8],
        (ssrc, sequence, header): (u32, u16, usize),
        clear: &mut Vec<u8>,
    ) -> Result<u64, Rejected> {
        let index = u64::from(sequence);
        match self.try_rtp(packet, (ssrc, index, header), clear) {
            Err(Rejected::NotAuthentic) if sequence < 0x8000 => {
                let index = index | 1 << 16;
                self.try_rtp(packet, (ssrc, index, header), clear)?;
                Ok(index)
            }
            outcome => outcome.map(|()| index),
        }
    }

    fn try_rtp(
        &self,
        packet: &[u8],
        (ssrc, index, header): (u32, u64, usize),
        clear: &mut Vec<u8>,
    ) -> Result<(), Rejected> {
        self.copy_without_mki(packet, self.rtp.tag_octets(), clear)?;
        self.rtp.unprotect_rtp(ssrc, index, header, clear).map_err(|_| Rejected::NotAuthentic)
    }

    /// "the SRTCP authentication tag MUST be 80 bits" also where that of RTP has 32 (RFC 4568 section 6.2.2). libre, and so
    /// baresip, signs its RTCP with 32 there all the same: it is believed as much as its RTP is.
    fn open_rtcp(&mut self, packet: &[u8], clear: &mut Vec<u8>) -> Result<(), Rejected> {
        let (tag, short) = (self.rtcp.tag_octets(), self.master.suite().rtp_tag_octets());
        match self.open_rtcp_tagged(packet, tag, clear) {
            Err(Rejected::NotAuthentic) if short < tag => self.open_rtcp_tagged(packet, short, clear),
            outcome => outcome,
        }
    }

    fn open_rtcp_tagged(&mut self, packet: &[u8], tag: usize, clear: &mut Vec<u8>) -> Result<(), Rejected> {
        if self.compounds >= self.master.lifetime.min(1 << 31) {
            return Err(Rejected::Expired);
        }
        let is_aead = self.master.suite().is_aead();
        // The index word stands last under GCM, and before the tag otherwise.
        self.copy_without_mki(packet, if is_aead { 0 } else { tag }, clear)?;
        let behind = if is_aead { 0 } else { tag };
        let at = clear.len().checked_sub(behind + RTCP_INDEX_OCTETS).ok_or(Rejected::NotAuthentic)?;
        if at < RTCP_CLEAR_OCTETS {
            return Err(Rejected::NotAuthentic);
        }
        let word = u32::from_be_bytes([clear[at], clear[at + 1], clear[at + 2], clear[at + 3]]);
        let ssrc = u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]]);
        clear.copy_within(at + RTCP_INDEX_OCTETS.., at);
        clear.truncate(at + behind);
        let index = u64::from(word & !(1 << 31));
        let window = self.sources.iter().find(|source| source.ssrc == ssrc).and_then(|source| source.rtcp);
        if window.is_some_and(|window| !window.is_new(index)) {
            return Err(Rejected::Replayed);
        }
        self.rtcp.unprotect_rtcp(ssrc, word, tag, clear).map_err(|_| Rejected::NotAuthentic)?;
        self.compounds += 1;
        let source = self.source(ssrc);
        match &mut source.rtcp {
            Some(window) => window.note(index),
            None => source.rtcp = Some(Window::begun_at(index)),
        }
        Ok(())
    }

    /// Copies a packet without its key identifier, which stands before the last `behind` octets: before the tag, but behind
    /// it where the cipher makes it (RFC 7714 sections 8.2 and 9.2).
    fn copy_without_mki(&self, packet: &[u8], tag: usize, clear: &mut Vec<u8>) -> Result<(), Rejected> {
        clear.clear();
        let Some(mki) = self.master.mki else {
            clear.extend_from_slice(packet);
            return Ok(());
        };
        let behind = if self.master.suite().is_aead() { 0 } else { tag };
        let octets = usize::from(mki.octets);
        let at = packet.len().checked_sub(behind + octets).ok_or(Rejected::NotAuthentic)?;
        if !mki.is(&packet[at..at + octets]) {
            return Err(Rejected::NotAuthentic);
        }
        clear.extend_from_slice(&packet[..at]);
        clear.extend_from_slice(&packet[at + octets..]);
        Ok(())
    }

    /// The state of a source that proved itself.
    fn source(&mut self, ssrc: u32) -> &mut Source {
        self.clock += 1;
        let at = match self.sources.iter().position(|source| source.ssrc == ssrc) {
            Some(at) => at,
            None => {
                let fresh = Source { ssrc, rtp: None, rtcp: None, heard: 0 };
                if self.sources.len() < SOURCES_MAX {
                    self.sources.push(fresh);
                    self.sources.len() - 1
                } else {
                    let silent = (0..SOURCES_MAX).min_by_key(|at| self.sources[*at].heard).unwrap_or(0);
                    self.sources[silent] = fresh;
                    silent
                }
            }
        };
        self.sources[at].heard = self.clock;
        &mut self.sources[at]
    }
}
