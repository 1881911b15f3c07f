//! What is received: the timeline under every kind of network and sender.

use std::time::Duration;

use tandem_media::session::Received;
use tandem_media::{Codec, FRAME_BYTES, Law, MediaParameters, TelephoneEvent};

use crate::line::{Line, frame_of, ms, peer};

#[test]
fn a_clean_stream_passes_bit_for_bit_at_once_in_both_laws() {
    for law in [Law::Mulaw, Law::Alaw] {
        let mut line = Line::new(MediaParameters::plain(peer(), law));
        for number in 0..500 {
            line.advance_to(ms(20 * number + 5));
            let before = line.heard.len();
            line.send(number, &frame_of(number));
            assert_eq!(line.heard.len(), before + 1, "frame {number} must not wait");
        }
        line.assert_continuous();
        assert!(line.heard.iter().zip(0..).all(|(frame, number)| frame.audio == frame_of(number)));
        assert_eq!(line.session.statistics().concealed_frames, 0);
    }
}

#[test]
fn a_frame_tells_when_its_packet_came_and_made_up_ones_do_not() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in [0, 1, 3] {
        line.advance_to(ms(20 * number + 5));
        line.send(number, &frame_of(number));
    }
    line.advance_to(ms(75));
    let arrived: Vec<_> = line.heard.iter().map(|frame| frame.arrived.map(|at| at - line.epoch)).collect();
    assert_eq!(arrived, [Some(ms(5)), Some(ms(25)), None, Some(ms(65))]);
}

#[test]
fn every_code_passes_unchanged() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Alaw));
    for number in 0..256 {
        line.advance_to(ms(20 * number));
        line.send(number, &[number as u8; FRAME_BYTES]);
    }
    assert!(line.heard.iter().zip(0..=u8::MAX).all(|(frame, code)| frame.audio == [code; FRAME_BYTES]));
}

/// The sender's clock drives the stream, so a skewed one neither starves nor floods it.
#[test]
fn ten_minutes_of_200_ppm_skew_make_no_gap_no_repeat_and_no_delay() {
    for skew_ppm in [-200_i64, 200] {
        let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
        for number in 0..30_000_u64 {
            let sent_us = number as i64 * (20_000_000_000 + 20_000 * skew_ppm) / 1_000_000;
            // A little jitter beside the skew, the same in each run.
            let jitter_us = (number * 7_919 % 4_000) as i64;
            line.advance_to(Duration::from_micros((5_000 + sent_us + jitter_us) as u64));
            line.send(number, &frame_of(number));
            assert_eq!(
                line.heard.len() as u64,
                number + 1,
                "{skew_ppm} ppm: frame {number} waited or was made up"
            );
        }
        line.assert_continuous();
        assert!(line.heard.iter().zip(0..).all(|(frame, number)| frame.audio == frame_of(number)));
    }
}

#[test]
fn a_lost_packet_is_made_up_once_and_delays_its_followers_by_ten_milliseconds_at_most() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..100 {
        line.advance_to(ms(20 * number));
        if number != 50 {
            line.send(number, &frame_of(number));
        }
        if number == 51 {
            line.advance_to(ms(20 * 51 + 10));
            assert_eq!(line.heard.len(), 52, "the gap is closed 30 ms after the packet was expected");
        }
    }
    line.assert_continuous();
    assert_eq!(line.heard.len(), 100);
    assert!(line.heard[50].concealed);
    assert_eq!(line.heard.iter().filter(|frame| frame.concealed).count(), 1);
    // The frame after the gap is faded in over 4 ms; the rest of it, and all others, are untouched.
    assert_eq!(line.heard[51].audio[32..], frame_of(51)[32..]);
    assert!((52..100).all(|number| line.heard[number].audio == frame_of(number as u64)));
    assert_eq!(line.session.statistics().packets_lost, 1);
}

#[test]
fn a_burst_of_lost_packets_keeps_the_timeline() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..200 {
        line.advance_to(ms(20 * number));
        if !(50..60).contains(&number) {
            line.send(number, &frame_of(number));
        }
    }
    line.assert_continuous();
    assert_eq!(line.heard.len(), 200);
    assert!((50..60).all(|number| line.heard[number].concealed));
    assert!(line.heard[53..60].iter().all(|frame| frame.audio == [0xFF; FRAME_BYTES]), "silent after 60 ms");
    assert!((60..200).all(|number| line.heard[number].audio == frame_of(number as u64)));
}

#[test]
fn swapped_and_doubled_packets_are_put_right() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for pair in 0..100 {
        line.advance_to(ms(40 * pair + 20));
        line.send(2 * pair + 1, &frame_of(2 * pair + 1));
        line.advance_to(ms(40 * pair + 25));
        line.send(2 * pair, &frame_of(2 * pair));
        line.send(2 * pair + 1, &frame_of(2 * pair + 1));
    }
    line.assert_continuous();
    // The very first packet of the stream was late, and nobody could know of it.
    let made_up = line.heard.iter().filter(|frame| frame.concealed).count();
    assert!(made_up <= 1, "{made_up} made up");
    assert!((4..200).all(|number| line.contains_once(number)));
    let statistics = line.session.statistics();
    assert_eq!((statistics.packets_lost, statistics.duplicates), (-1, 100));
}

#[test]
fn patience_grows_with_jitter_and_comes_back_down() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    let mut patience = Vec::new();
    let mut arrival_us = 0;
    for number in 0..1_500_u64 {
        // Ten seconds of calm, ten of up to 90 ms of jitter, ten of calm; order is kept.
        let jitter_us = if (500..1_000).contains(&number) { number * 7_919 % 90_000 } else { 0 };
        arrival_us = (number * 20_000 + jitter_us).max(arrival_us);
        line.advance_to(Duration::from_micros(arrival_us));
        line.send(number, &frame_of(number));
        patience.push(line.session.statistics().patience_us);
    }
    line.assert_continuous();
    assert_eq!(patience[499], 30_000);
    assert!((60_000..=120_000).contains(&patience[999]), "{}", patience[999]);
    assert_eq!(patience[1_499], 30_000, "it must not stay grown");
    assert!(
        (0..1_500).all(|number| line.contains_once(number)),
        "nothing was lost, so nothing may be missing"
    );
    assert!(line.heard.len() <= 1_500 + 4, "{} frames", line.heard.len());
}

#[test]
fn a_stall_of_the_network_costs_no_audio_up_to_its_bound_and_does_not_shift_the_stream_for_good() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    // Every two seconds the network holds everything back for 150 ms and then lets it go at once.
    for number in 0..3_000_u64 {
        let within = number % 100;
        let stalled = (50..58).contains(&within);
        let arrival = if stalled { 20 * (number - within + 58) } else { 20 * number };
        line.advance_to(ms(arrival));
        line.send(number, &frame_of(number));
    }
    line.assert_continuous();
    assert!((0..3_000).all(|number| line.contains_once(number)));
    let surplus = line.heard.len() - 3_000;
    assert!(surplus <= 8, "the first stall may put the stream ahead, the next must not: {surplus} frames");
}

#[test]
fn a_stall_of_seconds_leaves_the_stream_at_most_200_ms_ahead() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..1_000_u64 {
        let arrival = if (100..200).contains(&number) { 4_000 } else { 20 * number };
        line.advance_to(ms(arrival));
        line.send(number, &frame_of(number));
    }
    line.assert_continuous();
    assert!((1_000..=1_011).contains(&line.heard.len()), "{} frames", line.heard.len());
    assert!((202..1_000).all(|number| line.contains_once(number)), "what comes in time again is all heard");
}

#[test]
fn a_lasting_change_of_delay_loses_nothing() {
    for (before_ms, after_ms) in [(20, 120), (120, 20)] {
        let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
        for number in 0..600_u64 {
            let delay = if number < 300 { before_ms } else { after_ms };
            let arrival = (20 * number + delay).max(if number < 300 { 0 } else { 20 * 299 + before_ms });
            line.advance_to(ms(arrival));
            line.send(number, &frame_of(number));
        }
        line.assert_continuous();
        assert!((0..600).all(|number| line.contains_once(number)));
    }
}

/// RFC 3551 section 4.1: in a pause nothing is sent and the timestamp goes on; the marker begins the next spurt.
#[test]
fn a_pause_of_the_sender_is_filled_with_silence_of_its_length() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Alaw));
    let mut sequence = 0;
    for number in 0..1_000_u64 {
        line.advance_to(ms(20 * number));
        if !(200..700).contains(&number) {
            line.packet(number == 700, 8, sequence, number as u32 * 160, &frame_of(number));
            sequence += 1;
        }
    }
    line.assert_continuous();
    assert_eq!(line.heard.len(), 1_000);
    assert!(line.heard[210..700].iter().all(|frame| frame.audio == [0xD5; FRAME_BYTES]));
    assert!((700..1_000).all(|number| line.heard[number].audio == frame_of(number as u64)));
    assert_eq!(line.session.statistics().packets_lost, 0);
}

#[test]
fn a_sender_whose_timestamp_stands_still_in_pauses_is_heard_at_once() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..400_u64 {
        line.advance_to(ms(20 * number + if number < 200 { 0 } else { 5_000 }));
        line.send(number, &frame_of(number));
    }
    line.assert_continuous();
    assert!((0..400).all(|number| line.contains_once(number)), "no word may be lost");
    assert!((645..=655).contains(&line.heard.len()), "{}", line.heard.len());
}

#[test]
fn timestamps_that_jump_do_not_break_the_stream() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    let jumps = [0_u32, 4_000_000_000, 17, 0x7FFF_FFFF, 0x1000_0000];
    for number in 0..500_u64 {
        line.advance_to(ms(20 * number));
        let timestamp = jumps[number as usize / 100].wrapping_add(number as u32 * 160);
        line.packet(false, 0, number as u16, timestamp, &frame_of(number));
    }
    line.assert_continuous();
    assert_eq!(line.heard.len(), 500);
    assert_eq!(line.session.statistics().timestamp_jumps, 4);
}

#[test]
fn another_source_goes_on_where_the_first_stopped() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..200_u64 {
        line.advance_to(ms(20 * number));
        if number == 100 {
            line.ssrc = 99;
        }
        let offset = if number < 100 { 0 } else { 30_000 };
        line.packet(
            false,
            0,
            (number + offset) as u16,
            (number * 160 + offset * 7) as u32,
            &frame_of(number),
        );
    }
    line.assert_continuous();
    let missing = (0..200).filter(|number| !line.contains_once(*number)).count();
    assert!(missing <= 1, "the packet that announces the new source may be lost, {missing} were");
    assert!((199..=202).contains(&line.heard.len()), "{}", line.heard.len());
    assert_eq!(line.session.statistics().source_changes, 1);
}

#[test]
fn silence_flows_when_nobody_ever_sends() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    line.advance_to(ms(10_000));
    line.assert_continuous();
    assert_eq!(line.heard.len(), 500);
    assert!(line.heard.iter().all(|frame| frame.audio == [0xFF; FRAME_BYTES]));
}

#[test]
fn packets_of_other_lengths_are_cut_into_frames_of_20_ms() {
    for packet_ms in [10_u64, 30, 40, 60] {
        let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
        let samples = packet_ms as usize * 8;
        let whole: Vec<u8> = (0..samples * 100).map(|at| (at * 31 % 251) as u8).collect();
        for (number, audio) in whole.chunks(samples).enumerate() {
            line.advance_to(ms(packet_ms * number as u64));
            line.packet(false, 0, number as u16, (number * samples) as u32, audio);
        }
        line.assert_continuous();
        let heard: Vec<u8> = line.heard.iter().flat_map(|frame| frame.audio.clone()).collect();
        assert_eq!(heard, whole[..heard.len()]);
        assert!(whole.len() - heard.len() < FRAME_BYTES);
    }
}

#[test]
fn a_stranger_is_neither_heard_nor_answered() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..100_u64 {
        line.advance_to(ms(20 * number));
        line.send(number, &frame_of(number));
        let stranger = "203.0.113.66:9999".parse().unwrap();
        let datagram = line.datagram(false, 0, 40_000, 7, &[0; 160]);
        assert_eq!(line.session.handle_rtp(line.now(), stranger, &datagram), Received::Stranger);
        assert_eq!(
            line.session.handle_rtcp(line.now(), stranger, &[0x80, 201, 0, 1, 0, 0, 0, 1]),
            Received::Stranger
        );
        assert_eq!(line.transmit().map(|sent| sent.0), Some(peer()));
    }
    assert!((0..100).all(|number| line.contains_once(number)));
    assert_eq!(line.session.statistics().strangers, 200);
    assert_eq!(line.session.statistics().latched, Some(peer()));
}

#[test]
fn what_was_not_negotiated_is_ignored() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for (payload_type, bytes) in [(18, 20), (8, 160), (127, 160)] {
        let datagram = line.datagram(false, payload_type, 0, 0, &vec![0; bytes]);
        assert_eq!(line.session.handle_rtp(line.now(), peer(), &datagram), Received::Ignored);
    }
    let datagram = line.datagram(false, 0, 0, 0, &[0; 5_000]);
    assert_eq!(line.session.handle_rtp(line.now(), peer(), &datagram), Received::Ignored);
    assert_eq!(line.session.statistics().latched, None, "rubbish does not latch");
    assert_eq!(line.session.statistics().malformed, 4);
}

#[test]
fn the_other_law_is_converted_code_by_code() {
    let parameters = MediaParameters {
        alternatives: [Some((Codec::PCMA, 8)), None],
        ..MediaParameters::plain(peer(), Law::Mulaw)
    };
    let mut line = Line::new(parameters);
    let alaw: Vec<u8> = (0..160).collect();
    line.packet(false, 8, 0, 0, &alaw);
    let expected: Vec<u8> =
        alaw.iter().map(|code| tandem_media::g711::transcode(Law::Alaw, Law::Mulaw, *code)).collect();
    assert_eq!(line.heard[0].audio.as_slice(), expected);
}

#[test]
fn a_digit_during_speech_is_one_digit_and_the_timeline_goes_on() {
    let event = TelephoneEvent { payload_type: 101, clock_hz: 8_000 };
    let parameters =
        MediaParameters { telephone_event: Some(event), ..MediaParameters::plain(peer(), Law::Mulaw) };
    let mut line = Line::new(parameters);
    let mut sequence = 0;
    let mut packet = |line: &mut Line, marker, payload_type, timestamp, payload: &[u8]| {
        line.packet(marker, payload_type, sequence, timestamp, payload);
        sequence += 1;
    };
    for number in 0..100_u32 {
        line.advance_to(ms(20 * u64::from(number)));
        match number {
            50..55 => {
                let duration = ((number - 49) * 160) as u16;
                let end = u8::from(number == 54) << 7;
                let payload = [5, end | 10, (duration >> 8) as u8, duration as u8];
                for _ in 0..if number == 54 { 3 } else { 1 } {
                    packet(&mut line, number == 50, 101, 50 * 160, &payload);
                }
            }
            _ => packet(&mut line, false, 0, number * 160, &frame_of(u64::from(number))),
        }
    }
    line.assert_continuous();
    assert_eq!(line.heard.len(), 100);
    assert!((55..100).all(|number| line.heard[number].audio[32..] == frame_of(number as u64)[32..]));
    assert_eq!(
        line.digits.iter().map(|digit| (digit.digit, digit.duration_ms)).collect::<Vec<_>>(),
        [('5', 100)]
    );
    assert_eq!(line.session.statistics().packets_lost, 0);
}

#[test]
fn after_a_drain_the_next_timeout_lies_ahead() {
    let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
    for number in 0..2_000_u64 {
        let at = 20_000 * number + number * 7_919 % 60_000;
        line.advance_to(Duration::from_micros(at.max(line.elapsed().as_micros() as u64)));
        if number % 7 != 3 {
            line.send(number, &frame_of(number));
        }
        assert!(line.session.poll_timeout().unwrap() > line.now());
    }
    line.assert_continuous();
}

/// Impairments of every kind at once, from many seeds: nothing panics, time stays continuous, the stream
/// neither stops nor runs away.
#[test]
fn any_network_leaves_the_timeline_whole() {
    for seed in 1..60_u64 {
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut line = Line::new(MediaParameters::plain(peer(), Law::Mulaw));
        let (loss, spread_us) = (next(30), 1 + next(150_000));
        let mut arrivals = Vec::new();
        for number in 0..1_000_u64 {
            for _ in 0..1 + u64::from(next(20) == 0) {
                if next(100) >= loss {
                    arrivals.push((number * 20_000 + next(spread_us), number));
                }
            }
        }
        arrivals.sort_unstable();
        for (at_us, number) in arrivals {
            line.advance_to(Duration::from_micros(at_us));
            line.send(number, &frame_of(number));
        }
        line.advance_to(ms(20_500));
        line.assert_continuous();
        let frames = line.heard.len();
        assert!(
            (1_000..=1_045).contains(&frames),
            "seed {seed}: {frames} frames in 20.5 s, loss {loss} %, {spread_us} µs"
        );
    }
}

/// A stand-in for a wideband telephone: a tone of 5 kHz, which no G.711 carries.
fn wideband_tone(number: u64) -> Vec<i16> {
    let step = std::f64::consts::TAU * 5_000.0 / 16_000.0;
    (0..320).map(|at| (6_000.0 * ((number * 320 + at) as f64 * step).sin()) as i16).collect()
}

#[test]
fn g722_is_heard_in_16_khz_at_once() {
    let mut line = Line::new(MediaParameters::plain(peer(), Codec::G722));
    let mut encoder = tandem_media::g722::Encoder::default();
    for number in 0..100 {
        line.advance_to(ms(20 * number + 5));
        let mut payload = Vec::new();
        encoder.encode(&wideband_tone(number), &mut payload);
        line.send(number, &payload);
        assert_eq!(line.heard.len() as u64, number + 1, "frame {number} must not wait");
    }
    line.assert_continuous();
    let mut heard = Vec::new();
    for frame in &line.heard[50..] {
        assert_eq!(frame.audio.len(), 640);
        tandem_media::g711::l16_le_into(&frame.audio, &mut heard);
    }
    let level = heard.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / heard.len() as f64;
    assert!((level / 18e6 - 1.0).abs() < 0.1, "{level}");
    assert_eq!(line.session.statistics().concealed_frames, 0);
}

/// Whatever the codecs of both negotiations, time and the form of the audio stay what they were.
#[test]
fn a_renegotiated_codec_does_not_change_the_form_of_the_session() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let mut line = Line::new(MediaParameters::plain(peer(), from));
            for number in 0..100 {
                line.advance_to(ms(20 * number + 5));
                if number == 50 {
                    line.session.update(MediaParameters::plain(peer(), to));
                }
                line.send(number, &[0x5A; 160]);
                let (_, sent) = line.transmit_audio(&vec![0x11; from.coding().bytes_per_ms() * 20]).unwrap();
                assert_eq!(sent.len(), 172, "{from:?} to {to:?}");
            }
            line.assert_continuous();
            assert!(line.heard.iter().all(|frame| frame.audio.len() == from.coding().bytes_per_ms() * 20));
            assert_eq!((line.heard.len(), line.session.statistics().concealed_frames), (100, 0));
        }
    }
}

/// RFC 3389: a pause is filled with noise of the level its sender described, until the sender speaks again.
#[test]
fn a_described_pause_is_filled_with_noise_of_its_level() {
    for law in [Law::Mulaw, Law::Alaw] {
        let mut line = Line::new(MediaParameters::plain(peer(), law));
        for number in 0..50 {
            line.advance_to(ms(20 * number + 5));
            line.send(number, &frame_of(number));
        }
        line.advance_to(ms(1_005));
        line.packet(false, 13, 50, 50 * 160, &[50]);
        line.advance_to(ms(3_000));
        let level = |frames: &[crate::line::Heard]| {
            let samples: Vec<f64> = frames
                .iter()
                .flat_map(|frame| &frame.audio)
                .map(|code| f64::from(tandem_media::g711::decode(law, *code)))
                .collect();
            let power = samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64;
            20.0 * (power.sqrt() / 32_768.0).log10()
        };
        let found = level(&line.heard[55..]);
        assert!((found + 50.0).abs() < 1.5, "{found:.1} dBov");
        assert_eq!(line.session.statistics().concealed_frames, 0, "nothing was lost");
        // A quieter description in mid-pause.
        line.packet(false, 13, 51, 150 * 160, &[65]);
        line.advance_to(ms(5_000));
        let found = level(&line.heard[160..]);
        assert!((found + 65.0).abs() < 3.0, "{found:.1} dBov");
        line.packet(true, law.payload_type(), 52, 250 * 160, &frame_of(9));
        assert_eq!(line.heard.last().unwrap().audio, frame_of(9));
        line.assert_continuous();
    }
}
