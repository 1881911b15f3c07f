//! Calls that Tandem places, drawn from a seed: what the gateways make of them, and what the telephone does.

use std::time::Duration;

use tandem_media::Law;

use super::Plan;
use crate::carrier::digest::{Credentials, DigestTrick};
use crate::carrier::order::{Demands, GatewayPlan, LookUp, OrderPlan, Then};
use crate::carrier::script::{Act, CallPlan, Change, Refresher, Step, after_answer};
use crate::carrier::sdp::Flowing;
use crate::dice::Dice;

/// Calls that Tandem places, beside those that it takes. They are drawn apart, so that a seed's other calls stay what they
/// were.
pub(super) fn add(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed ^ 0x0dde_25ca_11ed);
    if !dice.chance(450) {
        return;
    }
    let gateways = dice.between(1, 3) as usize;
    for _ in 0..dice.between(1, 4) {
        let number = dice.pick(&plan.numbers).clone();
        let index = plan.calls.len();
        let mut call = CallPlan::plain(number.carrier, 0x0100 + index as u16, &number.number);
        call.start = dice.millis(0, 4000);
        call.from = format!("+1900{index:04}");
        call.reports = dice.chance(800);
        call.nat = dice.chance(150);
        if let Some((username, password)) = plan.carriers[number.carrier].userpass.clone() {
            call.credentials = Some(Credentials { username, password, trick: DigestTrick::Honest });
        }
        call.offer.ptime_ms = *dice.pick(&[20, 20, 20, 30, 10]);
        call.offer.laws = match dice.below(4) {
            0 => vec![Law::Alaw, Law::Mulaw],
            1 => vec![Law::Alaw],
            _ => vec![Law::Mulaw, Law::Alaw],
        };
        call.session_timer = dice.chance(200).then(|| (90 + dice.below(200) as u32, Refresher::Unsaid));
        call.steps = called_steps(&mut dice);
        if call.session_timer.is_some() && dice.chance(400) {
            // It outlives half of its session's interval, and Tandem has to refresh it.
            call.steps = vec![after_answer(dice.between(150_000, 200_000), Act::Bye)];
        }
        let ringing = dice.millis(3000, 12_000);
        let round_trip = plan.carriers[call.carrier].sip.delay * 2;
        call.ordered = Some(OrderPlan { gateways: met(&mut dice, gateways, ringing, round_trip), ringing });
        plan.calls.push(call);
    }
}

/// What a telephone does that was called.
fn called_steps(dice: &mut Dice) -> Vec<Step> {
    let mut steps = vec![after_answer(dice.between(300, 6000), Act::Bye)];
    match dice.below(8) {
        0 => steps.push(after_answer(dice.between(100, 2500), Act::Press('7'))),
        1 => steps.push(after_answer(dice.between(100, 2500), Act::Reinvite(Change::Refresh))),
        2 => {
            let flowing = *dice.pick(&[Flowing::SendOnly, Flowing::Inactive]);
            steps.push(after_answer(dice.between(100, 1500), Act::Reinvite(Change::Direction(flowing))));
        }
        3 => steps.push(after_answer(0, Act::Bye)),
        4 => steps.push(after_answer(dice.between(0, 1500), Act::StrangerRtp(20))),
        _ => {}
    }
    steps
}

/// What an order meets at so many gateways: those before the last mostly fail in a way that sends the call on.
fn met(dice: &mut Dice, gateways: usize, ringing: Duration, round_trip: Duration) -> Vec<GatewayPlan> {
    let mut all = Vec::new();
    let mut is_answered = false;
    for index in 0..gateways {
        let after = dice.millis(0, 2500);
        let rings = dice.chance(700);
        let status = *dice.pick(&[503, 500, 408, 478, 486, 603, 404, 480, 302]);
        let is_last = index + 1 == gateways;
        let then = match dice.below(if is_last { 14 } else { 8 }) {
            0 => Then::Unreachable,
            1 => Then::Silence,
            2 => Then::RingsForEver,
            3 => Then::Trying,
            4..=6 => Then::Refuses { rings: rings && dice.chance(300), after, status },
            _ if is_answered => Then::Refuses { rings: false, after, status: 503 },
            // Some answer as the order gives up waiting.
            _ if dice.chance(120) => {
                let after = ringing - dice.millis(0, round_trip.as_millis() as u64);
                Then::Answers { rings: true, after, forks: false }
            }
            _ => Then::Answers { rings, after, forks: dice.chance(120) },
        };
        is_answered |= matches!(then, Then::Answers { .. });
        let look_up = match dice.below(12) {
            0 => LookUp::Nothing(dice.millis(1, 3000)),
            1 => LookUp::Lie,
            2 => LookUp::LieFirst,
            _ => LookUp::Found(dice.millis(0, 400)),
        };
        let demands = *dice.pick(&[Demands::Once, Demands::Once, Demands::Stale, Demands::Forever]);
        let challenge = dice.chance(250).then(|| (*dice.pick(&[401, 407]), demands));
        all.push(GatewayPlan { look_up, challenge, then });
    }
    all
}
