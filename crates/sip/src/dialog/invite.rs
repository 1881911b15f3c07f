//! The INVITE usage: what a session awaits, as plain data. RFC 3261 13 to 15.
//!
//! The stages hold data only where it is valid; the endpoint's files act on them, one file a feature.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::refresh::Agreed;
use super::reliable::Reliable;
use super::{Dialog, DialogId};
use crate::auth::Answerer;
use crate::endpoint::config::SessionPolicy;
use crate::endpoint::event::{OfferKind, Refusal, Target};
use crate::flow::Flow;
use crate::ids::{SessionId, TransactionId};
use crate::message::Request;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) side: Side,
    pub(crate) policy: SessionPolicy,
    /// The way the peer's first message came, and its latest within the dialog from a trusted address.
    pub(crate) flow: Flow,
    /// The name that the peer has to bear over TLS, where we called it.
    pub(crate) name: Option<String>,
    /// The address the dialog belongs to: requests from it are never foreign.
    pub(crate) home: std::net::IpAddr,
    /// The value of our Contact.
    pub(crate) contact: Bytes,
    pub(crate) dialog: Dialog,
    pub(crate) stage: Stage,
    /// The peer's change of the session that awaits our answer.
    pub(crate) incoming: Option<IncomingOffer>,
    /// Our change of the session that awaits the peer's answer.
    pub(crate) outgoing: Option<OutgoingOffer>,
    /// 2xx of ours that await their ACK, by CSeq.
    pub(crate) successes: Vec<Success>,
    /// ACKs of ours, to be sent again for each repeated 2xx.
    pub(crate) acks: Vec<SentAck>,
    /// A re-INVITE of ours that the session ended over; it is given up in time.
    pub(crate) abandoned: Option<TransactionId>,
    /// What is agreed about session timers.
    pub(crate) timer: Option<Agreed>,
    /// Our last session description, for refreshes by re-INVITE.
    pub(crate) local_sdp: Option<Bytes>,
    /// Whether the peer lists UPDATE in Allow.
    pub(crate) peer_updates: bool,
    /// A BYE that waits for the ACK of our 2xx. Holds its Reason.
    pub(crate) bye_after_ack: Option<Option<Bytes>>,
    /// RSeq and CSeq of a reliable provisional response that the final one overtook; its PRACK is still taken.
    pub(crate) overtaken: Option<(u32, u32)>,
    /// Our credentials at the peer.
    pub(crate) answerer: Option<Answerer>,
    /// Our REFER, until its outcome was told.
    pub(crate) referral: Option<Referral>,
    /// Whether we ever sent one: NOTIFYs are then no surprise.
    pub(crate) has_referred: bool,
    /// The peer's REFER, until we told its outcome.
    pub(crate) referred: Option<Referred>,
    /// How many REFERs of the peer's there were.
    pub(crate) refers: u32,
    /// Transactions that name this session; it stays until they are gone.
    pub(crate) transactions: usize,
    /// Whether a 2xx was sent or received: only then does a BYE of the peer's belong to it.
    pub(crate) is_established: bool,
    /// Names under which this session stands in the index of dialogs.
    pub(crate) indexed: Vec<DialogId>,
}

/// A REFER of ours.
#[derive(Debug)]
pub(crate) struct Referral {
    /// Whether it had its 2xx.
    pub(crate) is_accepted: bool,
}

/// A REFER of the peer's.
#[derive(Debug)]
pub(crate) struct Referred {
    /// None once it was answered.
    pub(crate) transaction: Option<TransactionId>,
    /// The peer wants no NOTIFY (RFC 4488).
    pub(crate) is_silent: bool,
    /// The value of Event in our NOTIFYs.
    pub(crate) event: Bytes,
}

/// Who sent the INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The peer.
    Callee,
    /// We.
    Caller,
}

/// How far the session is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Our final response to the peer's INVITE is due.
    Inviting(Inviting),
    /// The peer's final response to our INVITE is due.
    Calling(Box<Calling>),
    /// A 2xx was sent or received.
    Confirmed,
    /// The peer's offer came in the 2xx and our ACK with the answer is due.
    Acknowledging(Box<Acknowledging>),
    /// It was told as ended; its transactions run out.
    Over,
}

/// The callee's INVITE.
#[derive(Debug)]
pub(crate) struct Inviting {
    pub(crate) transaction: TransactionId,
    /// Whether the INVITE held an offer.
    pub(crate) offered: bool,
    /// Reliable provisional responses, where they are used.
    pub(crate) reliable: Option<Reliable>,
    /// Our session description went out in a reliable provisional response and was acknowledged.
    pub(crate) described: bool,
    /// The answer that waits for a PRACK (RFC 3262 3).
    pub(crate) answer: Option<Bytes>,
    /// The last unreliable provisional response, repeated each minute.
    pub(crate) last: Option<Bytes>,
}

/// The caller's INVITE.
#[derive(Debug)]
pub(crate) struct Calling {
    pub(crate) transaction: TransactionId,
    /// Whether the INVITE held an offer.
    pub(crate) offered: bool,
    pub(crate) cancel: Cancel,
    /// Whether the wish to cancel came from the bound on ringing.
    pub(crate) rang_too_long: bool,
    /// Early dialogs with the RSeq last acknowledged.
    pub(crate) early: Vec<Early>,
    pub(crate) retries: Retries,
}

/// An early dialog of our INVITE.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) dialog: Dialog,
    pub(crate) rseq: Option<u32>,
}

/// How far a CANCEL of ours is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// Nobody wants one.
    None,
    /// It waits: RFC 3261 9.1, "If no provisional response has been received, the CANCEL request MUST NOT
    /// be sent; rather, the client MUST wait for the arrival of a provisional response".
    AwaitsProvisional { reason: Option<Bytes> },
    /// It was sent.
    Sent,
}

/// Our ACK that awaits its answer.
#[derive(Debug)]
pub(crate) struct Acknowledging {
    /// The INVITE, whose number and credentials the ACK repeats.
    pub(crate) sent: Request,
}

/// How often a request of ours was tried again for which reason; each reason once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retries {
    /// Answered challenges.
    pub(crate) challenges: u8,
    /// 422 obeyed.
    pub(crate) intervals: u8,
    /// 491 waited out.
    pub(crate) glares: u8,
}

/// The peer's re-INVITE, UPDATE or PRACK with an offer.
#[derive(Debug)]
pub(crate) struct IncomingOffer {
    pub(crate) transaction: TransactionId,
    pub(crate) kind: OfferKind,
    /// Whether it held an offer; if not, ours goes into the 2xx.
    pub(crate) offered: bool,
    /// The Contact that becomes the remote target if the change is accepted (RFC 6141 3.4).
    pub(crate) contact: Option<Bytes>,
    pub(crate) timer: Option<Agreed>,
}

/// Our re-INVITE or UPDATE.
#[derive(Debug)]
pub(crate) struct OutgoingOffer {
    /// None while it waits to be tried again.
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) kind: OfferKind,
    pub(crate) sdp: Option<Bytes>,
    pub(crate) purpose: Purpose,
    pub(crate) retries: Retries,
    /// Min-SE learnt from a 422.
    pub(crate) minimum: Option<Duration>,
}

/// Why we changed or refreshed the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The engine asked; it hears the outcome.
    Change,
    /// The session timer asked.
    Refresh,
}

/// A 2xx of ours on its way to be acknowledged.
#[derive(Debug)]
pub(crate) struct Success {
    pub(crate) transaction: TransactionId,
    pub(crate) cseq: u32,
    pub(crate) response: Bytes,
    pub(crate) target: Target,
    /// The interval after the next repetition.
    pub(crate) interval: Duration,
    /// 64*T1 after it was first sent.
    pub(crate) deadline: Instant,
    /// Whether it held our offer, so that the ACK holds the answer.
    pub(crate) holds_offer: bool,
    /// Whether it answers the INVITE that made the session.
    pub(crate) is_initial: bool,
}

/// An ACK of ours.
#[derive(Debug)]
pub(crate) struct SentAck {
    pub(crate) remote_tag: Bytes,
    pub(crate) cseq: u32,
    pub(crate) ack: Bytes,
    pub(crate) target: Target,
}

/// What a session's end sends.
#[derive(Debug)]
pub(crate) enum Farewell {
    /// A BYE with this Reason.
    Bye(Option<Bytes>),
    /// A final response to the peer's INVITE.
    Refuse(Refusal),
    /// Nothing.
    Silent,
}
