//! Why calls end: each cause as it stands in the record and the verdict, and as the caller is told.
//!
//! One table of the whole mapping, and no state. The words are Bolna's where it has them. RFC 3326, Q.850.

use std::time::Duration;

use tandem_sip::EndedBy;

use crate::bridge::AgentHangUpCause;
use crate::cause::{is_known_cause, reason_of_q850};
use crate::config::AgentFailureStatus;
use crate::input::HangUpCommand;
use crate::record::{CallStatus, HangupBy, HangupReason};
use crate::verdict::VerdictCode;

/// Why a call ends.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) status: CallStatus,
    pub(super) by: HangupBy,
    pub(super) reason: HangupReason,
    /// What came of the INVITE, if it has no final response yet.
    pub(super) code: VerdictCode,
    /// What it is refused with then.
    pub(super) refusal: u16,
    /// What went wrong, for the tenant.
    pub(super) error: Option<String>,
}

impl Ending {
    fn new(status: CallStatus, by: HangupBy, reason: HangupReason, code: VerdictCode) -> Self {
        Self { status, by, reason, code, refusal: code.status(), error: None }
    }

    /// The cause that came with the BYE of an answered call. "Normal" and causes that no word stands for change nothing.
    pub(super) fn because_of(&mut self, q850: u8) {
        let reason = reason_of_q850(q850);
        let is_fault = matches!(reason, HangupReason::TemporaryFailure | HangupReason::NetworkError);
        if self.status == CallStatus::Completed && is_fault && is_known_cause(q850) {
            self.reason = reason;
            self.by = HangupBy::Carrier;
        }
    }

    fn because(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// The same for a call that we placed: the agent is the caller there, and the far end is called.
    pub(super) fn of_outbound(mut self) -> Self {
        self.by = match self.by {
            HangupBy::Caller => HangupBy::Callee,
            HangupBy::Callee => HangupBy::Caller,
            other => other,
        };
        self.error = self.error.map(|error| error.replace("the caller", "the callee"));
        self
    }
}

/// A carrier refused the call that we placed. `by` is told as of an inbound call, like all of these.
pub(super) fn by_refusal(
    status: CallStatus,
    by: HangupBy,
    reason: HangupReason,
    code: VerdictCode,
    error: String,
) -> Ending {
    Ending::new(status, by, reason, code).because(error)
}

/// The callee's telephone rang for so long.
pub(super) fn unanswered(seconds: u64) -> Ending {
    let (by, reason) = (HangupBy::Caller, HangupReason::Unanswered);
    Ending::new(CallStatus::NoAnswer, by, reason, VerdictCode::CalleeSilent)
        .because(format!("nobody answered within {seconds} s"))
}

/// No gateway could be had.
pub(super) fn unreachable(error: String) -> Ending {
    let (by, reason) = (HangupBy::Carrier, HangupReason::NetworkError);
    Ending::new(CallStatus::Failed, by, reason, VerdictCode::GatewaysUnreachable).because(error)
}

/// What came with the callee's 200 is no answer to our offer.
pub(super) fn unusable_answer(error: String) -> Ending {
    let (by, reason) = (HangupBy::Carrier, HangupReason::NetworkError);
    Ending::new(CallStatus::Failed, by, reason, VerdictCode::OfferUnacceptable).because(error)
}

/// There is no media path, or it died.
pub(super) fn media_failed(status: CallStatus, error: String) -> Ending {
    let code = VerdictCode::MediaUnavailable;
    Ending::new(status, HangupBy::Error, HangupReason::TemporaryFailure, code).because(error)
}

/// The agent could not be had.
pub(super) fn agent_failed(code: VerdictCode, told: AgentFailureStatus, error: String) -> Ending {
    let ending = Ending::new(CallStatus::Failed, HangupBy::Error, HangupReason::TemporaryFailure, code);
    Ending { refusal: told.status(), ..ending.because(error) }
}

/// The agent's owner wants none but known callers, and this one is not.
pub(super) fn caller_not_known(error: String) -> Ending {
    let (by, reason) = (HangupBy::Callee, HangupReason::RecipientRejected);
    Ending::new(CallStatus::Failed, by, reason, VerdictCode::CallerNotAllowed).because(error)
}

/// No audio came from the caller for so long.
pub(super) fn media_silent(seconds: u64) -> Ending {
    let (by, reason) = (HangupBy::Carrier, HangupReason::InactivityTimeout);
    Ending::new(CallStatus::Completed, by, reason, VerdictCode::CallerLost)
        .because(format!("no RTP and no RTCP came for {seconds} s"))
}

/// Neither side said anything for so long: a limit of the agent's side, Bolna's `hangup_after_silence`.
pub(super) fn nobody_speaks(silence: Duration) -> Ending {
    let (by, reason) = (HangupBy::Callee, HangupReason::InactivityTimeout);
    Ending::new(CallStatus::Completed, by, reason, VerdictCode::EndedBeforeAnswer)
        .because(format!("nobody spoke for {} s", silence.as_secs_f64()))
}

/// The longest allowed duration was reached: a limit of the agent's side, as Bolna's `call_terminate` is.
pub(super) fn too_long() -> Ending {
    let (by, reason) = (HangupBy::Callee, HangupReason::MaximumDuration);
    Ending::new(CallStatus::Completed, by, reason, VerdictCode::EndedBeforeAnswer)
        .because("the longest allowed duration was reached")
}

/// The caller's own end of the call.
pub(super) fn caller_ended(by: &EndedBy, was_answered: bool) -> Ending {
    let status = if was_answered { CallStatus::Completed } else { CallStatus::Failed };
    let lost = |error: &str| {
        Ending::new(status, HangupBy::Carrier, HangupReason::NetworkError, VerdictCode::CallerLost)
            .because(error)
    };
    match by {
        EndedBy::ByeReceived if was_answered => {
            Ending::new(status, HangupBy::Caller, HangupReason::EndedNormally, VerdictCode::CallerLost)
        }
        // RFC 3261 section 15: "The caller's UA MAY send a BYE for either confirmed or early dialogs": on an early one it
        // means what CANCEL means.
        EndedBy::ByeReceived | EndedBy::Cancelled => Ending::new(
            CallStatus::Canceled,
            HangupBy::Caller,
            HangupReason::CanceledByOriginator,
            VerdictCode::CancelledByCaller,
        ),
        EndedBy::NoAck => {
            Ending { status: CallStatus::Failed, ..lost("the caller never acknowledged the answer") }
        }
        EndedBy::NoPrack => lost("the caller never acknowledged a reliable provisional response"),
        EndedBy::SessionExpired => lost("the caller did not refresh the session in time"),
        EndedBy::DialogLost => lost("the caller forgot the dialog"),
        EndedBy::TransportLost => lost("the caller cannot be reached"),
        // Ends of our own doing, reported while the call is live: only a bound of the endpoint can be behind it.
        EndedBy::Rejected { .. } | EndedBy::HungUp | EndedBy::Refused { .. } | EndedBy::NoResponse => {
            let (by, reason) = (HangupBy::Error, HangupReason::TemporaryFailure);
            Ending::new(CallStatus::Error, by, reason, VerdictCode::CallerLost)
                .because("the signalling ended by itself")
        }
    }
}

/// The agent's end of the call. RFC 6455 section 7.4.1: 1000 and 1001 are closes in good order, 1005 stands for none given.
pub(super) fn agent_ended(cause: AgentHangUpCause) -> Ending {
    let ending = |status, by, reason| Ending::new(status, by, reason, VerdictCode::EndedBeforeAnswer);
    let completed = ending(CallStatus::Completed, HangupBy::Callee, HangupReason::EndedNormally);
    match cause {
        AgentHangUpCause::Command | AgentHangUpCause::Closed { code: None | Some(1000 | 1001 | 1005) } => {
            completed
        }
        AgentHangUpCause::Closed { code: Some(code) } => {
            completed.because(format!("the agent closed its socket with {code}"))
        }
        AgentHangUpCause::Lost => ending(CallStatus::Completed, HangupBy::Error, HangupReason::NetworkError)
            .because("the agent's connection broke"),
        AgentHangUpCause::ProtocolErrors => {
            ending(CallStatus::Failed, HangupBy::Error, HangupReason::TemporaryFailure)
                .because("the agent sent too much that could not be understood")
        }
    }
}

/// The carrier took the caller over, as it was asked.
pub(super) fn transferred() -> Ending {
    let (by, reason) = (HangupBy::Callee, HangupReason::EndedNormally);
    Ending::new(CallStatus::Completed, by, reason, VerdictCode::EndedBeforeAnswer)
}

/// Who the caller was transferred to has gone; the cause is empty when they hung up.
pub(super) fn second_ended(cause: &str) -> Ending {
    let ending = |by, reason| Ending::new(CallStatus::Completed, by, reason, VerdictCode::EndedBeforeAnswer);
    match cause {
        "" => ending(HangupBy::Callee, HangupReason::EndedNormally),
        _ => ending(HangupBy::Carrier, HangupReason::NetworkError).because(cause),
    }
}

/// A command of the API.
pub(super) fn commanded(as_what: HangUpCommand) -> Ending {
    let status = match as_what {
        HangUpCommand::Stop => CallStatus::Stopped,
        HangUpCommand::Complete => CallStatus::Completed,
    };
    let code = VerdictCode::EndedBeforeAnswer;
    Ending::new(status, HangupBy::ApiRequest, HangupReason::EndedNormally, code)
}

/// The bound of the node's drain ran out.
pub(super) fn drained() -> Ending {
    Ending::new(CallStatus::Stopped, HangupBy::Error, HangupReason::NodeDrained, VerdictCode::Draining)
        .because("the node stopped before the call was over")
}

/// Offer and answer came to nothing.
pub(super) fn unacceptable(refusal: u16, error: String) -> Ending {
    let (by, reason) = (HangupBy::Carrier, HangupReason::NetworkError);
    let ending = Ending::new(CallStatus::Failed, by, reason, VerdictCode::OfferUnacceptable);
    Ending { refusal, ..ending.because(error) }
}

/// RFC 3261 section 13.2.1: an offer in the 2xx has its answer in the ACK, and this one had none.
pub(super) fn no_answer_in_ack() -> Ending {
    unacceptable(488, "the ACK brought no usable answer to our offer".to_owned())
}

/// The cause in a Reason header (RFC 3326): `Q.850;cause=16;text="…"`, possibly among others.
pub(super) fn q850_of(reason: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(reason).ok()?;
    let value = text.split(',').find(|value| {
        value.split(';').next().is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("Q.850"))
    })?;
    let cause = value.split(';').skip(1).find_map(|parameter| {
        let (name, cause) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("cause").then(|| cause.trim())
    })?;
    cause.parse().ok().filter(|cause| *cause < 128)
}
