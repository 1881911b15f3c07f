//! Bad networks: jitter, loss in bursts, partitions of the media, drifting clocks, moved ports.

use std::time::Duration;

use tandem_call::{CallStatus, HangupReason};
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, Talk, after_answer};
use tandem_tests::swarm::{Cut, NUMBER};

use crate::{quiet, run};

fn plain() -> CallPlan {
    CallPlan::plain(0, 0x1101, NUMBER)
}

/// Jitter within what the buffer adapts to: nearly all audio is heard, in order.
#[test]
fn jitter_is_smoothed() {
    for seed in 0..10 {
        let mut plan = quiet().call(plain().with(vec![after_answer(10_000, Act::Bye)]));
        plan.seed = seed;
        plan.carriers[0].rtp.jitter = Duration::from_millis(35);
        let report = run(plan);
        let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
        assert!(blocks > 3600, "seed {seed}: {blocks} of 4000 blocks");
    }
}

/// Loss in bursts is concealed: the stream towards the agent has no hole, and comes back to speech.
#[test]
fn bursts_of_loss_are_concealed() {
    for seed in 0..10 {
        let mut plan = quiet().call(plain().with(vec![after_answer(10_000, Act::Bye)]));
        plan.seed = seed;
        plan.carriers[0].rtp.burst_start = 10;
        plan.carriers[0].rtp.burst_continue = 850;
        let report = run(plan);
        let ingress = report.calls[0].ingress.as_ref().expect("an agent");
        assert!(ingress.audio_ms > 9900, "seed {seed}: {} ms", ingress.audio_ms);
        assert!(ingress.blocks > 3000, "seed {seed}: {} blocks", ingress.blocks);
    }
}

/// Ten minutes with a clock 200 ppm off, fast and slow: no drift builds up and hardly a frame is lost.
#[test]
fn drifting_clocks_do_not_add_up() {
    for skew_ppm in [-200, 200] {
        let mut call = plain().with(vec![after_answer(600_000, Act::Bye)]);
        call.skew_ppm = skew_ppm;
        let mut plan = quiet().call(call);
        plan.heal_at = Duration::from_secs(620);
        let report = run(plan);
        let ingress = report.calls[0].ingress.as_ref().expect("an agent");
        // 200 ppm of ten minutes are 120 ms: six frames; every frame is 8 blocks.
        let spoken = 600_000 / 20 * 8;
        assert!(ingress.blocks > spoken - 30 * 8, "{skew_ppm} ppm: {} of {spoken} blocks", ingress.blocks);
    }
}

/// Symmetric RTP: media that comes from another port than the SDP names is taken, and answered there.
#[test]
fn media_behind_a_nat_is_latched_once() {
    let mut call = plain();
    call.nat = true;
    let report = run(quiet().call(call));
    assert!(report.calls[0].ingress.as_ref().expect("an agent").blocks > 1100);
}

/// Once latched, another port is a stranger's, even of the same host: nothing moves without signalling.
#[test]
fn a_port_that_moves_in_silence_is_not_followed() {
    let report = run(
        quiet().call(plain().with(vec![after_answer(1500, Act::MovePort), after_answer(4000, Act::Bye)]))
    );
    let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
    assert!((550..650).contains(&blocks), "{blocks} blocks: those of the first second and a half");
}

/// A sender that restarts with other numbers is heard again.
#[test]
fn a_restarted_sender_is_heard_again() {
    let report =
        run(quiet()
            .call(plain().with(vec![after_answer(1500, Act::RestartRtp), after_answer(4000, Act::Bye)])));
    let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
    assert!(blocks > 1400, "{blocks} blocks");
}

/// A caller whose media stops, reports and all, is ended after the media timeout, and the record says why.
#[test]
fn silence_of_the_media_ends_the_call() {
    let mut caller = plain().with(vec![after_answer(1000, Act::Mute), after_answer(90_000, Act::Bye)]);
    caller.reports = false;
    let report = run(quiet().call(caller));
    let call = &report.calls[0];
    assert_eq!(call.outcome.ending, Some(Ending::Tandem));
    let record = call.record.as_ref().expect("a record");
    assert_eq!(record.hangup_reason, Some(HangupReason::InactivityTimeout));
    assert_ne!(record.status, CallStatus::InProgress);
}

/// A caller that sends no audio and goes on sending reports is there, and is left alone.
#[test]
fn a_silent_caller_that_reports_is_kept() {
    let caller = plain().with(vec![after_answer(1000, Act::Mute), after_answer(90_000, Act::Bye)]);
    let report = run(quiet().call(caller));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
}

/// A caller that never says a word is ended too.
#[test]
fn a_caller_without_media_is_ended() {
    let mut call = plain().with(vec![after_answer(90_000, Act::Bye)]);
    call.talk = Talk::Silent;
    assert_eq!(run(quiet().call(call)).calls[0].outcome.ending, Some(Ending::Tandem));
}

/// Signalling over a path that loses a quarter, duplicates and reorders: every call ends well or is refused cleanly.
#[test]
fn signalling_survives_a_bad_path() {
    for seed in 0..30 {
        let mut plan = quiet().call(plain()).call(CallPlan::plain(0, 0x1102, NUMBER));
        plan.seed = seed;
        let sip = &mut plan.carriers[0].sip;
        (sip.loss, sip.duplicate, sip.reorder) = (250, 60, 60);
        sip.reorder_by = Duration::from_millis(700);
        run(plan);
    }
}

/// Signalling that is garbled or cut short on its way, and paths that are cut: nothing breaks, nothing is left.
#[test]
fn garbled_signalling_and_cut_paths_leave_nothing_behind() {
    for seed in 0..20 {
        let mut plan = quiet().call(plain()).call(CallPlan::plain(0, 0x1103, NUMBER));
        plan.seed = seed;
        plan.carriers[0].sip.garble = 150;
        let (from, lasts) = (Duration::from_millis(1500), Duration::from_millis(900));
        plan.cuts.push(Cut { carrier: 0, is_rtp: false, to_tandem: seed % 2 == 0, from, lasts });
        run(plan);
    }
}

/// Comfort noise stands for a pause: the agent hears silence of its length, and then the caller again.
#[test]
fn comfort_noise_is_a_pause() {
    let steps = vec![after_answer(1000, Act::Hush(1000)), after_answer(4000, Act::Bye)];
    let report = run(quiet().call(plain().with(steps)));
    let ingress = report.calls[0].ingress.as_ref().expect("an agent");
    assert!((1150..1220).contains(&ingress.blocks), "three of four seconds: {} blocks", ingress.blocks);
    assert!(ingress.audio_ms > 3900, "{} ms", ingress.audio_ms);
}
