//! The dry run: what would become of an INVITE, by the same functions in the same order as for one that comes.
//!
//! What it refuses to do: take a place, send, remember, or check a password: credentials are said to prove a trunk or
//! left out.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use tandem_sip::{Message, Method, Request, Transport};

use crate::admission::Side;
use crate::connect::{note_no_room, note_objection};
use crate::engine::Engine;
use crate::ids::TrunkId;
use crate::invite::query_of;
use crate::negotiation::read_offer;
use crate::route::{self, Action, Authentication, Decision};
use crate::verdict::{Check, StepOutcome, Verdict};

/// An INVITE that never came.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The message, whole.
    pub message: Bytes,
    /// Where it would come from.
    pub source: SocketAddr,
    /// By which transport.
    pub transport: Transport,
    /// The trunk that its credentials would prove.
    pub proven: Option<TrunkId>,
}

impl Engine {
    /// What would become of an INVITE: routing, protocol and admission as they stand now, nothing taken and nothing sent.
    /// Where it would be connected the code is `accepted`; what the agent then does, nobody knows beforehand.
    ///
    /// # Errors
    /// Why the message is no INVITE that the endpoint would hand on.
    pub fn dry_run(&mut self, asked: &DryRun, now: Instant) -> Result<Verdict, String> {
        let request = read_invite(asked.message.clone())?;
        let (summary, _) = read_offer(request.fields().body_bytes());
        let query = query_of(&request, asked.source, asked.transport, summary);
        let mut decision = self.decide(&query, &request.uri());
        if let (Action::Challenge(_), Some(trunk)) = (&decision.action, &asked.proven) {
            let proven = Authentication::Verified(trunk.clone());
            decision = route::evaluate(&query, &self.node.table, &proven);
        }
        let (user, caller) = query.caller();
        drop(query);
        let Decision { mut verdict, action, .. } = decision;
        let Action::Connect(route) = action else { return Ok(verdict) };
        if let Some(objection) = self.node.endpoint.objection(&request) {
            note_objection(&mut verdict, &objection);
            return Ok(verdict);
        }
        match self.node.admission.check(&route.trunk, Side::Inbound, now) {
            Ok(()) => {
                let name = route.trunk.name.clone();
                verdict.step(Check::TrunkLimits, StepOutcome::Passed, name, "there is room");
                let before = self.node.answered(&route.agent.id, &caller);
                if let Err(no_room) = self.node.admission.check_caller(&route.agent, &caller, before) {
                    verdict.step(Check::CallerRules, StepOutcome::Failed, user, no_room.detail);
                    verdict.conclude(no_room.code);
                }
            }
            Err(no_room) => drop(note_no_room(&mut verdict, &route.trunk, no_room)),
        }
        Ok(verdict)
    }
}

fn read_invite(message: Bytes) -> Result<Request, String> {
    match Message::parse_datagram(message) {
        Ok(Message::Request(request)) if request.method() == Method::Invite => Ok(request),
        Ok(_) => Err("it is no INVITE".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
