//! Whether another gateway of the trunk is tried after one has failed: the table, and the reasons for each of its lines.
//!
//! What a gateway says of *itself* sends the call on; what it says of the *callee* or of *us* ends it, for another gateway
//! would ring the same telephone twice or be told the same lie. One table and no state. RFC 3261 section 21, RFC 3263
//! section 4.3.

/// What follows an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next gateway, if there is one.
    Gateway,
    /// The call is over.
    End,
}

/// What follows a final response that is not 2xx.
///
/// | status | next | why |
/// |---|---|---|
/// | 300 to 399 | end | a redirect makes no call that nobody paid for: not followed (toll fraud), and told in the record |
/// | 400 | end | this gateway finds our request malformed; so will the next, and a repeat hides the fault |
/// | 401, 407 | end | the credentials were refused, or there are none; a second door locks the account sooner |
/// | 402 | end | the carrier wants money, at every gateway |
/// | 403 | end | policy of the carrier: a caller id it does not know, a country it does not call |
/// | 404, 410 | end | the number does not exist, or no more |
/// | 405, 406 | end | INVITE or our SDP not liked: a property of the request |
/// | 408 | gateway | a proxy got no answer from what is behind it: another way may have one |
/// | 409, 411, 412 | end | never seen on INVITE but from broken peers; a repeat mends nothing |
/// | 413, 414 | end | too long for it; the next is as likely to say so |
/// | 415, 416, 420, 421 | end | a body, a scheme or an extension: a property of the request |
/// | 422, 423 | end | the interval; the endpoint has tried the one asked for already |
/// | 428, 429, 436, 437, 438 | end | identity wanted or refused: policy of the carrier |
/// | 430 | gateway | RFC 5626: the flow to what is behind this proxy failed, not the callee |
/// | 433 | end | anonymity refused by the callee |
/// | 439, 440, 469, 470 | end | properties of the request or consent of the callee |
/// | 478 | gateway | Kamailio's "unresolvable destination": the gateway's own DNS |
/// | 480 | end | the callee is not there now; ringing it twice brings nobody home |
/// | 481 | end | the gateway lost its own transaction; it may have rung: not twice |
/// | 482, 483 | end | loops in the carrier's routing: another entrance feeds the same loop |
/// | 484, 485 | end | the number is too short or ambiguous |
/// | 486 | end | busy |
/// | 487 | end | ended at someone's wish |
/// | 488 | end | no common codec: the trunk's codecs are the same at each gateway |
/// | 489, 491, 493, 494 | end | of other methods or of security agreed on: properties of the request |
/// | other 4xx | end | RFC 3261 section 8.1.3.2 has them treated as 400 |
/// | 500 to 599 | gateway | the server failed, whoever is called: what failover is for |
/// | 600 to 699 | end | nobody anywhere will take this call |
pub const fn after_status(status: u16) -> Next {
    match status {
        408 | 430 | 478 | 500..=599 => Next::Gateway,
        _ => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_says_of_itself_sends_the_call_on_and_nothing_else_does() {
        let on: Vec<u16> = (300..700).filter(|status| after_status(*status) == Next::Gateway).collect();
        let wanted: Vec<u16> = [408, 430, 478].into_iter().chain(500..600).collect();
        assert_eq!(on, wanted);
    }
}
