//! The steady state allocates nothing: after the first seconds of a call no packet in or out, lost or
//! swapped, no made-up frame, no event and no report takes memory.

use std::time::{Duration, Instant};

use tandem_media::playout::{FlushPolicy, MarkId, Playout};
use tandem_media::rtp::packet::Header;
use tandem_media::rtp::rtcp;
use tandem_media::{Codec, Law, MediaParameters, Resampler, Session, TelephoneEvent};

use crate::line::{SSRC, peer, peer_rtcp, session_with};

/// One call at 50 packets a second each way over a poor network.
struct Call {
    session: Session,
    playout: Playout,
    now: Instant,
    number: u32,
    datagram: Vec<u8>,
    out: Vec<u8>,
    frames: u64,
    sent: u64,
}

impl Call {
    fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an instant cannot be made otherwise; no time passes by it"
        )]
        let now = Instant::now();
        let event = TelephoneEvent { payload_type: 101, clock_hz: 8_000 };
        let parameters = MediaParameters {
            telephone_event: Some(event),
            alternatives: [Some((Codec::PCMA, 8)), None],
            ..MediaParameters::plain(peer(), Law::Mulaw)
        };
        let (datagram, out) = (Vec::with_capacity(2_048), Vec::with_capacity(2_048));
        let playout = Playout::new(Law::Mulaw);
        Self {
            session: session_with(parameters, SSRC, now),
            playout,
            now,
            number: 0,
            datagram,
            out,
            frames: 0,
            sent: 0,
        }
    }

    fn receive(&mut self, number: u32, payload_type: u8, payload: &[u8]) {
        self.datagram.clear();
        let header =
            Header { marker: false, payload_type, sequence: number as u16, timestamp: number * 160, ssrc: 7 };
        header.write(payload, &mut self.datagram);
        self.session.handle_rtp(self.now, peer(), &self.datagram);
    }

    fn second(&mut self) {
        for step in 0..50 {
            self.now += Duration::from_millis(20);
            let number = self.number;
            self.number += 1;
            match step {
                10 | 11 | 25 => {}
                30 => self.receive(number + 1, 0, &[0x22; 160]),
                31 => self.receive(number - 1, 8, &[0x33; 160]),
                40 => self.receive(number, 101, &[5, 0x8A, 3, 32]),
                _ => self.receive(number, 0, &[0x11; 160]),
            }
            if step == 45 {
                self.datagram.clear();
                rtcp::write(7, None, None, b"peer", false, &mut self.datagram);
                self.session.handle_rtcp(self.now, peer_rtcp(), &self.datagram);
                self.session.send_dtmf('5', 100);
            }
            self.playout.push_audio(&[0x44; 150]).expect("it fits");
            self.playout.push_mark(MarkId(u64::from(number))).expect("it fits");
            if step == 48 {
                self.playout.flush(FlushPolicy::Echo);
            }
            self.drain();
        }
    }

    fn drain(&mut self) {
        while self.session.poll_ingress(self.now).is_some() {
            self.frames += 1;
        }
        while self.session.poll_dtmf().is_some() {}
        let mut frame = [0; 160];
        self.playout.tick(&mut frame);
        while self.playout.poll_fired().is_some() {}
        self.out.clear();
        self.sent += u64::from(self.session.send_frame(self.now, &frame, &mut self.out).is_some());
        self.session.poll_rtcp(self.now, &mut self.out);
        assert!(self.session.poll_timeout().is_some_and(|due| due > self.now));
    }
}

#[test]
fn a_call_over_a_poor_network_allocates_nothing() {
    let mut call = Call::new();
    (0..10).for_each(|_| call.second());
    let (frames, sent) = (call.frames, call.sent);
    let info = allocation_counter::measure(|| (0..60).for_each(|_| call.second()));
    assert!((2_990..=3_010).contains(&(call.frames - frames)), "{}", call.frames - frames);
    assert_eq!(call.sent - sent, 3_000);
    assert!(call.session.statistics().digits_received > 60 && call.session.statistics().rtcp_sent > 8);
    assert_eq!(info.count_total, 0);
}

#[test]
fn resampling_allocates_nothing() {
    let mut down = Resampler::new(24_000, 8_000).expect("served rates");
    let mut up = Resampler::new(8_000, 16_000).expect("served rates");
    let (mut eight, mut sixteen) = (Vec::with_capacity(200), Vec::with_capacity(400));
    let mut chunk = || {
        eight.clear();
        sixteen.clear();
        down.process(&[77; 480], &mut eight);
        up.process(&eight, &mut sixteen);
    };
    chunk();
    assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| chunk())).count_total, 0);
}

/// What a call keeps in memory by itself, before its first burst of speech.
#[test]
fn a_call_is_small() {
    let info = allocation_counter::measure(|| {
        let mut call = Call::new();
        (0..5).for_each(|_| call.second());
    });
    assert!(info.bytes_max < 32 * 1024, "{} bytes, of which the test's own are 4 KiB", info.bytes_max);
    assert!(size_of::<Session>() < 4 * 1024, "{}", size_of::<Session>());
}
