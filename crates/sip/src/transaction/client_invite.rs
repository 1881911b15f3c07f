//! The INVITE client transaction: RFC 3261 17.1.1 with RFC 6026 7.2 and 8.4.
//!
//! Sends the INVITE again until something answers, acknowledges failures itself, and stays for
//! further 2xx (retransmitted or forked) which the transaction user acknowledges.
//!
//! ```text
//!                                   |INVITE from TU
//!                 Timer A fires     |INVITE sent      Timer B fires
//!                 Reset A,          V                 or Transport Err.
//!                 INVITE sent +-----------+           inform TU
//!                   +---------|           |--------------------------+
//!                   |         |  Calling  |                          |
//!                   +-------->|           |-----------+              |
//!    300-699                  +-----------+ 2xx       |              |
//!    ACK sent                    |  |       2xx to TU |              |
//!    resp. to TU                 |  |1xx              |              |
//!    +---------------------------+  |1xx to TU        |              |
//!    |                              V                 |              |
//!    |   1xx          +-----------+                   |              |
//!    |   1xx to TU +--|           |                   |              |
//!    |             +->|Proceeding |--+ 2xx to TU      |              |
//!    |                +-----------+  |                |              |
//!    | 300-699 ACK sent   |          |                |              |
//!    | resp. to TU        V          V                V              |
//!    |           +-----------+   +-----------+ 2xx to TU             |
//!    +---------->| Completed |   | Accepted  |--+                    |
//!  300-699  +----|           |   |           |<-+                    |
//!  ACK sent +--->+-----------+   +-----------+                       |
//!                     | Timer D       | Timer M                      |
//!                     V               V                              |
//!                +-------------------------------+                   |
//!                |           Terminated          |<------------------+
//!                +-------------------------------+
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::timing::Timing;
use super::{Action, Actions, Illegal, Tell, Timer};

/// What is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Any response. Holds the request and the next interval of timer A.
    Calling { request: Bytes, interval: Option<Duration> },
    /// A final response, for as long as the transaction user is patient.
    Proceeding,
    /// Nothing but repeats of a failure, each acknowledged with the same bytes.
    Completed { ack: Bytes },
    /// Further 2xx, from this peer or another fork.
    Accepted,
    /// Nothing.
    Terminated,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A 1xx.
    Provisional,
    /// A 2xx.
    Success,
    /// A 300 to 699, with the ACK that answers it.
    Failure {
        ack: Bytes,
    },
    TimerA,
    TimerB,
    TimerD,
    TimerM,
    /// The transport could not send.
    TransportFailed,
    /// The transaction user waits no longer. RFC 3261 9.1: "If there is no final response for the
    /// original request in 64*T1 seconds [...] the client SHOULD then consider the original
    /// transaction cancelled and SHOULD destroy the client transaction".
    Abandoned,
}

#[derive(Debug)]
pub(crate) struct ClientInvite {
    state: State,
    timing: Timing,
}

impl ClientInvite {
    /// Sends `request`. RFC 3261 17.1.1.2: "the client transaction MUST start timer A with a value
    /// of T1. [...] For any transport, the client transaction MUST start timer B with a value of
    /// 64*T1 seconds".
    pub(crate) fn start(request: Bytes, timing: Timing, out: &mut Actions) -> Self {
        out.push(Action::Send(request.clone()));
        if let Some(interval) = timing.retransmit {
            out.push(Action::Arm(Timer::A, interval));
        }
        out.push(Action::Arm(Timer::B, timing.give_up));
        Self { state: State::Calling { request, interval: timing.retransmit }, timing }
    }

    pub(crate) fn handle(&mut self, input: Input, out: &mut Actions) -> Result<(), Illegal> {
        let illegal = Illegal { machine: "INVITE client", state: self.state.name(), input: input.name() };
        match (&mut self.state, input) {
            (State::Calling { request, interval: Some(interval) }, Input::TimerA) => {
                // 17.1.1.2: "When timer A fires, the client transaction MUST retransmit the request
                // [...] and MUST reset the timer with a value of 2*T1." No cap: B ends it.
                *interval *= 2;
                out.push(Action::Send(request.clone()));
                out.push(Action::Arm(Timer::A, *interval));
            }
            (State::Calling { .. }, Input::Provisional) => {
                // "If the client transaction receives a provisional response while in the "Calling" state, it transitions to
                // the "Proceeding" state. In the "Proceeding" state, the client transaction SHOULD
                // NOT retransmit the request any longer."
                out.extend([Action::Disarm(Timer::A), Action::Disarm(Timer::B), Action::Tell(Tell::Message)]);
                self.state = State::Proceeding;
            }
            (State::Proceeding, Input::Provisional) => out.push(Action::Tell(Tell::Message)),
            (State::Calling { .. } | State::Proceeding, Input::Success) => {
                // RFC 6026 8.4: "When a 2xx response is received while in either the "Calling" or
                // "Proceeding" states, the client transaction MUST transition to the "Accepted"
                // state, and Timer M MUST be started with a value of 64*T1."
                out.extend([
                    Action::Disarm(Timer::A),
                    Action::Disarm(Timer::B),
                    Action::Arm(Timer::M, self.timing.accepted),
                    Action::Tell(Tell::Message),
                ]);
                self.state = State::Accepted;
            }
            // RFC 6026 8.4: "Any 2xx responses that match this client transaction and that are
            // received while in the "Accepted" state MUST be passed up to the TU."
            (State::Accepted, Input::Success) => out.push(Action::Tell(Tell::Message)),
            (State::Calling { .. } | State::Proceeding, Input::Failure { ack }) => {
                // RFC 6026 8.4: "The client transaction MUST pass the received response up to the
                // TU, and the client transaction MUST generate an ACK request, even if the
                // transport is reliable".
                out.extend([Action::Disarm(Timer::A), Action::Disarm(Timer::B), Action::Send(ack.clone())]);
                out.push(Action::Tell(Tell::Message));
                self.complete(ack, out);
            }
            // "Any retransmissions of a response with status code 300-699 that are received while
            // in the "Completed" state MUST cause the ACK to be re-passed to the transport layer
            // for retransmission, but the newly received response MUST NOT be passed up to the TU."
            (State::Completed { ack }, Input::Failure { .. }) => out.push(Action::Send(ack.clone())),
            (State::Calling { .. }, Input::TimerB) => {
                out.extend([Action::Tell(Tell::TimedOut), Action::Gone]);
                self.state = State::Terminated;
            }
            (State::Completed { .. }, Input::TimerD) | (State::Accepted, Input::TimerM) => {
                out.push(Action::Gone);
                self.state = State::Terminated;
            }
            (State::Calling { .. } | State::Proceeding | State::Completed { .. }, Input::TransportFailed) => {
                // 17.1.4: "The client transaction SHOULD inform the TU that a transport failure has
                // occurred, and the client transaction SHOULD transition directly to the
                // "Terminated" state."
                out.extend([Action::Tell(Tell::TransportFailed), Action::Gone]);
                self.state = State::Terminated;
            }
            // The ACKs sent in this state are the transaction user's; their failing is its matter.
            (State::Accepted, Input::TransportFailed) => {}
            (State::Calling { .. } | State::Proceeding, Input::Abandoned) => {
                out.push(Action::Gone);
                self.state = State::Terminated;
            }
            // What a peer or the network can bring late means nothing any more.
            (
                State::Completed { .. } | State::Accepted | State::Terminated,
                Input::Provisional | Input::Abandoned,
            )
            | (State::Completed { .. } | State::Terminated, Input::Success)
            | (State::Accepted | State::Terminated, Input::Failure { .. })
            | (State::Terminated, Input::TransportFailed) => {}
            (State::Calling { interval: None, .. }, Input::TimerA)
            | (
                State::Proceeding | State::Completed { .. } | State::Accepted | State::Terminated,
                Input::TimerA | Input::TimerB,
            )
            | (
                State::Calling { .. } | State::Proceeding | State::Accepted | State::Terminated,
                Input::TimerD,
            )
            | (
                State::Calling { .. } | State::Proceeding | State::Completed { .. } | State::Terminated,
                Input::TimerM,
            ) => return Err(illegal),
        }
        Ok(())
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// RFC 6026 8.4: "The client transaction MUST start Timer D when it enters the "Completed"
    /// state for any reason, with a value of at least 32 seconds for unreliable transports, and a
    /// value of zero seconds for reliable transports."
    fn complete(&mut self, ack: Bytes, out: &mut Actions) {
        if self.timing.absorb_failure.is_zero() {
            out.push(Action::Gone);
            self.state = State::Terminated;
        } else {
            out.push(Action::Arm(Timer::D, self.timing.absorb_failure));
            self.state = State::Completed { ack };
        }
    }
}

impl State {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Calling { .. } => "Calling",
            Self::Proceeding => "Proceeding",
            Self::Completed { .. } => "Completed",
            Self::Accepted => "Accepted",
            Self::Terminated => "Terminated",
        }
    }
}

impl Input {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Provisional => "1xx",
            Self::Success => "2xx",
            Self::Failure { .. } => "300-699",
            Self::TimerA => "timer A",
            Self::TimerB => "timer B",
            Self::TimerD => "timer D",
            Self::TimerM => "timer M",
            Self::TransportFailed => "transport failed",
            Self::Abandoned => "abandoned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, Row};
    use super::super::timing::TimingConfig;
    use super::*;

    fn states(timing: Timing) -> Vec<State> {
        vec![
            State::Calling { request: Bytes::from_static(b"INVITE"), interval: timing.retransmit },
            State::Proceeding,
            State::Completed { ack: Bytes::from_static(b"ACK") },
            State::Accepted,
            State::Terminated,
        ]
    }

    fn inputs() -> Vec<Input> {
        vec![
            Input::Provisional,
            Input::Success,
            Input::Failure { ack: Bytes::from_static(b"ACK") },
            Input::TimerA,
            Input::TimerB,
            Input::TimerD,
            Input::TimerM,
            Input::TransportFailed,
            Input::Abandoned,
        ]
    }

    /// Every state by every input, on both kinds of flow, against the committed table.
    #[test]
    fn every_state_and_input_does_what_the_table_says() {
        let mut rows = Vec::new();
        for (flow, timing) in table::both(&TimingConfig::default()) {
            for state in states(timing) {
                for input in inputs() {
                    let mut machine = ClientInvite { state: state.clone(), timing };
                    let mut out = Actions::new();
                    let row = Row::new(flow, state.name(), input.name());
                    let result = machine.handle(input, &mut out);
                    rows.push(row.ended(result, machine.state.name(), &out));
                }
            }
        }
        table::assert_same(&rows, include_str!("tables/client_invite.txt"));
    }

    /// RFC 3261 17.1.1.2: with T1 of 500 ms the INVITE leaves at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and
    /// 31.5 seconds, and timer B fires at 32.
    #[test]
    fn an_unanswered_invite_is_sent_seven_times_and_given_up_after_64_t1() {
        let timing = Timing::unreliable(&TimingConfig::default());
        let mut out = Actions::new();
        let mut machine = ClientInvite::start(Bytes::from_static(b"INVITE"), timing, &mut out);
        let mut at = Duration::ZERO;
        let mut sent = vec![at];
        let mut next = Duration::from_millis(500);
        while at + next < timing.give_up {
            at += next;
            out.clear();
            machine.handle(Input::TimerA, &mut out).unwrap();
            assert_eq!(out[0], Action::Send(Bytes::from_static(b"INVITE")));
            let Action::Arm(Timer::A, interval) = out[1] else { panic!("timer A is armed again") };
            sent.push(at);
            next = interval;
        }
        let millis: Vec<u128> = sent.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        out.clear();
        machine.handle(Input::TimerB, &mut out).unwrap();
        assert_eq!(out.as_slice(), [Action::Tell(Tell::TimedOut), Action::Gone]);
    }
}
