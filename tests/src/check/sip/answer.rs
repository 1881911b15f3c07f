//! An answer held against its offer, section by section (RFC 3264 6).

use std::time::Instant;

use crate::carrier::sdp;
use crate::check::Findings;
use crate::message::SipText;

pub(super) fn check_answer(now: Instant, request: &SipText, response: &SipText, findings: &mut Findings) {
    if request.body.is_empty() {
        return;
    }
    let call_id = request.call_id();
    let (offered, answered) = (sdp::sections(&request.body), sdp::sections(&response.body));
    if offered.len() != answered.len() {
        let detail = format!("{} m= lines answer {}", answered.len(), offered.len());
        findings.note("sdp-sections", now, call_id, detail);
    }
    for (offer, answer) in offered.iter().zip(&answered) {
        if offer.media != answer.media {
            findings.note(
                "sdp-sections",
                now,
                call_id,
                format!("m={} answers m={}", answer.media, offer.media),
            );
        }
        if answer.port == 0 {
            continue;
        }
        if !answer.formats.iter().all(|format| offer.formats.contains(format)) || answer.formats.is_empty() {
            let detail = format!("{:?} answers {:?}", answer.formats, offer.formats);
            findings.note("sdp-formats", now, call_id, detail);
        }
        let allowed: &[&str] = match offer.direction.as_str() {
            "sendonly" => &["recvonly", "inactive"],
            "recvonly" => &["sendonly", "inactive"],
            "inactive" => &["inactive"],
            _ => &["sendrecv", "sendonly", "recvonly", "inactive"],
        };
        if !allowed.contains(&answer.direction.as_str()) {
            findings.note(
                "sdp-direction",
                now,
                call_id,
                format!("{} answers {}", answer.direction, offer.direction),
            );
        }
    }
}
