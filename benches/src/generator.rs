//! The callers of a load run: one thread that paces all calls in slots of one millisecond, sends
//! stamped audio at 50 packets a second and call, and judges what comes back.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use tandem_media::srtp::{Inbound, Outbound, SrtpKeys};

use crate::histogram::Histogram;
use crate::stamp::{Clock, FRAME_BYTES, Stamp};

const RTP_HEADER_BYTES: usize = 12;
const SLOTS: u64 = 20;

/// One caller's media.
#[derive(Debug)]
pub struct Caller {
    socket: UdpSocket,
    frame: u32,
    echoed_next: u32,
    last_sequence: Option<u16>,
    last_received: Option<Duration>,
    secured: Option<Box<(Outbound, Inbound)>>,
}

/// What the callers saw while they were judged.
#[derive(Debug, Clone, Default)]
pub struct CallerReport {
    /// Packets sent.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
    /// Received packets that held a stamped frame.
    pub stamped: u64,
    /// Stamped frames that never came back, seen as jumps of the frame number.
    pub lost: u64,
    /// Stamped frames that came twice or out of order.
    pub repeated: u64,
    /// Frames whose audio was not the audio of their call and number.
    pub damaged: u64,
    /// Packets whose sequence number did not follow the last one.
    pub sequence_breaks: u64,
    /// Packets that came more than 30 ms after the one before.
    pub late: u64,
    /// Slots in which the generator itself was more than 5 ms behind.
    pub own_lateness: u64,
    /// From the agent's send to the caller's receipt; the egress clock's wait of up to a frame is in it.
    pub way_out: Histogram,
}

impl CallerReport {
    /// Counts another stretch in.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.stamped += other.stamped;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.damaged += other.damaged;
        self.sequence_breaks += other.sequence_breaks;
        self.late += other.late;
        self.own_lateness += other.own_lateness;
        self.way_out.add(&other.way_out);
    }
}

/// All callers of a run.
#[derive(Debug)]
pub struct Generator {
    poll: Poll,
    callers: Vec<Caller>,
    clock: Clock,
    report: CallerReport,
}

impl Generator {
    /// Opens a socket for each caller on 127.0.0.1.
    ///
    /// # Panics
    /// When the machine has not enough descriptors or ports.
    #[must_use]
    pub fn new(calls: usize, clock: Clock) -> Self {
        let poll = Poll::new().expect("a poll");
        let callers = (0..calls)
            .map(|index| {
                let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a port");
                poll.registry().register(&mut socket, Token(index), Interest::READABLE).expect("registered");
                Caller {
                    socket,
                    frame: 0,
                    echoed_next: 0,
                    last_sequence: None,
                    last_received: None,
                    secured: None,
                }
            })
            .collect();
        Self { poll, callers, clock, report: CallerReport::default() }
    }

    /// The addresses the callers announce in their SDP.
    ///
    /// # Panics
    /// When a socket has lost its address.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.callers.iter().map(|caller| caller.socket.local_addr().expect("a bound socket")).collect()
    }

    /// Tells a caller where its audio goes, and by which keys if it is encrypted.
    ///
    /// # Panics
    /// When there is no such caller.
    pub fn connect(&mut self, call: usize, target: SocketAddr, keys: Option<SrtpKeys>) {
        self.callers[call].secured =
            keys.map(|keys| Box::new((Outbound::new(keys.local), Inbound::new(keys.remote))));
        self.callers[call].socket.connect(target).expect("a loopback address");
    }

    /// Plays all calls for a while and says what was seen in it; earlier counts are forgotten.
    pub fn run(&mut self, duration: Duration) -> CallerReport {
        self.report = CallerReport::default();
        let mut events = Events::with_capacity(1_024);
        let start = self.clock.now();
        let mut slot: u64 = 0;
        while self.clock.now() - start < duration {
            let due = start + Duration::from_millis(slot);
            let now = self.clock.now();
            if now >= due {
                self.report.own_lateness += u64::from(now - due > Duration::from_millis(5));
                self.send_slot(slot % SLOTS);
                slot += 1;
                // Packets that wait are read even when the sender is behind.
                self.receive(&mut events, Duration::ZERO);
            } else {
                self.receive(&mut events, due - now);
            }
        }
        self.report.clone()
    }

    fn send_slot(&mut self, slot: u64) {
        let mut sealed = Vec::with_capacity(2_048);
        let mut packet = [0; RTP_HEADER_BYTES + FRAME_BYTES];
        for index in (slot as usize..self.callers.len()).step_by(SLOTS as usize) {
            let caller = &mut self.callers[index];
            packet[0] = 0x80;
            packet[1] = if caller.frame == 0 { 0x80 } else { 0 };
            packet[2..4].copy_from_slice(&(caller.frame as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&caller.frame.wrapping_mul(FRAME_BYTES as u32).to_be_bytes());
            packet[8..12].copy_from_slice(&(0x1000_0000 + index as u32).to_be_bytes());
            let stamp = Stamp {
                call: index as u32,
                frame: caller.frame,
                sent: self.clock.now(),
                echoed: Duration::ZERO,
            };
            let frame = (&mut packet[RTP_HEADER_BYTES..]).try_into().expect("160 bytes");
            stamp.write(frame);
            caller.frame = caller.frame.wrapping_add(1);
            let sent = match &mut caller.secured {
                None => caller.socket.send(&packet),
                Some(secured) => {
                    sealed.clear();
                    sealed.extend_from_slice(&packet);
                    assert!(secured.0.protect_rtp(0, &mut sealed), "a packet of ours");
                    caller.socket.send(&sealed)
                }
            };
            match sent {
                Ok(_) => self.report.sent += 1,
                // The server closed the port: the loss shows in what comes back.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("caller {index}: {error}"),
            }
        }
    }

    fn receive(&mut self, events: &mut Events, wait: Duration) {
        match self.poll.poll(events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) => panic!("the generator's poll: {error}"),
        }
        let (mut packet, mut opened) = ([0; 2_048], Vec::with_capacity(2_048));
        for event in events.iter() {
            let index = event.token().0;
            let caller = &mut self.callers[index];
            loop {
                match caller.socket.recv(&mut packet) {
                    Ok(length) => {
                        let mut packet = &packet[..length];
                        if let Some(secured) = &mut caller.secured {
                            // What does not open, reports among it, did not come.
                            if secured.1.open_rtp(packet, &mut opened).is_err() {
                                continue;
                            }
                            packet = &opened;
                        }
                        judge(caller, index, packet, self.clock.now(), &mut self.report);
                    }
                    // The server closed the port; what had come before is still there.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
        }
    }
}

fn judge(caller: &mut Caller, index: usize, packet: &[u8], now: Duration, report: &mut CallerReport) {
    if packet.len() < RTP_HEADER_BYTES || packet[1] & 0x7f >= 72 {
        return;
    }
    report.received += 1;
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    let follows = caller.last_sequence.is_none_or(|last| last.wrapping_add(1) == sequence);
    report.sequence_breaks += u64::from(!follows);
    caller.last_sequence = Some(sequence);
    let gap = caller.last_received.map(|last| now - last);
    report.late += u64::from(gap.is_some_and(|gap| gap > Duration::from_millis(30)));
    caller.last_received = Some(now);

    let frame = &packet[RTP_HEADER_BYTES..];
    let Some(stamp) = Stamp::read(frame) else { return };
    report.stamped += 1;
    report.way_out.record(now.saturating_sub(stamp.echoed));
    // One stream in twenty is looked at byte by byte.
    let is_foreign = stamp.call as usize != index;
    report.damaged += u64::from(is_foreign || index.is_multiple_of(20) && !stamp.is_intact(frame));
    match stamp.frame.checked_sub(caller.echoed_next) {
        Some(missed) => {
            report.lost += u64::from(if caller.echoed_next == 0 { 0 } else { missed });
            caller.echoed_next = stamp.frame + 1;
        }
        None => report.repeated += 1,
    }
}
