//! What the endpoint counts and what it holds, for metrics and for leak checks.

/// Counts since the endpoint was made; they only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages taken in, whole.
    pub received: u64,
    /// Messages handed out, repeats included.
    pub sent: u64,
    /// Messages that do not parse.
    pub malformed: u64,
    /// Requests handed to the engine before any state.
    pub incoming: u64,
    /// Requests refused or answered without state.
    pub stateless_replies: u64,
    /// Repeated requests answered or absorbed by their transaction.
    pub repeated_requests: u64,
    /// ACKs that match nothing, or acknowledge a stateless refusal: dropped.
    pub stray_acks: u64,
    /// Responses that match no transaction: dropped (RFC 6026 7.2).
    pub stray_responses: u64,
    /// In-dialog requests from addresses the session does not trust: refused 403.
    pub foreign_requests: u64,
    /// Requests for a dialog or INVITE that does not exist: 481.
    pub unknown_dialogs: u64,
    /// Requests for what does not exist, or from foreign addresses, that got silence for being too many.
    pub strays_unanswered: u64,
    /// Merged requests: 482.
    pub merged_requests: u64,
    /// Requests refused because a bound was reached: 503.
    pub overloaded: u64,
    /// Requests out of order: 500.
    pub out_of_order: u64,
    /// Offers refused because another one stands: 491 and 500.
    pub glare: u64,
    /// Messages sent again by a timer.
    pub retransmissions: u64,
    /// 2xx to an INVITE sent again.
    pub success_repeats: u64,
    /// Transactions of ours that nobody answered.
    pub timeouts: u64,
    /// Transmissions the shell reported as failed.
    pub transport_failures: u64,
    /// Provisional responses left out because RFC 3262 forbids them where they stood.
    pub provisionals_withheld: u64,
    /// Forked 2xx beyond the first, acknowledged and ended.
    pub forks_ended: u64,
    /// Stream connections closed for a bound: too many, too slow, or not SIP.
    pub streams_closed: u64,
    /// Keep-alives answered.
    pub keep_alives: u64,
    /// Requests of ours that went by TCP for being too large for a datagram.
    pub large_by_tcp: u64,
    /// Those of them that went by UDP after all, for the peer took no TCP.
    pub large_by_udp: u64,
    /// Requests of ours sent again over a new connection, for theirs was gone.
    pub moved_requests: u64,
    /// Connections closed because the peer answered pings no more.
    pub pongs_missed: u64,
    /// Requests of ours not sent because a bound was reached.
    pub unsent: u64,
}

/// What the endpoint holds at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions, those included whose last transactions still run out.
    pub sessions: usize,
    /// Dialogs in the index.
    pub dialogs: usize,
    /// Server transactions.
    pub server_transactions: usize,
    /// Client transactions.
    pub client_transactions: usize,
    /// Requests outside of dialogs that await their response.
    pub requests: usize,
    /// Stream connections.
    pub streams: usize,
    /// Deadlines.
    pub timers: usize,
    /// Messages not yet polled.
    pub transmits: usize,
    /// Events not yet polled.
    pub events: usize,
}
