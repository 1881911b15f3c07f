//! What a carrier's refusal means: SIP statuses and Q.850 causes, as status and reason of a call's record.
//!
//! One table of the whole mapping, and no state: RFC 3398 section 8.2.6.1 for SIP statuses, ITU-T Q.850 for causes; the
//! words are Bolna's. Where both came, the cause speaks: a gateway translates it into a status with loss.

use crate::record::{CallStatus, HangupReason};

/// The reason that goes with a Q.850 cause, the one of its class for a cause that has none of its own.
pub const fn reason_of_q850(cause: u8) -> HangupReason {
    match cause {
        // Unallocated, no route to the destination, number changed, misrouted, address incomplete class.
        1..=3 | 5 | 22 => HangupReason::NumberInvalid,
        28 => HangupReason::NumberFormatInvalid,
        17 => HangupReason::RecipientBusy,
        // No user responding, no answer, subscriber absent.
        18..=20 => HangupReason::Unanswered,
        // Rejected; and what the called side's service or barring refuses.
        21 | 50..=57 | 87 => HangupReason::RecipientRejected,
        16 | 31 => HangupReason::EndedNormally,
        27 | 38 => HangupReason::NetworkError,
        // Resources of the network: no circuit, temporary failure, congestion.
        34 | 39..=47 => HangupReason::TemporaryFailure,
        102 => HangupReason::NetworkError,
        _ => HangupReason::TemporaryFailure,
    }
}

/// Whether Q.850 defines the cause, as far as [`reason_of_q850`] tells it from others.
pub const fn is_known_cause(cause: u8) -> bool {
    matches!(cause, 1..=3 | 5 | 16..=22 | 27 | 28 | 31 | 34 | 38..=47 | 50..=57 | 87 | 102)
}

/// Status and reason of a call that a carrier refused with a final SIP status, and with a Q.850 cause if its Reason header
/// (RFC 3326) held one.
pub const fn outcome_of_refusal(sip_status: u16, q850: Option<u8>) -> (CallStatus, HangupReason) {
    let reason = match q850 {
        // "Normal" tells nothing about a call that never was: then the status speaks.
        Some(cause) if cause != 16 && cause != 31 => reason_of_q850(cause),
        Some(_) | None => reason_of_status(sip_status),
    };
    (status_of(reason), reason)
}

const fn reason_of_status(sip_status: u16) -> HangupReason {
    match sip_status {
        404 | 410 | 604 => HangupReason::NumberInvalid,
        484 => HangupReason::NumberFormatInvalid,
        486 | 600 => HangupReason::RecipientBusy,
        408 | 480 => HangupReason::Unanswered,
        // Refused by the called side or by the carrier's policy.
        401..=403 | 407 | 433 | 603 | 607 | 608 => HangupReason::RecipientRejected,
        487 => HangupReason::CanceledByOriginator,
        500..=502 | 504..=599 => HangupReason::NetworkError,
        _ => HangupReason::TemporaryFailure,
    }
}

/// The status that goes with a reason of a call never answered.
const fn status_of(reason: HangupReason) -> CallStatus {
    match reason {
        HangupReason::RecipientBusy => CallStatus::Busy,
        HangupReason::Unanswered => CallStatus::NoAnswer,
        HangupReason::CanceledByOriginator => CallStatus::Canceled,
        HangupReason::BalanceLow => CallStatus::BalanceLow,
        HangupReason::EndedNormally
        | HangupReason::RecipientRejected
        | HangupReason::TemporaryFailure
        | HangupReason::NumberInvalid
        | HangupReason::NetworkError
        | HangupReason::NumberFormatInvalid
        | HangupReason::InactivityTimeout
        | HangupReason::MaximumDuration
        | HangupReason::PromptedHangup
        | HangupReason::NodeDrained => CallStatus::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_of_the_guide_has_its_text_and_its_status() {
        // The guide's table: the cause's number, the words of its table, and what becomes of a call not answered.
        for (cause, text, status) in [
            (17, "Call recipient was busy", CallStatus::Busy),
            (19, "Call unanswered", CallStatus::NoAnswer),
            (21, "Call recipient rejected", CallStatus::Failed),
            (41, "Temporary network failure", CallStatus::Failed),
            (1, "Call recipient number invalid", CallStatus::Failed),
            (38, "Network error", CallStatus::Failed),
            (28, "Invalid phone number format", CallStatus::Failed),
        ] {
            let (outcome, reason) = outcome_of_refusal(500, Some(cause));
            assert_eq!((reason.as_str(), outcome), (text, status), "cause {cause}");
            assert_eq!(reason.q850(), cause, "the reason's own cause is the guide's");
        }
        assert_eq!(reason_of_q850(16).as_str(), "Call ended normally");
        assert_eq!(outcome_of_refusal(487, Some(16)).1.as_str(), "Call canceled by originator");
    }

    #[test]
    fn a_status_without_a_cause_speaks_for_itself() {
        for (sip, reason, status) in [
            (404, HangupReason::NumberInvalid, CallStatus::Failed),
            (408, HangupReason::Unanswered, CallStatus::NoAnswer),
            (480, HangupReason::Unanswered, CallStatus::NoAnswer),
            (484, HangupReason::NumberFormatInvalid, CallStatus::Failed),
            (486, HangupReason::RecipientBusy, CallStatus::Busy),
            (487, HangupReason::CanceledByOriginator, CallStatus::Canceled),
            (503, HangupReason::TemporaryFailure, CallStatus::Failed),
            (500, HangupReason::NetworkError, CallStatus::Failed),
            (600, HangupReason::RecipientBusy, CallStatus::Busy),
            (603, HangupReason::RecipientRejected, CallStatus::Failed),
            (403, HangupReason::RecipientRejected, CallStatus::Failed),
            (488, HangupReason::TemporaryFailure, CallStatus::Failed),
        ] {
            assert_eq!(outcome_of_refusal(sip, None), (status, reason), "{sip}");
        }
        // A cause that says "normal" about a call that was refused tells nothing.
        assert_eq!(outcome_of_refusal(486, Some(16)).0, CallStatus::Busy);
        // A cause says more than the status that a gateway made of it.
        assert_eq!(outcome_of_refusal(480, Some(17)).0, CallStatus::Busy);
    }

    #[test]
    fn every_cause_and_every_status_ends_a_call() {
        for cause in 0..=127 {
            for status in 300..=699 {
                assert!(outcome_of_refusal(status, Some(cause)).0.is_final());
            }
        }
    }
}
