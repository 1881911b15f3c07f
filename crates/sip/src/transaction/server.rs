//! The non-INVITE server transaction: RFC 3261 17.2.2.
//!
//! ```text
//!                                 |Request received
//!                                 |pass to TU
//!                                 V
//!                           +-----------+
//!                           |           |
//!                           | Trying    |-------------+
//!                           |           |             |
//!                           +-----------+             |200-699 from TU
//!                                 |                   |send response
//!                                 |1xx from TU        |
//!                                 |send response      |
//!                                 |                   |
//!              Request            V      1xx from TU  |
//!              send response+-----------+send response|
//!                  +--------|           |--------+    |
//!                  |        | Proceeding|        |    |
//!                  +------->|           |<-------+    |
//!           +<--------------|           |             |
//!           |Trnsprt Err    +-----------+             |
//!           |Inform TU            |                   |
//!           |                     |200-699 from TU    |
//!           |                     |send response      |
//!           |  Request            V                   |
//!           |  send response+-----------+             |
//!           |      +--------|           |             |
//!           |      |        | Completed |<------------+
//!           |      +------->|           |
//!           +<--------------|           |
//!           |Trnsprt Err    +-----------+
//!           |Inform TU            |
//!           |                     |Timer J fires
//!           |                     V
//!           |               +-----------+
//!           +-------------->| Terminated|
//!                           +-----------+
//! ```

use bytes::Bytes;

use super::timing::Timing;
use super::{Action, Actions, Illegal, Tell, Timer};

/// What is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Any response from the transaction user.
    Trying,
    /// A final response from the transaction user.
    Proceeding { provisional: Bytes },
    /// Repeats of the request, each answered with the same bytes.
    Completed { response: Bytes },
    /// Nothing.
    Terminated,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The request came again.
    Repeated,
    /// The transaction user sends a 1xx.
    Provisional(Bytes),
    /// The transaction user sends a 200 to 699.
    Final(Bytes),
    TimerJ,
    /// The transport could not send.
    TransportFailed,
}

#[derive(Debug)]
pub(crate) struct Server {
    state: State,
    timing: Timing,
}

impl Server {
    pub(crate) fn start(timing: Timing) -> Self {
        Self { state: State::Trying, timing }
    }

    pub(crate) fn handle(&mut self, input: Input, out: &mut Actions) -> Result<(), Illegal> {
        let illegal = Illegal { machine: "server", state: self.state.name(), input: input.name() };
        match (&mut self.state, input) {
            // 17.2.2: "Once in the "Trying" state, any further request retransmissions are discarded."
            (State::Trying, Input::Repeated) => {}
            (State::Trying | State::Proceeding { .. }, Input::Provisional(provisional)) => {
                out.push(Action::Send(provisional.clone()));
                self.state = State::Proceeding { provisional };
            }
            // "If a retransmission of the request is received while in the "Proceeding" state, the
            // most recently sent provisional response MUST be passed to the transport layer for
            // retransmission."
            (State::Proceeding { provisional }, Input::Repeated) => {
                out.push(Action::Send(provisional.clone()));
            }
            (State::Trying | State::Proceeding { .. }, Input::Final(response)) => {
                out.push(Action::Send(response.clone()));
                self.complete(response, out);
            }
            // "While in the "Completed" state, the server transaction MUST pass the final response
            // to the transport layer for retransmission whenever a retransmission of the request
            // is received."
            (State::Completed { response }, Input::Repeated) => out.push(Action::Send(response.clone())),
            // "Any other final responses passed by the TU to the server transaction MUST be
            // discarded while in the "Completed" state."
            (State::Completed { .. }, Input::Final(_)) => {}
            (State::Completed { .. }, Input::TimerJ) => {
                out.push(Action::Gone);
                self.state = State::Terminated;
            }
            (State::Trying | State::Proceeding { .. } | State::Completed { .. }, Input::TransportFailed) => {
                out.extend([Action::Tell(Tell::TransportFailed), Action::Gone]);
                self.state = State::Terminated;
            }
            (State::Terminated, Input::Repeated | Input::TransportFailed) => {}
            (State::Completed { .. } | State::Terminated, Input::Provisional(_))
            | (State::Terminated, Input::Final(_))
            | (State::Trying | State::Proceeding { .. } | State::Terminated, Input::TimerJ) => {
                return Err(illegal);
            }
        }
        Ok(())
    }

    /// 17.2.2: "When the server transaction enters the "Completed" state, it MUST set Timer J to
    /// fire in 64*T1 seconds for unreliable transports, and zero seconds for reliable transports."
    fn complete(&mut self, response: Bytes, out: &mut Actions) {
        if self.timing.absorb_request.is_zero() {
            out.push(Action::Gone);
            self.state = State::Terminated;
        } else {
            out.push(Action::Arm(Timer::J, self.timing.absorb_request));
            self.state = State::Completed { response };
        }
    }
}

impl State {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Trying => "Trying",
            Self::Proceeding { .. } => "Proceeding",
            Self::Completed { .. } => "Completed",
            Self::Terminated => "Terminated",
        }
    }
}

impl Input {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Repeated => "request again",
            Self::Provisional(_) => "1xx from TU",
            Self::Final(_) => "200-699 from TU",
            Self::TimerJ => "timer J",
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
                State::Trying,
                State::Proceeding { provisional: Bytes::from_static(b"100") },
                State::Completed { response: Bytes::from_static(b"200") },
                State::Terminated,
            ];
            for state in states {
                for input in [
                    Input::Repeated,
                    Input::Provisional(Bytes::from_static(b"new 100")),
                    Input::Final(Bytes::from_static(b"new 200")),
                    Input::TimerJ,
                    Input::TransportFailed,
                ] {
                    let mut machine = Server { state: state.clone(), timing };
                    let mut out = Actions::new();
                    let row = Row::new(flow, state.name(), input.name());
                    let result = machine.handle(input, &mut out);
                    rows.push(row.ended(result, machine.state.name(), &out));
                }
            }
        }
        table::assert_same(&rows, include_str!("tables/server.txt"));
    }
}
