//! SRTP by behaviour: against `webrtc-srtp` as a second opinion for every suite, over paths that lose, swap and repeat, across
//! rollovers, through changes of keys.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as tests do")]

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tandem_media::rtp::packet::Header;
use tandem_media::rtp::rtcp;
use tandem_media::srtp::{
    Inbound, KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Mki, Outbound, Rejected, Suite,
};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const SSRC: u32 = 0xDEAD_BEEF;

fn key(suite: Suite, seed: u8) -> MasterKey {
    let mut octets = [seed; MASTER_OCTETS_MAX];
    octets.iter_mut().zip(0_u8..).for_each(|(octet, value)| *octet ^= value.wrapping_mul(37));
    MasterKey::ours(suite, &KeyMaterial(octets))
}

fn other_stack(key: &MasterKey) -> Context {
    let profile = match key.suite() {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::Aes256CmHmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        Suite::Aes256CmHmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let (master, salt) = key.octets().split_at(key.suite().key_octets());
    Context::new(master, salt, profile, None, None).unwrap()
}

fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let timestamp = u32::from(sequence) * 160;
    Header { marker: false, payload_type: 0, sequence, timestamp, ssrc }
        .write(&[sequence as u8 ^ 0x5A; 160], &mut bytes);
    bytes
}

fn protected(outbound: &mut Outbound, packet: &[u8]) -> Vec<u8> {
    let mut bytes = b"before".to_vec();
    bytes.extend_from_slice(packet);
    assert!(outbound.protect_rtp(6, &mut bytes));
    assert_eq!(&bytes[..6], b"before");
    bytes.split_off(6)
}

fn opened(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, Rejected> {
    let mut clear = Vec::new();
    inbound.open_rtp(packet, &mut clear)?;
    Ok(clear)
}

fn compound() -> Vec<u8> {
    let mut bytes = Vec::new();
    rtcp::write(SSRC, None, None, b"tandem", false, &mut bytes);
    bytes
}

#[test]
fn another_stack_opens_what_we_send_and_we_what_it_sends() {
    for suite in Suite::ALL {
        let key = key(suite, 1);
        let (mut outbound, mut inbound) = (Outbound::new(key), Inbound::new(key));
        let (mut theirs_in, mut theirs_out) = (other_stack(&key), other_stack(&key));
        // Across a rollover.
        for sequence in (65_500..=65_535).chain(0..20) {
            let clear = packet(SSRC, sequence);
            let ours = protected(&mut outbound, &clear);
            assert_eq!(ours.len(), clear.len() + suite.rtp_tag_octets());
            assert_eq!(theirs_in.decrypt_rtp(&ours).unwrap(), clear, "{suite:?}");
            let theirs = theirs_out.encrypt_rtp(&clear).unwrap();
            assert_eq!(theirs, ours, "{suite:?}");
            assert_eq!(opened(&mut inbound, &theirs).as_ref(), Ok(&clear), "{suite:?}");
        }
        for _ in 0..3 {
            let mut ours = compound();
            assert!(outbound.protect_rtcp(0, &mut ours));
            assert_eq!(theirs_in.decrypt_rtcp(&ours).unwrap(), compound(), "{suite:?}");
            let theirs = theirs_out.encrypt_rtcp(&compound()).unwrap();
            let mut clear = Vec::new();
            assert_eq!(inbound.open_rtcp(&theirs, &mut clear), Ok(()), "{suite:?}");
            assert_eq!(clear, compound());
        }
    }
}

#[test]
fn headers_with_sources_and_extension_stay_readable() {
    for suite in Suite::ALL {
        let key = key(suite, 2);
        let mut clear = vec![0x80 | 0x10 | 2, 0, 0, 9, 0, 0, 0, 1, 1, 2, 3, 4];
        clear.extend([5; 8]);
        clear.extend([0x12, 0x34, 0, 1, 1, 2, 3, 4]);
        clear.extend([0x77; 160]);
        let bytes = protected(&mut Outbound::new(key), &clear);
        assert_eq!(bytes[..28], clear[..28]);
        assert_ne!(bytes[28..60], clear[28..60]);
        assert_eq!(other_stack(&key).decrypt_rtp(&bytes).unwrap(), clear);
        assert_eq!(opened(&mut Inbound::new(key), &bytes), Ok(clear));
    }
}

/// A path that loses nearly all, swaps within 100 packets and repeats, over four rollovers.
#[test]
fn what_comes_is_what_was_sent_once_whatever_the_path_does() {
    for (seed, suite) in (0..).zip(Suite::ALL) {
        let key = key(suite, 3);
        let (mut outbound, mut inbound) = (Outbound::new(key), Inbound::new(key));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut way: Vec<(u64, u64, Vec<u8>)> = Vec::new();
        for number in (0..262_144_u64).step_by(16) {
            // Loss comes in bursts too: 20,000 packets in a row.
            let is_in_burst = (100_000..120_000).contains(&number);
            if is_in_burst || random.next_u32() % 10 == 0 {
                continue;
            }
            let bytes = protected(&mut outbound, &packet(SSRC, (number + 30_000) as u16));
            way.push((number + u64::from(random.next_u32() % 100), number, bytes));
        }
        way.sort_unstable();
        for (_, number, bytes) in way {
            let clear = packet(SSRC, (number + 30_000) as u16);
            assert_eq!(opened(&mut inbound, &bytes), Ok(clear), "{suite:?} {number}");
            assert_eq!(opened(&mut inbound, &bytes), Err(Rejected::Replayed));
        }
    }
}

#[test]
fn a_sender_that_rolled_over_before_it_was_heard_is_understood() {
    let key = key(Suite::AesCm128HmacSha1_80, 4);
    let mut outbound = Outbound::new(key);
    let sent: Vec<_> = (65_530..=65_535)
        .chain(0..6)
        .map(|sequence| protected(&mut outbound, &packet(SSRC, sequence)))
        .collect();
    let mut inbound = Inbound::new(key);
    assert_eq!(opened(&mut inbound, &sent[9]), Ok(packet(SSRC, 3)));
    assert_eq!(opened(&mut inbound, &sent[2]), Ok(packet(SSRC, 65_532)), "late, from before the rollover");
    assert_eq!(opened(&mut inbound, &sent[11]), Ok(packet(SSRC, 5)));
}

#[test]
fn nothing_foreign_or_changed_is_taken() {
    for suite in Suite::ALL {
        let key = key(suite, 5);
        let bytes = protected(&mut Outbound::new(key), &packet(SSRC, 7));
        let mut inbound = Inbound::new(key);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x04;
            assert_eq!(opened(&mut inbound, &changed), Err(Rejected::NotAuthentic), "{suite:?} octet {at}");
            assert!(opened(&mut inbound, &bytes[..at]).is_err());
        }
        assert_eq!(opened(&mut inbound, &packet(SSRC, 7)), Err(Rejected::NotAuthentic), "in the clear");
        let foreign = protected(&mut Outbound::new(self::key(suite, 6)), &packet(SSRC, 7));
        assert_eq!(opened(&mut inbound, &foreign), Err(Rejected::NotAuthentic));
        assert_eq!(opened(&mut inbound, &bytes), Ok(packet(SSRC, 7)), "what failed left nothing behind");

        let mut sealed = compound();
        assert!(Outbound::new(key).protect_rtcp(0, &mut sealed));
        let mut clear = Vec::new();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x04;
            assert_eq!(
                inbound.open_rtcp(&changed, &mut clear),
                Err(Rejected::NotAuthentic),
                "{suite:?} {at}"
            );
            if at != sealed.len() - spared(suite) {
                assert!(inbound.open_rtcp(&sealed[..at], &mut clear).is_err());
            }
        }
        assert_eq!(inbound.open_rtcp(&sealed, &mut clear), Ok(()));
        assert_eq!(inbound.open_rtcp(&sealed, &mut clear), Err(Rejected::Replayed));
    }
}

/// Octets by which a tag of RTCP is shorter where a peer makes it as long as that of RTP.
fn spared(suite: Suite) -> usize {
    suite.rtcp_tag_octets() - suite.rtp_tag_octets()
}

/// libre does that.
#[test]
fn rtcp_is_believed_as_much_as_rtp_is() {
    for suite in Suite::ALL {
        let key = key(suite, 6);
        let (mut sealed, mut clear) = (compound(), Vec::new());
        assert!(Outbound::new(key).protect_rtcp(0, &mut sealed));
        let short = &sealed[..sealed.len() - spared(suite)];
        let mut inbound = Inbound::new(key);
        assert_eq!(inbound.open_rtcp(short, &mut clear), Ok(()), "{suite:?}");
        assert_eq!(clear, compound());
        assert_eq!(inbound.open_rtcp(&sealed, &mut clear), Err(Rejected::Replayed), "{suite:?}");
    }
}

#[test]
fn each_source_has_its_own_counter_and_window() {
    let key = key(Suite::AeadAes128Gcm, 7);
    let mut inbound = Inbound::new(key);
    for ssrc in 1..=40 {
        let mut outbound = Outbound::new(key);
        for sequence in [65_535, 0] {
            let bytes = protected(&mut outbound, &packet(ssrc, sequence));
            assert_eq!(opened(&mut inbound, &bytes), Ok(packet(ssrc, sequence)));
            assert_eq!(opened(&mut inbound, &bytes), Err(Rejected::Replayed));
        }
    }
}

#[test]
fn a_new_key_begins_anew_and_stragglers_of_the_old_one_are_taken_for_a_while() {
    let (old, new) = (key(Suite::AesCm128HmacSha1_80, 8), key(Suite::AeadAes256Gcm, 9));
    let (mut before, mut after) = (Outbound::new(old), Outbound::new(new));
    let mut inbound = Inbound::new(old);
    for sequence in [65_535, 0] {
        opened(&mut inbound, &protected(&mut before, &packet(SSRC, sequence))).unwrap();
    }
    inbound.change(old);
    inbound.change(new);
    let straggler = protected(&mut before, &packet(SSRC, 1));
    assert_eq!(opened(&mut inbound, &straggler), Ok(packet(SSRC, 1)), "its rollover counter is known still");
    assert_eq!(opened(&mut inbound, &straggler), Err(Rejected::Replayed));
    opened(&mut inbound, &protected(&mut after, &packet(SSRC, 2))).unwrap();
    let taken = (3..)
        .map(|sequence| opened(&mut inbound, &protected(&mut before, &packet(SSRC, sequence))))
        .take_while(Result::is_ok);
    assert_eq!(taken.count(), 50);
    opened(&mut inbound, &protected(&mut after, &packet(SSRC, 100))).unwrap();
}

/// RFC 3711 section 3.1 and RFC 7714 section 8.2: the identifier stands before the tag, or behind it.
#[test]
fn a_key_identifier_is_looked_for_and_taken_off() {
    for suite in Suite::ALL {
        let key = key(suite, 10);
        let mut named = key;
        named.mki = Some(Mki { value: 1, octets: 32 });
        let identifier = |value: u8| [[0; 31].as_slice(), &[value]].concat();
        let with = |bytes: &[u8], tag: usize, value: u8| {
            let at = bytes.len() - if suite.is_aead() { 0 } else { tag };
            [&bytes[..at], &identifier(value), &bytes[at..]].concat()
        };
        let mut outbound = Outbound::new(key);
        let bytes = protected(&mut outbound, &packet(SSRC, 7));
        let mut inbound = Inbound::new(named);
        let tag = suite.rtp_tag_octets();
        assert_eq!(opened(&mut inbound, &bytes), Err(Rejected::NotAuthentic));
        assert_eq!(opened(&mut inbound, &with(&bytes, tag, 2)), Err(Rejected::NotAuthentic));
        assert_eq!(opened(&mut inbound, &with(&bytes, tag, 1)), Ok(packet(SSRC, 7)), "{suite:?}");
        let mut sealed = compound();
        assert!(outbound.protect_rtcp(0, &mut sealed));
        let mut clear = Vec::new();
        assert_eq!(
            inbound.open_rtcp(&with(&sealed, suite.rtcp_tag_octets(), 1), &mut clear),
            Ok(()),
            "{suite:?}"
        );
        assert_eq!(clear, compound());
    }
}

#[test]
fn a_key_is_not_used_beyond_the_lifetime_its_owner_gave_it() {
    let mut key = key(Suite::AesCm128HmacSha1_32, 11);
    key.lifetime = 3;
    let (mut outbound, mut inbound) = (Outbound::new(key), Inbound::new(key));
    for sequence in 0..3 {
        opened(&mut inbound, &protected(&mut outbound, &packet(SSRC, sequence))).unwrap();
    }
    assert_eq!(opened(&mut inbound, &protected(&mut outbound, &packet(SSRC, 3))), Err(Rejected::Expired));
}

#[test]
fn a_packet_costs_no_allocation() {
    for suite in Suite::ALL {
        let key = key(suite, 12);
        let (mut outbound, mut inbound) = (Outbound::new(key), Inbound::new(key));
        let (mut bytes, mut clear) = (Vec::with_capacity(2_048), Vec::with_capacity(2_048));
        let mut exchange = |sequence: u16| {
            bytes.clear();
            let header = Header { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc: SSRC };
            header.write(&[0; 160], &mut bytes);
            assert!(outbound.protect_rtp(0, &mut bytes));
            inbound.open_rtp(&bytes, &mut clear).unwrap();
            bytes.clear();
            rtcp::write(SSRC, None, None, b"tandem", false, &mut bytes);
            assert!(outbound.protect_rtcp(0, &mut bytes));
            inbound.open_rtcp(&bytes, &mut clear).unwrap();
        };
        exchange(0);
        let info = allocation_counter::measure(|| (1..200).for_each(&mut exchange));
        assert_eq!(info.count_total, 0, "{suite:?}");
    }
}

#[test]
fn noise_never_panics() {
    let mut random = ChaCha8Rng::seed_from_u64(13);
    for suite in Suite::ALL {
        let mut named = key(suite, 14);
        named.mki = Some(Mki { value: 9, octets: 4 });
        for key in [key(suite, 14), named] {
            let (mut inbound, mut clear) = (Inbound::new(key), Vec::new());
            for round in 0..5_000 {
                let mut bytes = vec![0; round % 97];
                random.fill_bytes(&mut bytes);
                if let Some(first) = bytes.first_mut() {
                    *first = *first & 0x3F | 0x80;
                }
                assert!(inbound.open_rtp(&bytes, &mut clear).is_err());
                assert!(inbound.open_rtcp(&bytes, &mut clear).is_err());
            }
        }
    }
}
