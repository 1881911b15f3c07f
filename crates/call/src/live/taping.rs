//! A call's recording: begun by its agent's rule or by command, paused, resumed and ended by command, ended with the call.
//!
//! What it refuses to do: record a call twice, or before caller and agent can hear each other.

use std::time::Instant;

use super::{Awaiting, LiveCall};
use crate::bridge::BridgeCommand;
use crate::incident::IncidentKind;
use crate::node::Node;
use crate::output::Output;
use crate::recording::{RecordingCommand, RecordingState, RecordingSummary};

impl LiveCall {
    /// Caller and agent may hear each other from now on, and are recorded if the agent's rule says so.
    pub(super) fn begin_audio(&mut self, now: Instant, node: &mut Node) {
        node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Start });
        if let Some(rule) = self.recording {
            self.tape(RecordingCommand::Start(rule), now, node);
        }
    }

    /// A command of the API. The call's record shows what came of it.
    pub(super) fn recording_asked(&mut self, command: RecordingCommand, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::End => {
                if self.tape(command, now, node) {
                    self.progress(node);
                } else {
                    node.counters.late_inputs += 1;
                }
            }
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::BridgeClose
            | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }

    /// The shell cannot write it any further.
    pub(super) fn recording_failed(&mut self, why: String, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::End | Awaiting::BridgeClose => {
                self.incident(IncidentKind::RecordingFailed, why, now, node);
                if self.awaits == Awaiting::End {
                    self.recording_over(RecordingState::Failed, now, node);
                    let command = BridgeCommand::Record(RecordingCommand::Stop);
                    node.emit(Output::Bridge { call: self.id, command });
                    self.progress(node);
                } else if let Some(recording) = &mut self.record.media.recording {
                    recording.state = RecordingState::Failed;
                }
            }
            // The record is out, and the log of the shell has it.
            Awaiting::LastMessage => node.counters.late_inputs += 1,
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener => node.counters.unexpected_inputs += 1,
        }
    }

    /// The recording is over, if it was not before.
    pub(super) fn recording_over(&mut self, state: RecordingState, now: Instant, node: &Node) {
        if let Some(recording) = &mut self.record.media.recording
            && recording.state.is_open()
        {
            recording.state = state;
            recording.ended_unix_ms = Some(node.unix_ms(now));
        }
    }

    /// Whether the command fits the recording's state; then it is carried out.
    fn tape(&mut self, command: RecordingCommand, now: Instant, node: &mut Node) -> bool {
        let state = self.record.media.recording.as_ref().map(|recording| recording.state);
        let next = match (command, state) {
            (RecordingCommand::Start(rule), None) => {
                self.record.media.recording = Some(RecordingSummary {
                    state: RecordingState::Recording,
                    format: rule.format,
                    started_unix_ms: node.unix_ms(now),
                    ended_unix_ms: None,
                    lost_ms: 0,
                });
                RecordingState::Recording
            }
            (RecordingCommand::Pause, Some(RecordingState::Recording)) => RecordingState::Paused,
            (RecordingCommand::Resume, Some(RecordingState::Paused)) => RecordingState::Recording,
            (RecordingCommand::Stop, Some(RecordingState::Recording | RecordingState::Paused)) => {
                RecordingState::Completed
            }
            (
                RecordingCommand::Start(_)
                | RecordingCommand::Pause
                | RecordingCommand::Resume
                | RecordingCommand::Stop,
                _,
            ) => return false,
        };
        if next == RecordingState::Completed {
            self.recording_over(next, now, node);
        } else if let Some(recording) = &mut self.record.media.recording {
            recording.state = next;
        }
        node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Record(command) });
        true
    }
}
