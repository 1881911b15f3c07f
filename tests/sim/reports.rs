//! RTCP both ways: what Tandem reports is what came, and the round trip it learns is that of the path (RFC 3550 6.4).

use std::time::Duration;

use tandem_tests::carrier::script::{Act, CallPlan, after_answer};
use tandem_tests::marks::Mark;
use tandem_tests::swarm::{Cut, NUMBER};

use crate::{quiet, run};

fn long() -> CallPlan {
    CallPlan::plain(0, 0x1201, NUMBER).with(vec![after_answer(30_000, Act::Bye)])
}

/// The checks hold each report against what truly came; here it is seen that there are reports, and of what path.
#[test]
fn reports_tell_the_round_trip_and_what_was_lost() {
    for seed in 0..6 {
        let mut plan = quiet().call(long());
        plan.seed = seed;
        plan.heal_at = Duration::from_secs(60);
        plan.carriers[0].rtp.delay = Duration::from_millis(40);
        plan.carriers[0].rtp.loss = 100;
        let report = run(plan);
        assert!(report.marks.contains_key(&Mark::ReportsBothWays), "seed {seed}");
        let call = &report.calls[0];
        let rtp = call.statistics.as_ref().expect("a bridge").rtp;
        assert!(rtp.rtcp_sent >= 4 && rtp.rtcp_received >= 4, "{rtp:?}");
        let round_trip = rtp.round_trip_us.expect("a round trip");
        assert!((79_900..80_200).contains(&round_trip), "twice 40 ms: {round_trip} us");
        assert!((80..230).contains(&rtp.packets_lost), "a tenth of 1500: {}", rtp.packets_lost);
        assert!(
            rtp.remote_lost.is_some_and(|lost| lost > 50),
            "a tenth of what was sent: {:?}",
            rtp.remote_lost
        );
        let media = &call.record.as_ref().expect("a record").media;
        assert_eq!(media.round_trip_us, rtp.round_trip_us.map(u64::from));
        assert_eq!(media.remote_packets_lost, rtp.remote_lost);
    }
}

/// Jitter of the path shows in our reports and in the record.
#[test]
fn reports_tell_the_jitter() {
    let mut plan = quiet().call(long());
    plan.heal_at = Duration::from_secs(60);
    plan.carriers[0].rtp.jitter = Duration::from_millis(12);
    let report = run(plan);
    let jitter_us = report.calls[0].statistics.as_ref().expect("a bridge").rtp.jitter_us;
    // Two draws from 0 to 12 ms are 4 ms apart on average.
    assert!((2_000..7_000).contains(&jitter_us), "{jitter_us} us");
}

/// A path that is cut for three seconds, either way, loses what was said; the call goes on.
#[test]
fn a_cut_of_the_media_is_survived() {
    for to_tandem in [true, false] {
        let mut plan = quiet().call(long());
        let (from, lasts) = (Duration::from_secs(5), Duration::from_secs(3));
        plan.cuts.push(Cut { carrier: 0, is_rtp: true, to_tandem, from, lasts });
        let report = run(plan);
        let rtp = report.calls[0].statistics.as_ref().expect("a bridge").rtp;
        let expected = if to_tandem { 148..152 } else { 0..1 };
        assert!(expected.contains(&rtp.packets_lost), "{to_tandem}: {}", rtp.packets_lost);
        assert_eq!(
            report.calls[0].record.as_ref().expect("a record").hangup_by,
            Some(tandem_call::HangupBy::Caller)
        );
    }
}
