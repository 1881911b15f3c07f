//! The egress queue by behaviour: when marks fire, what a flush leaves, when silence fills a frame.

use tandem_media::playout::{
    Cause, Fired, FlushPolicy, Heard, MARKERS_MAX, MarkId, MarkerKind, Playout, TickResult,
};
use tandem_media::{FRAME_BYTES, Law};

const SILENT: [u8; FRAME_BYTES] = [0xFF; FRAME_BYTES];

fn playout() -> Playout {
    Playout::new(Law::Mulaw)
}

fn tick(playout: &mut Playout) -> (TickResult, [u8; FRAME_BYTES]) {
    let mut frame = [0; FRAME_BYTES];
    let result = playout.tick(&mut frame);
    (result, frame)
}

fn ticks(playout: &mut Playout, count: usize) {
    for _ in 0..count {
        tick(playout);
    }
}

fn fired(playout: &mut Playout) -> Vec<(u64, Cause)> {
    std::iter::from_fn(|| playout.poll_fired()).map(|fired| (fired.id.0, fired.cause)).collect()
}

const fn audio(bytes: usize) -> TickResult {
    TickResult::Audio { bytes }
}

#[test]
fn audio_leaves_in_order_bit_for_bit_across_messages_of_any_size() {
    for size in [1, 100, 160, 333, 8_000] {
        let mut playout = playout();
        let speech: Vec<u8> = (0..16_000).map(|at| (at * 7 % 251) as u8).collect();
        for message in speech.chunks(size) {
            playout.push_audio(message).unwrap();
        }
        let mut heard = Vec::new();
        while !playout.is_empty() {
            heard.extend(tick(&mut playout).1);
        }
        assert_eq!(heard, speech);
    }
}

#[test]
fn an_empty_queue_gives_silence_of_its_law() {
    assert_eq!(tick(&mut playout()), (TickResult::Silence, SILENT));
    let mut alaw = Playout::new(Law::Alaw);
    assert_eq!(tick(&mut alaw).1, [0xD5; FRAME_BYTES]);
}

#[test]
fn a_mark_fires_one_tick_after_the_audio_before_it_left_and_not_before() {
    let mut playout = playout();
    playout.push_audio(&[1; 320]).unwrap();
    playout.push_mark(MarkId(7)).unwrap();
    playout.push_audio(&[2; 160]).unwrap();
    assert_eq!(fired(&mut playout), [], "never when it is queued");
    tick(&mut playout);
    assert_eq!(fired(&mut playout), []);
    tick(&mut playout);
    assert_eq!(fired(&mut playout), [], "its audio is still under way");
    assert_eq!(tick(&mut playout), (audio(160), [2; FRAME_BYTES]));
    assert_eq!(fired(&mut playout), [(7, Cause::Played)]);
}

#[test]
fn a_mark_on_an_empty_queue_fires_at_the_next_tick() {
    let mut playout = playout();
    playout.push_mark(MarkId(1)).unwrap();
    assert_eq!(fired(&mut playout), []);
    tick(&mut playout);
    assert_eq!(fired(&mut playout), [(1, Cause::Played)]);
}

#[test]
fn marks_within_a_frame_fire_with_it_in_order() {
    let mut playout = playout();
    for mark in 0..4 {
        playout.push_mark(MarkId(mark)).unwrap();
        playout.push_audio(&[9; 40]).unwrap();
    }
    playout.push_completed(MarkId(4)).unwrap();
    tick(&mut playout);
    assert_eq!(fired(&mut playout), [(0, Cause::Played)]);
    tick(&mut playout);
    assert_eq!(fired(&mut playout).iter().map(|fired| fired.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn thousands_of_marks_each_fire_once_at_their_own_tick() {
    let mut playout = playout();
    for mark in 0..1_000 {
        playout.push_audio(&[3; 160]).unwrap();
        playout.push_mark(MarkId(mark)).unwrap();
    }
    for number in 0..1_000 {
        tick(&mut playout);
        let expected: Vec<_> = (number > 0).then(|| (number - 1, Cause::Played)).into_iter().collect();
        assert_eq!(fired(&mut playout), expected);
    }
    tick(&mut playout);
    assert_eq!(fired(&mut playout), [(999, Cause::Played)]);
}

#[test]
fn a_flush_takes_audio_and_treats_marks_by_policy() {
    let cases = [
        (FlushPolicy::Echo, vec![(1, Cause::Echoed), (2, Cause::Echoed), (3, Cause::Played)]),
        (FlushPolicy::Cleared, vec![(1, Cause::Cleared), (2, Cause::Cleared), (3, Cause::Played)]),
        (FlushPolicy::Drop, vec![(3, Cause::Played)]),
    ];
    for (policy, expected) in cases {
        let mut playout = playout();
        playout.push_audio(&[1; 800]).unwrap();
        playout.push_mark(MarkId(1)).unwrap();
        playout.push_completed(MarkId(2)).unwrap();
        tick(&mut playout);
        let flushed = playout.flush(policy);
        assert_eq!((flushed.bytes, flushed.markers), (640, 2));
        playout.push_mark(MarkId(3)).unwrap();
        playout.push_audio(&[2; 160]).unwrap();
        assert_eq!(tick(&mut playout), (audio(160), [2; FRAME_BYTES]), "nothing older leaves");
        assert_eq!(fired(&mut playout), expected);
        assert_eq!(playout.counters().flushed_bytes, 640);
    }
}

#[test]
fn a_second_flush_changes_nothing() {
    let mut playout = playout();
    playout.push_audio(&[1; 800]).unwrap();
    playout.push_mark(MarkId(1)).unwrap();
    playout.flush(FlushPolicy::Echo);
    assert_eq!(fired(&mut playout).len(), 1);
    let again = playout.flush(FlushPolicy::Echo);
    assert_eq!((again.bytes, again.markers), (0, 0));
    assert_eq!(fired(&mut playout), []);
    assert_eq!(playout.counters().flushes, 1);
}

#[test]
fn the_heard_position_counts_what_truly_left() {
    let mut playout = playout();
    assert_eq!(playout.heard(), Heard { utterance: 0, ms: 0 });
    playout.push_audio(&[1; 8_000]).unwrap();
    for _ in 0..15 {
        tick(&mut playout);
    }
    assert_eq!(playout.heard(), Heard { utterance: 1, ms: 300 });
    let flushed = playout.flush(FlushPolicy::Drop);
    assert_eq!(flushed.heard, Heard { utterance: 1, ms: 300 });
    for _ in 0..10 {
        tick(&mut playout);
    }
    assert_eq!(playout.heard(), Heard { utterance: 1, ms: 300 }, "what was flushed was not heard");
    playout.push_audio(&[1; 480]).unwrap();
    playout.push_mark(MarkId(1)).unwrap();
    assert_eq!(playout.heard().utterance, 1, "not begun");
    ticks(&mut playout, 4);
    assert_eq!(playout.poll_fired().unwrap().heard, Heard { utterance: 2, ms: 60 });
}

#[test]
fn marks_know_their_own_utterance_though_others_are_queued_behind() {
    let mut playout = playout();
    assert_eq!(playout.begin_utterance(), 1);
    playout.push_audio(&[1; 1_600]).unwrap();
    playout.push_mark(MarkId(1)).unwrap();
    assert_eq!(playout.begin_utterance(), 2);
    playout.push_audio(&[2; 1_600]).unwrap();
    playout.push_mark(MarkId(2)).unwrap();
    ticks(&mut playout, 12);
    assert_eq!(playout.poll_fired().unwrap().heard, Heard { utterance: 1, ms: 200 });
    assert_eq!(playout.heard(), Heard { utterance: 2, ms: 40 });
    playout.flush(FlushPolicy::Cleared);
    let cleared = playout.poll_fired().unwrap();
    assert_eq!((cleared.cause, cleared.heard), (Cause::Cleared, Heard { utterance: 2, ms: 40 }));
}

#[test]
fn the_end_of_speech_is_filled_up_with_silence() {
    let mut playout = playout();
    playout.push_audio(&[1; 200]).unwrap();
    playout.push_mark(MarkId(1)).unwrap();
    assert_eq!(tick(&mut playout), (audio(160), [1; FRAME_BYTES]));
    let (result, frame) = tick(&mut playout);
    assert_eq!(result, audio(40));
    assert!(frame[..40] == [1; 40] && frame[40..] == SILENT[40..]);
    assert_eq!(fired(&mut playout), []);
    tick(&mut playout);
    assert_eq!(fired(&mut playout), [(1, Cause::Played)]);
    assert_eq!(playout.counters().padded_frames, 1);
}

/// A source in real time whose messages are no whole frames: after the first hesitation there is no more
/// silence in its audio.
#[test]
fn a_remainder_waits_for_its_rest_while_the_source_is_speaking() {
    let mut playout = playout();
    let mut heard = Vec::new();
    for step in 0..1_000_u32 {
        // 100 bytes each 12.5 ms, ticks each 20 ms.
        if step % 5 == 0 {
            playout.push_audio(&[(step % 200) as u8; 100]).unwrap();
        }
        if step % 8 == 7 {
            heard.extend(tick(&mut playout).1);
        }
    }
    let first = heard.iter().position(|code| *code != 0xFF).unwrap();
    assert!(first <= 320);
    assert!(!heard[first..].contains(&0xFF), "no silence within the speech");
    assert_eq!(playout.counters().padded_frames, 0);
}

#[test]
fn an_underrun_is_silence_and_is_counted_once() {
    let mut playout = playout();
    playout.push_audio(&[1; 160]).unwrap();
    ticks(&mut playout, 4);
    playout.push_audio(&[1; 160]).unwrap();
    ticks(&mut playout, 4);
    assert_eq!(playout.counters().underruns, 2);
}

#[test]
fn a_pause_holds_audio_and_marks() {
    let mut playout = playout();
    playout.push_audio(&[1; 160]).unwrap();
    playout.push_mark(MarkId(1)).unwrap();
    playout.pause();
    playout.request_drained();
    for _ in 0..5 {
        assert_eq!(tick(&mut playout), (TickResult::Silence, SILENT));
    }
    assert_eq!(fired(&mut playout), []);
    playout.flush(FlushPolicy::Drop);
    assert!(playout.is_paused(), "a flush does not end a pause");
    playout.push_audio(&[2; 160]).unwrap();
    playout.resume();
    assert_eq!(tick(&mut playout).1, [2; FRAME_BYTES]);
}

#[test]
fn drained_is_reported_once_at_the_tick_that_finds_the_queue_empty() {
    let mut playout = playout();
    playout.push_audio(&[1; 320]).unwrap();
    playout.push_mark(MarkId(5)).unwrap();
    playout.request_drained();
    tick(&mut playout);
    tick(&mut playout);
    assert_eq!(fired(&mut playout), []);
    tick(&mut playout);
    let reports: Vec<Fired> = std::iter::from_fn(|| playout.poll_fired()).collect();
    assert_eq!(
        reports.iter().map(|fired| fired.kind).collect::<Vec<_>>(),
        [MarkerKind::Mark, MarkerKind::Drained]
    );
    tick(&mut playout);
    assert_eq!(fired(&mut playout), []);
}

#[test]
fn the_queue_is_bounded_and_says_what_it_refused() {
    let mut playout = Playout::with_capacity_bytes(Law::Mulaw, 1_000);
    playout.push_audio(&[1; 900]).unwrap();
    assert_eq!(playout.push_audio(&[2; 300]).unwrap_err().refused, 200);
    assert_eq!(playout.push_audio(&[2; 1]).unwrap_err().refused, 1);
    assert_eq!((playout.len(), playout.queued_ms()), (1_000, 125));
    assert_eq!(playout.counters().refused_bytes, 201);
    let marks = (0..40_000).filter(|mark| playout.push_mark(MarkId(*mark)).is_ok()).count();
    assert_eq!(marks, MARKERS_MAX);
    playout.flush(FlushPolicy::Echo);
    assert!(playout.push_mark(MarkId(0)).is_err(), "what waits to be polled counts too");
    while playout.poll_fired().is_some() {}
    playout.push_mark(MarkId(0)).unwrap();
}

#[test]
fn minutes_of_burst_fit_and_flush_at_once() {
    let mut playout = playout();
    let minute = vec![1; 60 * 8_000];
    for _ in 0..10 {
        playout.push_audio(&minute).unwrap();
    }
    assert!(playout.push_audio(&[1]).is_err());
    tick(&mut playout);
    assert_eq!(playout.flush(FlushPolicy::Drop).bytes, 10 * 60 * 8_000 - 160);
    assert_eq!(tick(&mut playout), (TickResult::Silence, SILENT));
}

#[test]
fn frames_of_other_lengths_are_served() {
    let mut playout = playout();
    playout.push_audio(&[1; 500]).unwrap();
    playout.push_mark(MarkId(1)).unwrap();
    let mut frame = [0; 240];
    assert_eq!(playout.tick(&mut frame), audio(240));
    assert_eq!(playout.tick(&mut frame), audio(240));
    assert_eq!(playout.tick(&mut frame), audio(20));
    assert_eq!(fired(&mut playout), []);
    assert_eq!(playout.tick(&mut frame), TickResult::Silence);
    assert_eq!(fired(&mut playout), [(1, Cause::Played)]);
}

/// Any order of operations: bytes are conserved, each mark fires at most once and in order, and what
/// leaves is what was pushed, less what was flushed.
#[test]
fn random_operations_keep_the_books() {
    for seed in 1..200_u64 {
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut playout = Playout::with_capacity_bytes(Law::Mulaw, 20_000);
        let (mut marks, mut last_fired, mut ticks) = (0, None, 0);
        for _ in 0..2_000 {
            match next(10) {
                0..=2 => {
                    let _ = playout.push_audio(&vec![next(200) as u8; next(900) as usize]);
                }
                3 => {
                    playout.push_mark(MarkId(marks)).unwrap();
                    marks += 1;
                }
                4 if next(10) == 0 => {
                    playout.flush(FlushPolicy::Drop);
                }
                5 if next(10) == 0 => playout.pause(),
                6 => playout.resume(),
                _ => {
                    tick(&mut playout);
                    ticks += 1;
                }
            }
            while let Some(fired) = playout.poll_fired() {
                assert!(last_fired < Some(fired.id.0));
                last_fired = Some(fired.id.0);
            }
            let counters = playout.counters();
            let accounted = counters.played_bytes + counters.flushed_bytes + playout.len() as u64;
            assert_eq!(counters.pushed_bytes, accounted);
            assert!(counters.played_bytes <= ticks * 160);
        }
    }
}
