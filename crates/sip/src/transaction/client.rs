//! The non-INVITE client transaction: RFC 3261 17.1.2.
//!
//! ```text
//!                                    |Request from TU
//!                                    |send request
//!                Timer E             V
//!                send request  +-----------+
//!                    +---------|           |-------------------+
//!                    |         |  Trying   |  Timer F          |
//!                    +-------->|           |  or Transport Err.|
//!                              +-----------+  inform TU        |
//!                 200-699         |  |                         |
//!                 resp. to TU     |  |1xx                      |
//!                 +---------------+  |resp. to TU              |
//!                 |                  V  Timer E       Timer F  |
//!                 |   Timer E +-----------+ or Transport Err.  |
//!                 |   send    |           | inform TU          |
//!                 |   request |Proceeding |------------------->|
//!                 |    +----->|           |-----+ 1xx to TU    |
//!                 |           +-----------+<----+              |
//!                 | 200-699         |                          |
//!                 | resp. to TU     V                          |
//!                 |           +-----------+                    |
//!                 +---------->| Completed |                    |
//!                             +-----------+                    |
//!                                   | Timer K                  |
//!                                   V                          |
//!                             +-----------+                    |
//!                             |Terminated |<-------------------+
//!                             +-----------+
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::timing::Timing;
use super::{Action, Actions, Illegal, Tell, Timer};

/// What is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Any response.
    Trying { request: Bytes, interval: Option<Duration> },
    /// A final response.
    Proceeding { request: Bytes },
    /// Nothing but repeats of the final response.
    Completed,
    /// Nothing.
    Terminated,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A 1xx.
    Provisional,
    /// A 200 to 699.
    Final,
    TimerE,
    TimerF,
    TimerK,
    /// The transport could not send.
    TransportFailed,
}

#[derive(Debug)]
pub(crate) struct Client {
    state: State,
    timing: Timing,
}

impl Client {
    /// Sends `request`. RFC 3261 17.1.2.2: "the client transaction SHOULD set timer F to fire in
    /// 64*T1 seconds. [...] If an unreliable transport is in use, the client transaction MUST set
    /// timer E to fire in T1 seconds."
    pub(crate) fn start(request: Bytes, timing: Timing, out: &mut Actions) -> Self {
        out.push(Action::Send(request.clone()));
        if let Some(interval) = timing.retransmit {
            out.push(Action::Arm(Timer::E, interval));
        }
        out.push(Action::Arm(Timer::F, timing.give_up));
        Self { state: State::Trying { request, interval: timing.retransmit }, timing }
    }

    /// What is awaited.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn handle(&mut self, input: Input, out: &mut Actions) -> Result<(), Illegal> {
        let illegal = Illegal { machine: "client", state: self.state.name(), input: input.name() };
        match (&mut self.state, input) {
            (State::Trying { request, interval: Some(interval) }, Input::TimerE) => {
                // 17.1.2.2: "If timer E fires while still in this state, the timer is reset, but
                // this time with a value of MIN(2*T1, T2)."
                *interval = (*interval * 2).min(self.timing.t2);
                out.push(Action::Send(request.clone()));
                out.push(Action::Arm(Timer::E, *interval));
            }
            (State::Proceeding { request }, Input::TimerE) if self.timing.retransmit.is_some() => {
                // "If timer E fires while in the "Proceeding" state, the request MUST be passed to
                // the transport layer for retransmission, and timer E MUST be reset with a value of
                // T2 seconds."
                out.push(Action::Send(request.clone()));
                out.push(Action::Arm(Timer::E, self.timing.t2));
            }
            (State::Trying { request, .. }, Input::Provisional) => {
                // "If a provisional response is received while in the "Trying" state, the response
                // MUST be passed to the TU". Timer E runs on.
                out.push(Action::Tell(Tell::Message));
                self.state = State::Proceeding { request: request.clone() };
            }
            (State::Proceeding { .. }, Input::Provisional) => out.push(Action::Tell(Tell::Message)),
            (State::Trying { .. } | State::Proceeding { .. }, Input::Final) => {
                out.extend([Action::Disarm(Timer::E), Action::Disarm(Timer::F), Action::Tell(Tell::Message)]);
                self.complete(out);
            }
            (State::Trying { .. } | State::Proceeding { .. }, Input::TimerF) => {
                out.extend([Action::Tell(Tell::TimedOut), Action::Gone]);
                self.state = State::Terminated;
            }
            (State::Trying { .. } | State::Proceeding { .. }, Input::TransportFailed) => {
                out.extend([Action::Tell(Tell::TransportFailed), Action::Gone]);
                self.state = State::Terminated;
            }
            (State::Completed, Input::TimerK) => {
                out.push(Action::Gone);
                self.state = State::Terminated;
            }
            // "The "Completed" state exists to buffer any additional response retransmissions that
            // may be received (which is why the client transaction remains there only for
            // unreliable transports)."
            (
                State::Completed | State::Terminated,
                Input::Provisional | Input::Final | Input::TransportFailed,
            ) => {}
            (
                State::Trying { .. } | State::Proceeding { .. } | State::Completed | State::Terminated,
                Input::TimerE,
            )
            | (State::Completed | State::Terminated, Input::TimerF)
            | (State::Trying { .. } | State::Proceeding { .. } | State::Terminated, Input::TimerK) => {
                return Err(illegal);
            }
        }
        Ok(())
    }

    /// 17.1.2.2: "Once the client transaction enters the "Completed" state, it MUST set timer K to
    /// fire in T4 seconds for unreliable transports, and zero seconds for reliable transports."
    fn complete(&mut self, out: &mut Actions) {
        if self.timing.settle.is_zero() {
            out.push(Action::Gone);
            self.state = State::Terminated;
        } else {
            out.push(Action::Arm(Timer::K, self.timing.settle));
            self.state = State::Completed;
        }
    }
}

impl State {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Trying { .. } => "Trying",
            Self::Proceeding { .. } => "Proceeding",
            Self::Completed => "Completed",
            Self::Terminated => "Terminated",
        }
    }
}

impl Input {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provisional => "1xx",
            Self::Final => "200-699",
            Self::TimerE => "timer E",
            Self::TimerF => "timer F",
            Self::TimerK => "timer K",
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
        let request = Bytes::from_static(b"OPTIONS");
        let mut rows = Vec::new();
        for (flow, timing) in table::both(&TimingConfig::default()) {
            let states = [
                State::Trying { request: request.clone(), interval: timing.retransmit },
                State::Proceeding { request: request.clone() },
                State::Completed,
                State::Terminated,
            ];
            for state in states {
                for input in [
                    Input::Provisional,
                    Input::Final,
                    Input::TimerE,
                    Input::TimerF,
                    Input::TimerK,
                    Input::TransportFailed,
                ] {
                    let mut machine = Client { state: state.clone(), timing };
                    let mut out = Actions::new();
                    let row = Row::new(flow, state.name(), input.name());
                    let result = machine.handle(input, &mut out);
                    rows.push(row.ended(result, machine.state.name(), &out));
                }
            }
        }
        table::assert_same(&rows, include_str!("tables/client.txt"));
    }

    /// RFC 3261 17.1.2.2: "For the default values of T1 and T2, this results in intervals of 500 ms, 1 s, 2 s,
    /// 4 s, 4 s, 4 s, etc."
    #[test]
    fn an_unanswered_request_is_sent_eleven_times_at_intervals_capped_by_t2() {
        let timing = Timing::unreliable(&TimingConfig::default());
        let mut out = Actions::new();
        let mut machine = Client::start(Bytes::from_static(b"BYE"), timing, &mut out);
        let (mut at, mut next) = (Duration::ZERO, Duration::from_millis(500));
        let mut sent = vec![0];
        while at + next < timing.give_up {
            at += next;
            out.clear();
            machine.handle(Input::TimerE, &mut out).unwrap();
            let Action::Arm(Timer::E, interval) = out[1] else { panic!("timer E is armed again") };
            next = interval;
            sent.push(at.as_millis());
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    }
}
