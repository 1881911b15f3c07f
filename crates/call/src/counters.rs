//! What the engine counts and what it holds, for metrics and leak checks. Plain numbers: no label ever names a call.

use std::collections::BTreeMap;

use crate::verdict::VerdictCode;

/// Counts since the start; they only rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// INVITEs judged, by what came of them. At most one entry for each code.
    pub verdicts: BTreeMap<VerdictCode, u64>,
    /// Calls admitted.
    pub calls: u64,
    /// Calls answered.
    pub answered: u64,
    /// Calls that were begun to be placed.
    pub placed: u64,
    /// Calls to be placed that there was no room for: they wait elsewhere.
    pub not_placed: u64,
    /// Gateways asked by OPTIONS whether they are there.
    pub qualify_asked: u64,
    /// Questions without an answer, and gateways without an address.
    pub qualify_failed: u64,
    /// Questions put off because too many were under way.
    pub qualify_delayed: u64,
    /// REGISTERs sent, answers to challenges not counted.
    pub register_sent: u64,
    /// REGISTERs that were accepted.
    pub register_accepted: u64,
    /// REGISTERs that were refused.
    pub register_refused: u64,
    /// REGISTERs without an answer.
    pub register_unanswered: u64,
    /// REGISTERs put off, for the endpoint had no room.
    pub register_delayed: u64,
    /// Calls that came to a registered Contact, or to a number of a trunk from the registrar that holds it.
    pub registered_calls: u64,
    /// INVITEs sent to gateways.
    pub invites: u64,
    /// INVITEs given up for the next gateway.
    pub failovers: u64,
    /// Places that redirects led calls to.
    pub redirects_followed: u64,
    /// Places that redirects named and policy did not allow.
    pub redirects_refused: u64,
    /// Requests of strangers beyond their allowance: met with silence.
    pub silenced: u64,
    /// Requests that waited for the table, which was still being read.
    pub waited: u64,
    /// INVITEs among them that were connected by their number alone.
    pub found_alone: u64,
    /// Requests that there was no room for to wait: left to be repeated.
    pub turned_from_waiting: u64,
    /// Repeats of an INVITE that was refused before: refused again, without another verdict.
    pub repeated_refusals: u64,
    /// Bytes that were no SIP message.
    pub malformed: u64,
    /// Requests outside of dialogs that are neither INVITE nor OPTIONS: refused.
    pub other_requests: u64,
    /// Offers within a dialog that were refused.
    pub refused_changes: u64,
    /// Calls whose media was agreed to be encrypted.
    pub encrypted: u64,
    /// Times a carrier's media did not keep to the encryption agreed on.
    pub encryption_broken: u64,
    /// Frames of agents that were not understood.
    pub agent_protocol_errors: u64,
    /// Times an agent's audio overflowed its queue.
    pub agent_overflows: u64,
    /// Times that one side of a call was not heard.
    pub one_way_calls: u64,
    /// Things agents asked of their call and were refused: hold.
    pub unsupported_wishes: u64,
    /// Transfers asked for, by agents and the API.
    pub transfers: u64,
    /// Transfers not even tried: the policy, or the call's state, is against it.
    pub transfers_refused: u64,
    /// Transfers that brought the caller to somebody: a second leg was joined, or the carrier took the caller over.
    pub transfers_connected: u64,
    /// Transfers that were tried and came to nothing.
    pub transfers_failed: u64,
    /// REFERs of carriers that were refused.
    pub refers_refused: u64,
    /// Inputs for a call that is over: races, mostly.
    pub late_inputs: u64,
    /// Inputs that make no sense in the state their call is in: faults of the shell.
    pub unexpected_inputs: u64,
    /// Bridges whose end was never reported.
    pub lost_bridges: u64,
}

/// What is held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Calls, those included that only await their last messages.
    pub calls: usize,
    /// Calls that hold a place of admission.
    pub admitted: usize,
    /// Sessions mapped to calls.
    pub sessions: usize,
    /// SIP Call-IDs mapped to calls.
    pub sip_call_ids: usize,
    /// Deadlines of calls.
    pub deadlines: usize,
    /// Gateways asked whether they are there, without an answer so far.
    pub questions: usize,
    /// Registrations under way: looked for, asked for, or being taken back.
    pub registrations: usize,
    /// Requests that wait for the table.
    pub waiting: usize,
    /// Outputs not yet polled.
    pub outputs: usize,
    /// What the endpoint holds.
    pub endpoint: tandem_sip::Census,
}

impl Counters {
    pub(crate) fn verdict(&mut self, code: VerdictCode) {
        *self.verdicts.entry(code).or_default() += 1;
    }
}
