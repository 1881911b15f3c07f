//! Every state of a call against everything that can happen to it, as one table that is read in review.
//!
//! `call_states.txt` holds it. A change of behaviour shows as a change of that file: run with
//! `SNAPSHOT=write` to write it anew, then read the difference.

use std::fmt::Write as _;
use std::time::Duration;

use crate::desk::{AgentMood, Caller, Desk, OFFER, Ports};
use tandem_call::bridge::{AgentHangUpCause, BridgeEvent, OneWay};
use tandem_call::{
    AgentFailure, BridgeFailure, CallId, CallerAnswer, Command, HangUpCommand, Input, RecordingCommand,
    RecordingRule,
};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/call_states.txt");

/// A call brought into one state, by hand.
struct Scene {
    desk: Desk,
    caller: Caller,
    call: CallId,
}

const STATES: [&str; 6] = ["bridge", "agent", "ack", "end", "bridge close", "last message"];

impl Scene {
    fn new(state: &str) -> Self {
        let mut desk = Desk::new();
        (desk.ports, desk.agent, desk.closes_bridges) = (Ports::Silent, AgentMood::Silent, false);
        let mut caller = Caller::new();
        caller.send_invite(&mut desk);
        let call = desk.call();
        let mut scene = Self { desk, caller: Caller::new(), call };
        let place = STATES.iter().position(|known| *known == state).expect("a known state");
        if place >= 1 {
            scene
                .desk
                .input(Input::BridgeOpened { call, rtp: crate::desk::RTP.parse().expect("an address") });
            caller.take_tag(&scene.desk, "180");
        }
        if place >= 2 {
            scene.desk.input(Input::AgentConnected { call });
        }
        if place >= 3 {
            caller.send_ack(&mut scene.desk, None);
        }
        if place >= 4 {
            caller.send(&mut scene.desk, "BYE", None);
        }
        if place >= 5 {
            scene.desk.bridge_closed(call);
            scene.desk.input(Input::Timeout);
        }
        assert_eq!(scene.desk.engine.awaits(call), Some(state));
        scene.caller = caller;
        scene.desk.log.clear();
        scene
    }
}

type Act = fn(&mut Scene);

const INPUTS: [(&str, Act); 32] = [
    ("bridge opened", |scene| {
        let rtp = crate::desk::RTP.parse().expect("an address");
        scene.desk.input(Input::BridgeOpened { call: scene.call, rtp });
    }),
    ("bridge failed", |scene| {
        scene.desk.input(Input::BridgeFailed { call: scene.call, cause: BridgeFailure::NoPorts });
    }),
    ("agent connected", |scene| scene.desk.input(Input::AgentConnected { call: scene.call })),
    ("caller known", |scene| {
        let answer = CallerAnswer::Known(vec![("name".to_owned(), "Ada".to_owned())]);
        scene.desk.input(Input::CallerLookedUp { call: scene.call, must_be_known: true, answer });
    }),
    ("agent refused", |scene| {
        scene.desk.input(Input::AgentRefused { call: scene.call, cause: AgentFailure::Status(403) });
    }),
    ("latched", |scene| {
        scene.bridge(BridgeEvent::Latched { source: "192.0.2.1:4000".parse().expect("an address") });
    }),
    ("digit", |scene| scene.bridge(BridgeEvent::Digit { digit: '1', duration_ms: 100 })),
    ("agent hangs up", |scene| scene.bridge(BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Command })),
    ("agent lost", |scene| scene.bridge(BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Lost })),
    ("agent closed", |scene| scene.bridge(BridgeEvent::AgentClosed { code: None, queued_ms: 0 })),
    ("media timeout", |scene| scene.bridge(BridgeEvent::MediaTimeout)),
    ("nobody speaks", |scene| scene.bridge(BridgeEvent::NobodySpeaks { silence: Duration::from_secs(10) })),
    ("hold wished", |scene| scene.bridge(BridgeEvent::Hold { is_held: true })),
    ("bridge closed", |scene| {
        scene.desk.bridge_closed(scene.call);
        scene.desk.input(Input::Timeout);
    }),
    ("INVITE again", |scene| {
        let again = Caller::new();
        again.send_invite(&mut scene.desk);
    }),
    ("ACK", |scene| scene.caller.send_ack(&mut scene.desk, None)),
    ("CANCEL", |scene| Caller::new().send_cancel(&mut scene.desk)),
    ("BYE", |scene| scene.caller.send(&mut scene.desk, "BYE", None)),
    ("re-INVITE", |scene| scene.caller.send(&mut scene.desk, "INVITE", Some(OFFER))),
    ("re-INVITE without offer", |scene| scene.caller.send(&mut scene.desk, "INVITE", None)),
    ("UPDATE", |scene| scene.caller.send(&mut scene.desk, "UPDATE", Some(OFFER))),
    ("INFO with a key", |scene| {
        scene.caller.extra = "Content-Type: application/dtmf-relay\r\n".to_owned();
        scene.caller.send(&mut scene.desk, "INFO", Some("Signal=5\r\n"));
    }),
    ("stop command", |scene| {
        let command = Command::HangUp { call: scene.call, as_what: HangUpCommand::Stop };
        scene.desk.input(Input::Command(command));
    }),
    ("send DTMF command", |scene| {
        let digits = "1".to_owned();
        scene.desk.input(Input::Command(Command::SendDtmf { call: scene.call, digits, duration_ms: 100 }));
    }),
    ("record command", |scene| scene.record(RecordingCommand::Start(RecordingRule::default()))),
    ("record, pause, resume, stop", |scene| {
        scene.record(RecordingCommand::Start(RecordingRule::default()));
        scene.record(RecordingCommand::Pause);
        scene.record(RecordingCommand::Resume);
        scene.record(RecordingCommand::Stop);
    }),
    ("pause command without a recording", |scene| scene.record(RecordingCommand::Pause)),
    ("one-way audio", |scene| {
        let cause = OneWay::AgentSilent { messages: 0, seconds: 15 };
        scene.bridge(BridgeEvent::OneWayAudio { cause });
    }),
    ("recording lost", |scene| scene.bridge(BridgeEvent::RecordingLost { dropped_ms: 500 })),
    ("recording failed", |scene| {
        let why = "the disk is full".to_owned();
        scene.desk.input(Input::Command(Command::RecordingFailed { call: scene.call, why }));
    }),
    ("drain ends", |scene| {
        let until = scene.desk.now;
        scene.desk.input(Input::Drain { until });
    }),
    ("deadline", |scene| {
        // The ACK is awaited for 64*T1; the longest call lasts four hours.
        let wait = match scene.desk.engine.awaits(scene.call) {
            Some("end") => 4 * 3600,
            Some("ack") => 33,
            _ => 10,
        };
        scene.desk.advance(Duration::from_secs(wait));
    }),
];

impl Scene {
    fn bridge(&mut self, event: BridgeEvent) {
        self.desk.input(Input::Bridge { call: self.call, event });
    }

    fn record(&mut self, command: RecordingCommand) {
        self.desk.input(Input::Command(Command::Record { call: self.call, command }));
    }
}

#[test]
fn each_state_meets_each_input_as_the_snapshot_has_it() {
    let mut table = String::new();
    for state in STATES {
        writeln!(table, "awaiting {state}").expect("a string takes it");
        for (input, act) in INPUTS {
            let mut scene = Scene::new(state);
            act(&mut scene);
            let mut log = scene.desk.log.join(", ");
            if log.is_empty() {
                log.push('-');
            }
            let next = scene.desk.engine.awaits(scene.call).unwrap_or("gone");
            let next = if next == state { String::new() } else { format!(" => {next}") };
            writeln!(table, "  {input}: {log}{next}").expect("a string takes it");
        }
    }
    if std::env::var_os("SNAPSHOT").is_some() {
        std::fs::write(SNAPSHOT, &table).expect("the snapshot can be written");
    }
    let expected = std::fs::read_to_string(SNAPSHOT).expect("the snapshot is there");
    for (line, (got, wanted)) in table.lines().zip(expected.lines()).enumerate() {
        assert_eq!(got, wanted, "line {}", line + 1);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
}

/// Whatever happened in whatever state: one record, one verdict, one ladder, and nothing left.
#[test]
fn each_state_and_input_comes_to_one_record_and_leaves_nothing() {
    for state in STATES {
        for (input, act) in INPUTS {
            let mut scene = Scene::new(state);
            act(&mut scene);
            let command = Command::HangUp { call: scene.call, as_what: HangUpCommand::Complete };
            scene.desk.input(Input::Command(command));
            scene.desk.advance(Duration::from_secs(120));
            let desk = &scene.desk;
            // A caller who knows no tag yet can only send another INVITE, which is another call.
            let calls = if state == "bridge" && input.starts_with("re-INVITE") { 2 } else { 1 };
            assert_eq!(desk.engine.census(), tandem_call::Census::default(), "{state} × {input}");
            assert_eq!((desk.records.len(), desk.ladders.len()), (calls, calls), "{state} × {input}");
            assert_eq!(desk.verdicts.len(), calls, "{state} × {input}");
            assert!(desk.closed.len() <= calls, "{state} × {input}");
        }
    }
}
