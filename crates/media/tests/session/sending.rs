//! What is sent: audio, digits and reports.

use std::time::Duration;

use tandem_media::session::Received;
use tandem_media::{Direction, Law, MediaParameters, TelephoneEvent};

use crate::line::{Line, PEER, frame_of, ms, peer};

#[test]
fn ticks_that_were_missed_leave_the_media_clock_right() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    line.transmit().unwrap();
    line.session.skip_frames(3);
    let (_, packet) = line.transmit().unwrap();
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    assert_eq!(sequence, crate::line::FIRST_SEQUENCE.wrapping_add(1));
    assert_eq!(timestamp, crate::line::FIRST_TIMESTAMP.wrapping_add(4 * 160));
    assert_eq!(packet[1] >> 7, 1);
}

#[test]
fn a_renegotiated_law_does_not_change_the_law_of_the_session() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    line.session.update(MediaParameters::plain(peer(), Law::Alaw));
    let (_, sent) = line.transmit_audio(&[0x10; 160]).unwrap();
    assert_eq!(sent[1] & 0x7F, 8);
    assert_eq!(sent[12], tandem_media::g711::transcode(Law::Mulaw, Law::Alaw, 0x10));
    line.packet(false, 8, 0, 0, &[0x55; 160]);
    assert_eq!(line.heard[0].audio[0], tandem_media::g711::transcode(Law::Alaw, Law::Mulaw, 0x55));
}

/// Safety check 9 of the simulation: sequence +1, timestamp by the frame, one SSRC, marker on the first only.
#[test]
fn what_is_sent_has_the_order_receivers_rely_on() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    let sent: Vec<Vec<u8>> = (0..50).map(|_| line.transmit().unwrap().1).collect();
    for (number, packet) in sent.iter().enumerate() {
        assert_eq!(packet.len(), 172);
        assert_eq!(packet[1] >> 7 == 1, number == 0);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        assert_eq!(sequence, crate::line::FIRST_SEQUENCE.wrapping_add(number as u16));
        assert_eq!(timestamp, crate::line::FIRST_TIMESTAMP.wrapping_add(number as u32 * 160));
        assert_eq!(packet[8..12], crate::line::SSRC.to_be_bytes());
    }
}

#[test]
fn while_held_nothing_is_sent_and_the_clock_runs_on() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    line.transmit().unwrap();
    let held =
        MediaParameters { direction: Direction::RecvOnly, ..MediaParameters::plain(peer(), Law::Mulaw) };
    line.session.update(held);
    assert!((0..9).all(|_| line.transmit().is_none()));
    line.session.update(MediaParameters::plain(peer(), Law::Mulaw));
    let (_, packet) = line.transmit().unwrap();
    assert_eq!(packet[1] >> 7, 1, "a new talk spurt");
    let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    assert_eq!(timestamp, crate::line::FIRST_TIMESTAMP.wrapping_add(10 * 160));
}

#[test]
fn symmetric_rtp_sends_where_the_first_valid_packet_came_from() {
    let mut line = Line::new(MediaParameters::plain("10.1.1.1:4000".parse().unwrap(), Law::Mulaw));
    assert_eq!(line.transmit().unwrap().0, "10.1.1.1:4000".parse().unwrap());
    let datagram = line.datagram(false, 0, 0, 0, &frame_of(0));
    assert_eq!(line.session.handle_rtp(line.now(), peer(), &datagram), Received::Latched(peer()));
    assert_eq!(line.transmit().unwrap().0, peer());
}

#[test]
fn digits_are_sent_in_place_of_audio() {
    let event = TelephoneEvent { payload_type: 101, clock_hz: 8_000 };
    let parameters =
        MediaParameters { telephone_event: Some(event), ..MediaParameters::plain(peer(), Law::Mulaw) };
    let mut line = Line::new(parameters);
    assert!(line.session.send_dtmf('7', 100) && line.session.is_sending_dtmf());
    let types: Vec<u8> = (0..12).map(|_| line.transmit().unwrap().1[1] & 0x7F).collect();
    assert_eq!(types, [101, 101, 101, 101, 101, 101, 101, 0, 0, 0, 0, 0]);
    line.session.update(MediaParameters::plain(PEER.parse().unwrap(), Law::Mulaw));
    assert!(!line.session.send_dtmf('7', 100), "not negotiated");
}

#[test]
fn our_own_source_identifier_from_the_peer_makes_us_take_another() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    line.ssrc = crate::line::SSRC;
    line.send(0, &frame_of(0));
    let (_, packet) = line.transmit().unwrap();
    assert_ne!(packet[8..12], crate::line::SSRC.to_be_bytes());
}

/// Two sessions report to each other over a path of 40 ms each way with a tenth of the packets lost.
#[test]
fn reports_tell_round_trip_loss_and_goodbye() {
    let mut one = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    let other_address = "192.0.2.2:5000".parse().unwrap();
    let mut other = Line::new(MediaParameters::plain(other_address, Law::Mulaw));
    other.session = crate::line::session_with(
        MediaParameters::plain(other_address, Law::Mulaw),
        0x0BAD_CAFE,
        other.epoch,
    );
    let mut flying: Vec<(Duration, bool, bool, Vec<u8>)> = Vec::new();
    let other_rtcp = "192.0.2.2:5001".parse().unwrap();
    for tick in 0..2_000_u64 {
        let at = ms(20 * tick);
        let now = one.epoch + at;
        let mut arrived: Vec<_> = flying.extract_if(.., |flight| flight.0 <= at).collect();
        arrived.sort_by_key(|flight| flight.0);
        for (_, to_other, is_rtcp, bytes) in arrived {
            let (line, source, rtcp) = if to_other {
                (&mut other, other_address, other_rtcp)
            } else {
                (&mut one, peer(), crate::line::peer_rtcp())
            };
            if is_rtcp {
                line.session.handle_rtcp(now, rtcp, &bytes)
            } else {
                line.session.handle_rtp(now, source, &bytes)
            };
        }
        for (line, to_other) in [(&mut one, true), (&mut other, false)] {
            while line.session.poll_ingress(now).is_some() {}
            let mut packet = Vec::new();
            line.session.send_frame(now, &[0xFF; 160], &mut packet).unwrap();
            if !to_other || tick % 10 != 3 {
                flying.push((at + ms(40), to_other, false, packet));
            }
            let mut report = Vec::new();
            if line.session.poll_rtcp(now, &mut report).is_some() {
                flying.push((at + ms(40), to_other, true, report));
            }
        }
    }
    let statistics = one.session.statistics();
    let round_trip = statistics.round_trip_us.unwrap();
    assert!((79_000..=101_000).contains(&round_trip), "{round_trip} µs");
    let loss = f64::from(statistics.remote_fraction_lost.unwrap()) / 256.0;
    assert!((0.08..=0.12).contains(&loss), "{loss}");
    assert_eq!(other.session.statistics().remote_fraction_lost, Some(0));
    assert!((6..20).contains(&statistics.rtcp_sent));
    let mut goodbye = Vec::new();
    let now = one.epoch + ms(40_000);
    assert_eq!(one.session.goodbye(now, &mut goodbye), Some(crate::line::peer_rtcp()));
    other.session.handle_rtcp(now, other_rtcp, &goodbye);
    assert!(other.session.statistics().goodbye_received);
    assert_eq!(one.session.goodbye(now, &mut goodbye), None, "once is enough");
}
