//! The INVITE server transaction: RFC 3261 17.2.1 with RFC 6026 7.1 and 8.5 to 8.8.
//!
//! Repeats failures until their ACK, absorbs repeats of the INVITE, and, once a 2xx was sent,
//! only absorbs: repeating the 2xx is the usage's work (RFC 3261 13.3.1.4), for it knows the
//! ACK, which is a transaction of its own.
//!
//! ```text
//!                                     |INVITE
//!                                     |pass INV to TU
//!                  INVITE             V send 100
//!                  send response+------------+
//!                      +--------|            |--------+ 101-199 from TU
//!                      |        |            |        | send response
//!                      +------->|            |<-------+
//!                               | Proceeding |
//!                               |            |--------+ Transport Err.
//!                               |            |        | Inform TU
//!                               +------------+<-------+
//!               300-699 from TU |    | 2xx from TU
//!               send response   |    | send response
//!                +--------------+    +------------+
//!                |                                |
//! INVITE         V          Timer G fires         |
//! send response +-----------+ send response       |
//!      +--------|           |--------+            |
//!      |        | Completed |        |            |
//!      +------->|           |<-------+            |
//!               +-----------+                     |
//!                  |     |                        |
//!              ACK |     |                        |
//!              -   |     +------------------+     |
//!                  |        Timer H fires   |     |
//!                  V        or Transp. Err. |     |
//!               +-----------+  Inform TU    |     |
//!               | Confirmed |               |     |
//!               +-----------+               |     |
//!                     |                     |     V
//!      Timer I fires  |                     |  +------------+ INVITE, ACK: absorbed, ACK to TU
//!      -              |                     |  |  Accepted  | 2xx from TU: send
//!                     |                     |  +------------+
//!                     |                     |     | Timer L fires
//!                     V                     V     V
//!               +------------------------------------+
//!               |             Terminated             |
//!               +------------------------------------+
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::timing::Timing;
use super::{Action, Actions, Illegal, Tell, Timer};

/// What is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The transaction user's final response. Holds what a repeated INVITE is answered with.
    Proceeding { provisional: Bytes },
    /// The ACK of a failure. Holds the next interval of timer G.
    Completed { response: Bytes, interval: Option<Duration> },
    /// Nothing but repeated ACKs.
    Confirmed,
    /// Repeats of the INVITE, which are absorbed, and 2xx from the usage, which are sent.
    Accepted,
    /// Nothing.
    Terminated,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The INVITE came again.
    Repeated,
    /// An ACK with the INVITE's branch came.
    Ack,
    /// The transaction user sends a 101 to 199.
    Provisional(Bytes),
    /// The transaction user sends a 2xx.
    Success(Bytes),
    /// The transaction user sends a 300 to 699.
    Failure(Bytes),
    TimerG,
    TimerH,
    TimerI,
    TimerL,
    /// The transport could not send.
    TransportFailed,
}

#[derive(Debug)]
pub(crate) struct ServerInvite {
    state: State,
    timing: Timing,
}

impl ServerInvite {
    /// Takes an admitted INVITE and sends `trying`. RFC 3261 17.2.1: "The server transaction MUST
    /// generate a 100 (Trying) response unless it knows that the TU will generate a provisional or
    /// final response within 200 ms". Admission is over when a machine is made, so the 100 leaves at once.
    pub(crate) fn start(trying: Bytes, timing: Timing, out: &mut Actions) -> Self {
        out.push(Action::Send(trying.clone()));
        Self { state: State::Proceeding { provisional: trying }, timing }
    }

    pub(crate) fn handle(&mut self, input: Input, out: &mut Actions) -> Result<(), Illegal> {
        let illegal = Illegal { machine: "INVITE server", state: self.state.name(), input: input.name() };
        match (&mut self.state, input) {
            // 17.2.1: "If a request retransmission is received while in the "Proceeding" state, the
            // most recent provisional response that was received from the TU MUST be passed to the
            // transport layer for retransmission."
            (State::Proceeding { provisional }, Input::Repeated) => {
                out.push(Action::Send(provisional.clone()));
            }
            (State::Proceeding { provisional: last }, Input::Provisional(provisional)) => {
                out.push(Action::Send(provisional.clone()));
                *last = provisional;
            }
            (State::Proceeding { .. }, Input::Success(response)) => {
                // RFC 6026 8.5: "If, while in the "Proceeding" state, the TU passes a 2xx response
                // to the server transaction, the server transaction MUST pass this response to the
                // transport layer for transmission. [...] The server transaction MUST then
                // transition to the "Accepted" state."
                out.extend([Action::Send(response), Action::Arm(Timer::L, self.timing.accepted)]);
                self.state = State::Accepted;
            }
            (State::Proceeding { .. }, Input::Failure(response)) => {
                // RFC 3261 17.2.1: "For unreliable transports, timer G is set to fire in T1
                // seconds, and is not set to fire for reliable transports. [...] When the
                // "Completed" state is entered, timer H MUST be set to fire in 64*T1 seconds for
                // all transports."
                out.push(Action::Send(response.clone()));
                if let Some(interval) = self.timing.retransmit {
                    out.push(Action::Arm(Timer::G, interval));
                }
                out.push(Action::Arm(Timer::H, self.timing.give_up));
                self.state = State::Completed { response, interval: self.timing.retransmit };
            }
            // "while in the "Completed" state, if a request retransmission is received, the server
            // SHOULD pass the response to the transport for retransmission."
            (State::Completed { response, .. }, Input::Repeated) => out.push(Action::Send(response.clone())),
            (State::Completed { response, interval: Some(interval) }, Input::TimerG) => {
                // "If timer G fires, the response is passed to the transport layer once more for
                // retransmission, and timer G is set to fire in MIN(2*T1, T2) seconds."
                *interval = (*interval * 2).min(self.timing.t2);
                out.push(Action::Send(response.clone()));
                out.push(Action::Arm(Timer::G, *interval));
            }
            (State::Completed { .. }, Input::Ack) => {
                // "If an ACK is received while the server transaction is in the "Completed" state,
                // the server transaction MUST transition to the "Confirmed" state. As Timer G is
                // ignored in this state, any retransmissions of the response will cease."
                out.extend([Action::Disarm(Timer::G), Action::Disarm(Timer::H), Action::Tell(Tell::Message)]);
                self.confirm(out);
            }
            // RFC 6026 8.7: "If an ACK is received while the INVITE server transaction is in the
            // "Accepted" state, then the ACK must be passed up to the TU."
            (State::Accepted, Input::Ack) => out.push(Action::Tell(Tell::Message)),
            // RFC 6026 8.7: "While in the "Accepted" state, if the TU passes a 2xx response, the
            // server transaction MUST pass the response to the transport layer for transmission."
            (State::Accepted, Input::Success(response)) => out.push(Action::Send(response)),
            (State::Completed { .. }, Input::TimerH) => {
                out.extend([Action::Tell(Tell::TimedOut), Action::Gone]);
                self.state = State::Terminated;
            }
            (State::Confirmed, Input::TimerI) | (State::Accepted, Input::TimerL) => {
                out.push(Action::Gone);
                self.state = State::Terminated;
            }
            // RFC 6026 8.8: "the server transaction SHOULD inform the TU that a failure has
            // occurred, and MUST remain in the current state."
            (
                State::Proceeding { .. } | State::Completed { .. } | State::Accepted,
                Input::TransportFailed,
            ) => out.push(Action::Tell(Tell::TransportFailed)),
            // RFC 6026 8.7 for Accepted: "Any such retransmissions are absorbed entirely within the
            // server transaction." An ACK in Proceeding acknowledges nothing.
            (State::Confirmed | State::Accepted | State::Terminated, Input::Repeated)
            | (State::Proceeding { .. } | State::Confirmed | State::Terminated, Input::Ack)
            | (State::Confirmed | State::Terminated, Input::TransportFailed) => {}
            (
                State::Completed { .. } | State::Confirmed | State::Accepted | State::Terminated,
                Input::Provisional(_) | Input::Failure(_),
            )
            | (State::Completed { .. } | State::Confirmed | State::Terminated, Input::Success(_))
            | (
                State::Proceeding { .. }
                | State::Completed { interval: None, .. }
                | State::Confirmed
                | State::Accepted
                | State::Terminated,
                Input::TimerG,
            )
            | (
                State::Proceeding { .. } | State::Confirmed | State::Accepted | State::Terminated,
                Input::TimerH,
            )
            | (
                State::Proceeding { .. } | State::Completed { .. } | State::Accepted | State::Terminated,
                Input::TimerI,
            )
            | (
                State::Proceeding { .. } | State::Completed { .. } | State::Confirmed | State::Terminated,
                Input::TimerL,
            ) => return Err(illegal),
        }
        Ok(())
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// 17.2.1: "when [Confirmed] is entered, timer I is set to fire in T4 seconds for unreliable
    /// transports, and zero seconds for reliable transports."
    fn confirm(&mut self, out: &mut Actions) {
        if self.timing.settle.is_zero() {
            out.push(Action::Gone);
            self.state = State::Terminated;
        } else {
            out.push(Action::Arm(Timer::I, self.timing.settle));
            self.state = State::Confirmed;
        }
    }
}

impl State {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Proceeding { .. } => "Proceeding",
            Self::Completed { .. } => "Completed",
            Self::Confirmed => "Confirmed",
            Self::Accepted => "Accepted",
            Self::Terminated => "Terminated",
        }
    }
}

impl Input {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Repeated => "INVITE again",
            Self::Ack => "ACK",
            Self::Provisional(_) => "1xx from TU",
            Self::Success(_) => "2xx from TU",
            Self::Failure(_) => "300-699 from TU",
            Self::TimerG => "timer G",
            Self::TimerH => "timer H",
            Self::TimerI => "timer I",
            Self::TimerL => "timer L",
            Self::TransportFailed => "transport failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, Row};
    use super::super::timing::TimingConfig;
    use super::*;

    #[test]
    fn every_state_and_input_does_what_the_table_says() {
        let mut rows = Vec::new();
        for (flow, timing) in table::both(&TimingConfig::default()) {
            let states = [
                State::Proceeding { provisional: Bytes::from_static(b"180") },
                State::Completed { response: Bytes::from_static(b"486"), interval: timing.retransmit },
                State::Confirmed,
                State::Accepted,
                State::Terminated,
            ];
            for state in states {
                for input in [
                    Input::Repeated,
                    Input::Ack,
                    Input::Provisional(Bytes::from_static(b"new 180")),
                    Input::Success(Bytes::from_static(b"new 200")),
                    Input::Failure(Bytes::from_static(b"new 486")),
                    Input::TimerG,
                    Input::TimerH,
                    Input::TimerI,
                    Input::TimerL,
                    Input::TransportFailed,
                ] {
                    let mut machine = ServerInvite { state: state.clone(), timing };
                    let mut out = Actions::new();
                    let row = Row::new(flow, state.name(), input.name());
                    let result = machine.handle(input, &mut out);
                    rows.push(row.ended(result, machine.state.name(), &out));
                }
            }
        }
        table::assert_same(&rows, include_str!("tables/server_invite.txt"));
    }

    /// RFC 3261 17.2.1: G starts at T1, doubles, and stays at T2; H ends it after 64*T1.
    #[test]
    fn a_failure_without_ack_repeats_from_t1_to_t2() {
        let timing = Timing::unreliable(&TimingConfig::default());
        let mut out = Actions::new();
        let mut machine = ServerInvite::start(Bytes::from_static(b"100"), timing, &mut out);
        machine.handle(Input::Failure(Bytes::from_static(b"486")), &mut out).unwrap();
        let mut intervals = Vec::new();
        for _ in 0..6 {
            out.clear();
            machine.handle(Input::TimerG, &mut out).unwrap();
            let Action::Arm(Timer::G, interval) = out[1] else { panic!("timer G is armed again") };
            intervals.push(interval.as_millis());
        }
        assert_eq!(intervals, [1000, 2000, 4000, 4000, 4000, 4000]);
    }
}
