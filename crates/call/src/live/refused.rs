//! What follows a gateway's refusal of a call that we place: the next gateway, a place that it redirects to, or the end.
//!
//! Refuses to decide by itself: `failover` has the table, `redirect` judges where a 3xx may lead. RFC 3261 sections 8.1.3.4,
//! 21.3 to 21.6.

use std::time::Instant;

use tandem_sip::{HeaderName, Response, Transport};

use super::ending::{self, Ending};
use super::outbound::{Leg, Outgoing, Step};
use crate::cause::outcome_of_refusal;
use crate::failover::{FailoverCase, Next};
use crate::gateways::{Hop, RedirectedTo};
use crate::node::Node;
use crate::record::{HangupBy, HangupReason};
use crate::redirect::{self, Redirected};
use crate::table::Trunk;
use crate::verdict::{VerdictCode, wire_text};

impl Outgoing {
    /// A gateway refused the INVITE under way.
    pub(super) fn refused(
        &mut self,
        status: u16,
        response: &Response,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        self.tell_watch(leg, Ok(status), node);
        if (300..400).contains(&status) {
            return self.is_redirected(status, response, leg, now, node);
        }
        let cause = words_of_refusal(leg.trunk, status, response);
        self.refused_for(status, response, &cause, leg, now, node)
    }

    /// A 3xx: followed as far as policy allows, else a refusal like others.
    fn is_redirected(
        &mut self,
        status: u16,
        response: &Response,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        let judgement = redirect::judge(
            response,
            &Redirected {
                trunk: leg.trunk,
                dialled: &self.dialled,
                transport: self.transport().unwrap_or(Transport::Udp),
                address: leg.peer.ip(),
                tried: &self.redirected,
            },
        );
        let mut cause = format!("redirected with {status} {}", wire_text(response.reason()));
        node.counters.redirects_followed += judgement.places.len() as u64;
        node.counters.redirects_refused += judgement.refused.len() as u64;
        for (index, place) in judgement.places.iter().enumerate() {
            let word = if index == 0 { " to" } else { ", then to" };
            cause.push_str(&format!("{word} {}", wire_text(&place.uri)));
        }
        if !judgement.refused.is_empty() {
            cause.push_str(&format!("; {}", judgement.refused.join("; ")));
        }
        if judgement.places.is_empty() {
            return self.refused_for(status, response, &cause, leg, now, node);
        }
        let first_host = self.hop.as_ref().map_or_else(String::new, |hop| hop.first_host().to_owned());
        for place in judgement.places.into_iter().rev() {
            self.redirected.push(place.uri.clone());
            let redirected = RedirectedTo { uri: place.uri, first_host: first_host.clone() };
            self.hops.push_front(Hop { gateway: place.gateway, redirected_to: Some(redirected) });
        }
        leg.close_attempt(Some(status), &cause, now, node);
        *leg.session = None;
        self.next_gateway(leg, now, node)
    }

    fn refused_for(
        &mut self,
        status: u16,
        response: &Response,
        cause: &str,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        let q850 = response.header(HeaderName::Reason).and_then(ending::q850_of);
        let ending = refusal_ending(status, q850, format!("{}: {cause}", leg.gateway_name()));
        self.refused = Some(ending.clone());
        match leg.trunk.outbound.failover.after(FailoverCase::Status(status)) {
            Next::Gateway => self.try_next(Some(status), cause, leg, now, node),
            Next::End => {
                leg.close_attempt(Some(status), cause, now, node);
                Step::Over { ending, told: q850 }
            }
        }
    }
}

/// What a refusal means, in words that say what to do.
fn words_of_refusal(trunk: &Trunk, status: u16, response: &Response) -> String {
    let phrase = wire_text(response.reason());
    let refused = format!("refused with {status} {phrase}");
    match status {
        401 | 407 if trunk.auth.credentials().is_empty() => {
            format!("{refused}: it asks for credentials, and the trunk has none")
        }
        401 | 407 => {
            format!("{refused}: it does not take the trunk's user name and password")
        }
        403 => format!("{refused}: ask the carrier about the caller id, the destination and our address"),
        _ => refused,
    }
}

/// How a call ends that a gateway refused for good.
fn refusal_ending(status: u16, q850: Option<u8>, error: String) -> Ending {
    let (outcome, reason) = outcome_of_refusal(status, q850);
    let (by, code) = match reason {
        HangupReason::RecipientBusy | HangupReason::RecipientRejected | HangupReason::Unanswered => {
            (HangupBy::Caller, VerdictCode::CalleeRefused)
        }
        _ => (HangupBy::Carrier, VerdictCode::GatewayRefused),
    };
    // These are the carrier's own words for "not by me", whatever the record's word for them is.
    let code = if matches!(status, 401..=403 | 407) { VerdictCode::GatewayRefused } else { code };
    ending::by_refusal(outcome, by, reason, code, error)
}
