//! Sessions with keys: two of them talk over a poor path, change keys, and notice who does not keep to what was agreed.

use std::net::SocketAddr;

use tandem_media::ice::{CREDENTIAL_OCTETS, IceCredentials};
use tandem_media::rtp::packet::Header;
use tandem_media::session::{Component, Received, SecurityTrouble};
use tandem_media::srtp::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Outbound, SrtpKeys, Suite};
use tandem_media::{FRAME_BYTES, Law, MediaParameters, Session, TelephoneEvent};

use crate::line::{Line, SSRC, frame_of, ms, peer, peer_rtcp, session_with};

fn key(suite: Suite, seed: u8) -> MasterKey {
    MasterKey::ours(suite, &KeyMaterial([seed; MASTER_OCTETS_MAX]))
}

fn keys(suite: Suite, local: u8, remote: u8) -> Option<SrtpKeys> {
    Some(SrtpKeys { local: key(suite, local), remote: key(suite, remote) })
}

fn parameters(srtp: Option<SrtpKeys>) -> MediaParameters {
    let event = TelephoneEvent { payload_type: 101, clock_hz: 8_000 };
    MediaParameters { srtp, telephone_event: Some(event), ..MediaParameters::plain(peer(), Law::Mulaw) }
}

fn plain(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let timestamp = u32::from(sequence) * 160;
    Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 7 }.write(payload, &mut bytes);
    bytes
}

/// The session of the other side, whose packets come from [`peer`].
fn other(line: &Line, srtp: Option<SrtpKeys>) -> Session {
    let ours: SocketAddr = "203.0.113.5:20000".parse().expect("an address");
    session_with(MediaParameters { remote: ours, ..parameters(srtp) }, 7, line.now())
}

#[test]
fn audio_digits_and_reports_pass_both_ways_under_every_suite() {
    for suite in Suite::ALL {
        let mut line = Line::new(parameters(keys(suite, 1, 2)));
        let mut other = other(&line, keys(suite, 2, 1));
        for number in 0..400 {
            line.advance_to(ms(number * 20));
            if number == 100 {
                assert!(other.send_dtmf('5', 100));
            }
            let (now, mut bytes) = (line.now(), Vec::new());
            other.send_frame(now, &frame_of(number), &mut bytes).expect("it knows where to");
            assert!(bytes.len() >= 12 + suite.rtp_tag_octets());
            assert_ne!(line.session.handle_rtp(now, peer(), &bytes), Received::Ignored, "{suite:?} {number}");
            let (_, back) = line.transmit_audio(&frame_of(number)).expect("the peer is known");
            assert!(!back.windows(20).any(|part| part == &frame_of(number)[..20]), "in the clear");
            other.handle_rtp(now, "203.0.113.5:20000".parse().expect("an address"), &back);
            let mut report = Vec::new();
            if other.poll_rtcp(now, &mut report).is_some() {
                assert_eq!(line.session.handle_rtcp(now, peer_rtcp(), &report), Received::Accepted);
            }
            while other.poll_ingress(now).is_some() {}
        }
        line.advance_to(ms(8_200));
        line.assert_continuous();
        assert!((5..90).all(|number| line.contains_once(number)), "{suite:?}");
        assert_eq!(line.digits.iter().map(|digit| digit.digit).collect::<String>(), "5");
        let statistics = line.session.statistics();
        assert!(statistics.rtcp_received > 0 && statistics.packets_received >= 400);
        assert_eq!((statistics.refused_unauthentic, statistics.refused_replayed), (0, 0));
        assert_eq!(other.statistics().packets_received, 400);
    }
}

#[test]
fn the_first_sequence_number_leaves_room_before_the_rollover() {
    let mut line = Line::new(parameters(keys(Suite::AesCm128HmacSha1_80, 1, 2)));
    let (_, bytes) = line.transmit().expect("the peer is known");
    assert!(u16::from_be_bytes([bytes[2], bytes[3]]) < 0x8000);
}

#[test]
fn media_in_the_clear_is_not_heard_and_told_once() {
    let mut line = Line::new(parameters(keys(Suite::AesCm128HmacSha1_80, 1, 2)));
    let outcomes: Vec<Received> = (0..200)
        .map(|number| line.session.handle_rtp(line.now(), peer(), &plain(number, &[0x55; FRAME_BYTES])))
        .collect();
    let told = Received::Troubled(SecurityTrouble::InTheClear);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == told).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Received::Ignored | Received::Troubled(_))));
    let statistics = line.session.statistics();
    assert_eq!((statistics.refused_in_the_clear, statistics.packets_received), (200, 0));
    assert_eq!(statistics.latched, None, "what proves nothing latches nothing");
}

/// baresip opens a NAT's way with the first of these, and ends with the second.
#[test]
fn rtcp_in_the_clear_is_told_apart_from_what_does_not_prove_itself() {
    let mut line = Line::new(parameters(keys(Suite::AesCm128HmacSha1_80, 1, 2)));
    let ping = [0x80, 204, 0, 3, 1, 2, 3, 4, b'P', b'I', b'N', b'G', b'P', b'O', b'N', b'G'];
    let goodbye = [0x81, 203, 0, 1, 1, 2, 3, 4, 0x81, 202, 0, 2, 1, 2, 3, 4, 1, 1, b'a', 0];
    for clear in [&ping[..], &goodbye] {
        line.session.handle_rtcp(line.now(), peer(), clear);
    }
    line.session.handle_rtcp(line.now(), peer(), &goodbye[..goodbye.len() - 1]);
    let statistics = line.session.statistics();
    assert_eq!((statistics.refused_rtcp_in_the_clear, statistics.refused_unauthentic), (2, 1));
    assert!(!statistics.goodbye_received && statistics.refused_in_the_clear == 0);
}

#[test]
fn another_key_than_was_told_is_told_apart_from_the_clear() {
    for suite in Suite::ALL {
        let mut line = Line::new(parameters(keys(suite, 1, 2)));
        let mut foreign = Outbound::new(key(suite, 9));
        let mut told = Vec::new();
        for number in 0..100 {
            let mut bytes = plain(number, &[0x55; FRAME_BYTES]);
            assert!(foreign.protect_rtp(0, &mut bytes));
            if let Received::Troubled(trouble) = line.session.handle_rtp(line.now(), peer(), &bytes) {
                told.push(trouble);
            }
        }
        assert_eq!(told, [SecurityTrouble::Unauthentic], "{suite:?}");
        assert_eq!(line.session.statistics().refused_unauthentic, 100);
    }
}

#[test]
fn a_key_whose_lifetime_is_over_is_told() {
    let mut keys = keys(Suite::AesCm128HmacSha1_80, 1, 2).expect("keys");
    keys.remote.lifetime = 10;
    let mut line = Line::new(parameters(Some(keys)));
    let mut sender = Outbound::new(keys.remote);
    let outcomes: Vec<Received> = (0..60)
        .map(|number| {
            let mut bytes = plain(number, &[0x55; FRAME_BYTES]);
            assert!(sender.protect_rtp(0, &mut bytes));
            line.session.handle_rtp(line.now(), peer(), &bytes)
        })
        .collect();
    assert!(outcomes.contains(&Received::Troubled(SecurityTrouble::KeyExpired)));
    assert_eq!(line.session.statistics().packets_received, 10);
}

#[test]
fn keys_change_and_come_and_go_in_a_call_and_a_hold_leaves_them_alone() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut line = Line::new(parameters(keys(suite, 1, 2)));
    let mut sender = Outbound::new(key(suite, 2));
    let send = |line: &mut Line, sender: Option<&mut Outbound>, number: u16| {
        let mut bytes = plain(number, &[0x55; FRAME_BYTES]);
        if let Some(sender) = sender {
            assert!(sender.protect_rtp(0, &mut bytes));
        }
        line.session.handle_rtp(line.now(), peer(), &bytes)
    };
    assert!(matches!(send(&mut line, Some(&mut sender), 1), Received::Latched(_)));
    let held =
        MediaParameters { direction: tandem_media::Direction::RecvOnly, ..parameters(keys(suite, 1, 2)) };
    line.session.update(held);
    assert_eq!(send(&mut line, Some(&mut sender), 2), Received::Accepted, "held, and its counters are kept");
    line.session.update(parameters(keys(Suite::AeadAes256Gcm, 3, 4)));
    let mut new = Outbound::new(key(Suite::AeadAes256Gcm, 4));
    assert_eq!(send(&mut line, Some(&mut sender), 3), Received::Accepted, "a straggler");
    assert_eq!(send(&mut line, Some(&mut new), 4), Received::Accepted);
    let (_, bytes) = line.transmit().expect("the peer is known");
    assert_eq!(bytes.len(), 12 + FRAME_BYTES + 16);
    line.session.update(parameters(None));
    assert_eq!(send(&mut line, None, 5), Received::Accepted, "the peer may leave encryption");
    let (_, bytes) = line.transmit().expect("the peer is known");
    assert_eq!(bytes.len(), 12 + FRAME_BYTES);
}

#[test]
fn an_encrypted_call_costs_no_allocation_per_packet() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut line = Line::new(parameters(keys(suite, 1, 2)));
    let mut sender = Outbound::new(key(suite, 2));
    let (mut bytes, mut out) = (Vec::with_capacity(2_048), Vec::with_capacity(2_048));
    let (epoch, session) = (line.epoch, &mut line.session);
    let mut second = |second: u64| {
        for step in 0..50 {
            let number = second * 50 + step;
            let now = epoch + ms(number * 20);
            bytes.clear();
            let header = Header {
                marker: false,
                payload_type: 0,
                sequence: number as u16,
                timestamp: number as u32 * 160,
                ssrc: 7,
            };
            header.write(&[0x55; FRAME_BYTES], &mut bytes);
            assert!(sender.protect_rtp(0, &mut bytes));
            session.handle_rtp(now, peer(), &bytes);
            while session.poll_ingress(now).is_some() {}
            out.clear();
            session.send_frame(now, &[0x44; FRAME_BYTES], &mut out);
            session.poll_rtcp(now, &mut out);
        }
    };
    (0..5).for_each(&mut second);
    assert_eq!(allocation_counter::measure(|| (5..25).for_each(&mut second)).count_total, 0);
    assert_eq!(session.statistics().packets_received, 25 * 50);
}

#[test]
fn checks_of_the_peers_ice_need_credentials_and_are_answered_from_the_port_they_came_to() {
    let credentials = IceCredentials::from_random(&[5; CREDENTIAL_OCTETS]);
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    stun.extend([7; 12]);
    let mut without = Line::new(parameters(None));
    assert_eq!(without.session.handle_rtp(without.now(), peer(), &stun), Received::Ignored);
    let mut with = Line::new(MediaParameters { ice: Some(credentials), ..parameters(None) });
    assert_eq!(with.session.handle_rtp(with.now(), peer(), &stun), Received::Stranger);
    assert_eq!(with.session.handle_rtcp(with.now(), peer_rtcp(), &stun), Received::Stranger);
    let mut out = Vec::new();
    assert_eq!(with.session.poll_check(&mut out), None::<(Component, SocketAddr)>);
    assert!(out.is_empty() && with.ssrc != SSRC);
}
