//! What a call that Tandem is to place finds at the trunk's gateways: one plan an order.

use std::time::Duration;

/// An order, and who is there to take the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPlan {
    /// What becomes of the INVITE at each gateway of the trunk, in the order of the trunk's list; at most one answers.
    pub gateways: Vec<GatewayPlan>,
    /// How long it may ring.
    pub ringing: Duration,
}

/// One gateway, as one order meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPlan {
    /// What its name leads to.
    pub look_up: LookUp,
    /// The status by which it asks for credentials, and how often.
    pub challenge: Option<(u16, Demands)>,
    /// What it makes of an INVITE that it is content with.
    pub then: Then,
}

impl GatewayPlan {
    /// A gateway that is found at once and asks for nothing.
    pub fn that(then: Then) -> Self {
        Self { look_up: LookUp::Found(Duration::from_millis(3)), challenge: None, then }
    }
}

/// What a gateway's name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUp {
    /// The gateway, after this long.
    Found(Duration),
    /// Nothing, after this long.
    Nothing(Duration),
    /// An address that nobody has.
    Lie,
    /// That address first, the gateway behind it.
    LieFirst,
}

/// How often a gateway asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demands {
    /// Until they are right.
    Once,
    /// Once more, for the nonce has grown old (RFC 7616 3.3).
    Stale,
    /// Always, and never content.
    Forever,
}

/// What a gateway makes of an INVITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The INVITE cannot be sent to it.
    Unreachable,
    /// Nothing at all.
    Silence,
    /// 100, and nothing more.
    Trying,
    /// 180, and nothing more.
    RingsForEver,
    /// A final response, after this long.
    Refuses {
        /// 180 before it.
        rings: bool,
        /// From the INVITE on.
        after: Duration,
        /// 300 to 699.
        status: u16,
    },
    /// 200, after this long.
    Answers {
        /// 180 before it.
        rings: bool,
        /// From the INVITE on.
        after: Duration,
        /// A second telephone answers too (RFC 3261 13.2.2.4: another To tag).
        forks: bool,
    },
}
