//! The dry run says of an INVITE what becomes of it when it comes: by random houses and random callers.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tandem_call::{DryRun, EngineConfig, Input, MediaEncryption, Trunk, TrunkAuth, Verdict, VerdictCode};
use tandem_media::Codec;
use tandem_sip::Transport;

use crate::desk::{Caller, Desk, OFFER, Ports, house_with};

struct Dice(ChaCha12Rng);

impl Dice {
    fn one_in(&mut self, sides: u32) -> bool {
        self.0.next_u32().is_multiple_of(sides)
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.0.next_u32() as usize % choices.len()]
    }
}

fn asked(message: &str, source: &str) -> DryRun {
    DryRun {
        message: Bytes::copy_from_slice(message.as_bytes()),
        source: source.parse().unwrap(),
        transport: Transport::Udp,
        proven: None,
    }
}

/// All of a verdict that does not depend on when it was given.
fn essence(verdict: &Verdict) -> Verdict {
    Verdict { id: uuid::Uuid::nil(), at_unix_ms: 0, call: None, ..verdict.clone() }
}

fn change(trunks: &mut Vec<Trunk>, dice: &mut Dice) {
    let mut by_digest = Trunk::new("td", "d", "digest");
    by_digest.inbound_enabled = !dice.one_in(4);
    by_digest.auth = TrunkAuth::user_pass("u", "p");
    if dice.one_in(3) {
        by_digest.sources.push("198.51.100.0/24".parse().unwrap());
    }
    trunks.push(by_digest);
    for trunk in trunks {
        trunk.is_active = !dice.one_in(6);
        trunk.inbound_enabled &= !dice.one_in(6);
        if dice.one_in(5) {
            trunk.codecs = vec![Codec::PCMA];
        }
        if dice.one_in(8) {
            trunk.media_encryption = MediaEncryption::Sdes;
            trunk.media_encryption_optimistic = dice.one_in(2);
        }
        trunk.limits.calls_in = dice.one_in(3).then_some(1);
        trunk.limits.calls_total = dice.one_in(6).then_some(0);
        trunk.limits.calls_per_second = dice.one_in(4).then_some(0.5);
    }
}

#[test]
fn what_the_dry_run_says_is_what_becomes_of_the_invite() {
    let mut codes = std::collections::BTreeSet::new();
    for seed in 0..2_000 {
        let mut dice = Dice(ChaCha12Rng::seed_from_u64(seed));
        let table = house_with(|trunks| change(trunks, &mut dice));
        let mut desk = Desk::with(EngineConfig::default(), table);
        // The bridge is never had: a call that is let in stays so, and its INVITE's verdict is still to come.
        desk.ports = Ports::Silent;
        if dice.one_in(12) {
            desk.input(Input::Drain { until: desk.now + std::time::Duration::from_secs(600) });
        }
        for number in 0..3 {
            let mut caller = Caller::new();
            caller.call_id = format!("{seed}-{number}@carrier");
            caller.address =
                dice.of(&["192.0.2.1:5060", "192.0.2.9:5060", "198.51.100.7:5060", "203.0.113.77:5060"]);
            caller.uri = dice
                .of(&[
                    "sip:+918047102030@203.0.113.1",
                    "sip:918047102030@203.0.113.1",
                    "sip:+14155550100@203.0.113.1",
                    "sip:+15550000000@203.0.113.1",
                    "sip:nobody@203.0.113.1",
                    "tel:+918047102030",
                    "sip:203.0.113.1",
                ])
                .to_owned();
            caller.extra = dice.of(&["", "", "", "Require: foo\r\n", "User-Agent: x\r\n"]).to_owned();
            caller.offer = match dice.0.next_u32() % 5 {
                0 => None,
                1 => Some(OFFER.replace("0 8 101", "0 101")),
                2 => Some(OFFER.replace("RTP/AVP", "RTP/SAVP")),
                3 => Some("nonsense".to_owned()),
                _ => Some(OFFER.to_owned()),
            };
            let invite = caller.invite();
            let (verdicts, plans) = (desk.verdicts.len(), desk.plans.len());
            let said = desk.engine.dry_run(&asked(&invite, caller.address), desk.now).unwrap();
            assert_eq!(
                (desk.engine.poll_output().is_none(), desk.verdicts.len(), desk.plans.len()),
                (true, verdicts, plans),
                "a dry run does nothing"
            );
            desk.receive(caller.address, &invite);
            codes.insert(said.code);
            if said.code == VerdictCode::Accepted {
                assert_eq!(desk.plans.len(), plans + 1, "seed {seed}: {said:#?}");
            } else {
                assert_eq!(desk.verdicts.len(), verdicts + 1, "seed {seed}: {said:#?}");
                assert_eq!(essence(desk.verdicts.last().unwrap()), said, "seed {seed}");
            }
        }
    }
    for code in [
        VerdictCode::Accepted,
        VerdictCode::SourceUnknown,
        VerdictCode::SourceOutsideRanges,
        VerdictCode::NumberUnknown,
        VerdictCode::TrunkInactive,
        VerdictCode::InboundDisabled,
        VerdictCode::CredentialsRequired,
        VerdictCode::NoCommonCodec,
        VerdictCode::OfferUnacceptable,
        VerdictCode::ProtocolRefused,
        VerdictCode::TrunkCallsReached,
        VerdictCode::TrunkInboundCallsReached,
        VerdictCode::TrunkRateReached,
        VerdictCode::Draining,
    ] {
        assert!(codes.contains(&code), "{code} never came: {codes:?}");
    }
}

#[test]
fn credentials_that_would_prove_a_trunk_lead_on_to_what_follows() {
    let table = house_with(|trunks| {
        let mut trunk = Trunk::new("td", "d", "digest");
        trunk.inbound_enabled = true;
        trunk.auth = TrunkAuth::user_pass("u", "p");
        trunks.push(trunk);
    });
    let mut desk = Desk::with(EngineConfig::default(), table);
    let mut caller = Caller::new();
    caller.address = "203.0.113.77:5060";
    caller.uri = "sip:14155550100@203.0.113.1".to_owned();
    let mut asked = asked(&caller.invite(), caller.address);
    let code = |desk: &mut Desk, asked: &DryRun| desk.engine.dry_run(asked, desk.now).unwrap().code;
    assert_eq!(code(&mut desk, &asked), VerdictCode::CredentialsRequired);
    asked.proven = Some("td".into());
    assert_eq!(code(&mut desk, &asked), VerdictCode::Accepted);
    asked.message = Bytes::from_static(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
    assert!(desk.engine.dry_run(&asked, desk.now).is_err());
}
