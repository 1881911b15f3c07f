//! What the direct agents share: the tools that a model may call to have its call ended, transferred or keyed, and the
//! settings of a session.
//!
//! Any other tool is the business of the agent's own server, and is answered as unknown.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{bounded_name, is_dial_string};
use crate::json::Scalar;
use crate::{AgentCommand, AgentEvent, TransferMode};

/// Answers that may wait to be taken.
const REPLIES_MAX: usize = 64;

/// Messages that a dialect owes to what it has read.
#[derive(Debug, Default)]
pub(super) struct Replies(std::collections::VecDeque<String>);

impl Replies {
    /// Beyond the bound an answer is lost: that agent asks without listening.
    pub(super) fn push(&mut self, message: &Value) {
        if self.0.len() < REPLIES_MAX {
            self.0.push_back(message.to_string());
        }
    }

    pub(super) fn pop(&mut self, out: &mut Vec<u8>) -> Option<crate::FrameKind> {
        out.extend_from_slice(self.0.pop_front()?.as_bytes());
        Some(crate::FrameKind::Text)
    }
}

#[derive(Deserialize, Default)]
struct Arguments<'a> {
    #[serde(borrow, default)]
    target: Scalar<'a>,
    #[serde(borrow, default)]
    digits: Scalar<'a>,
}

/// What became of a tool call, in words for the model.
pub(super) struct Outcome {
    pub(super) text: &'static str,
    pub(super) is_error: bool,
    /// The call goes on, so the model has more to say.
    pub(super) goes_on: bool,
}

/// Does what a tool call asks; `arguments` is the JSON text of an object.
pub(super) fn perform(name: &str, arguments: &str, sink: &mut impl FnMut(AgentCommand<'_>)) -> Outcome {
    let done = |text| Outcome { text, is_error: false, goes_on: true };
    let failed = |text| Outcome { text, is_error: true, goes_on: true };
    let given: Arguments<'_> = serde_json::from_str(arguments).unwrap_or_default();
    match name {
        "end_call" => {
            sink(AgentCommand::Finish);
            Outcome { text: "the call is being ended", is_error: false, goes_on: false }
        }
        "transfer_call" => match given.target.as_str().map(bounded_name) {
            Some(Ok(target)) if !target.is_empty() => {
                sink(AgentCommand::Transfer { target, mode: TransferMode::Auto });
                done("the caller is being transferred; you will be told if it fails")
            }
            _ => failed("target is missing: a number, tel: or sip: URI"),
        },
        "send_dtmf" => match given.digits.as_str().map(bounded_name) {
            Some(Ok(digits)) if is_dial_string(digits) => {
                sink(AgentCommand::SendDtmf { digits });
                done("the keys are being sent")
            }
            _ => failed("digits is missing: some of 0-9 * # A-D"),
        },
        _ => failed("there is no such tool here"),
    }
}

/// The tools as JSON Schema has them: name, what it does, its parameters.
pub(super) fn offered() -> impl Iterator<Item = (&'static str, &'static str, Value)> {
    let of = |name: &str, about: &str| json!({"type": "object", "required": [name], "properties": {name: {"type": "string", "description": about}}});
    [
        ("end_call", "Ends the telephone call.", json!({"type": "object", "properties": {}})),
        ("transfer_call", "Transfers the caller.", of("target", "A number, tel: or sip: URI.")),
        ("send_dtmf", "Sends keys to the caller.", of("digits", "Some of 0-9 * # A-D.")),
    ]
    .into_iter()
}

/// Lays `over` on `base`: objects are merged, all else is replaced.
pub(super) fn lay_over(base: &mut Value, over: &Map<String, Value>) {
    let Value::Object(stands) = base else { return };
    for (name, value) in over {
        match (stands.get_mut(name), value) {
            (Some(inner @ Value::Object(_)), Value::Object(object)) => lay_over(inner, object),
            _ => {
                stands.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Puts `value` where `path` leads, whatever stood in its way.
pub(super) fn put_at(base: &mut Value, path: &[&str], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        *base = value;
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    if let Value::Object(object) = base {
        put_at(object.entry(*name).or_insert(Value::Null), rest, value);
    }
}

/// What happens to the call in words for the model, where the service has no event for it.
pub(super) fn told(event: &AgentEvent<'_>) -> Option<String> {
    Some(match event {
        AgentEvent::Digit { digit, .. } => format!("The caller pressed the key {digit}."),
        AgentEvent::Held { is_held: true } => {
            "The caller has put this call on hold and hears nothing.".to_owned()
        }
        AgentEvent::Held { is_held: false } => "The caller is back from hold.".to_owned(),
        AgentEvent::TransferFailed { text } => {
            format!("The transfer failed ({text}). The caller is still on the line with you.")
        }
        _ => return None,
    })
}
