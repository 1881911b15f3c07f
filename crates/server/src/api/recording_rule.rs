//! How a call is recorded, as bodies of agents and of live calls say it.

use tandem_call::{RecordingFormat, RecordingRule};
use tandem_media::recording::PauseMode;

use serde_json::Value;

use super::fields::{Faults, Fields};

const PAUSES: &[&str] = &["silence", "skip"];

/// Reads `format` and `pause`; what is not given is the default.
pub(super) fn recording_rule(fields: &Fields<'_>, faults: &mut Faults) -> RecordingRule {
    let formats = RecordingFormat::ALL.map(RecordingFormat::as_str);
    RecordingRule {
        format: fields.word("format", &formats, RecordingFormat::from_word, faults).unwrap_or_default(),
        pause: fields.word("pause", PAUSES, pause_mode, faults).unwrap_or_default(),
    }
}

/// What the `recording` object of an agent asks for: there and not switched off, its calls are recorded.
pub(crate) fn rule_of_agent(object: &Value) -> Option<RecordingRule> {
    let object = object.as_object()?;
    if object.get("enabled") == Some(&Value::Bool(false)) {
        return None;
    }
    Some(recording_rule(&Fields::new(object, "recording"), &mut Faults::default()))
}

fn pause_mode(word: &str) -> Option<PauseMode> {
    match word {
        "silence" => Some(PauseMode::Silence),
        "skip" => Some(PauseMode::Skip),
        _ => None,
    }
}
