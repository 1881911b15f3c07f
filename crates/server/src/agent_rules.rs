//! The rules of an agent's calls as they stand in its body: Bolna's fields, read for the call plane.
//!
//! The API has checked them when they came in ([`crate::api`]); whatever is not as it should be counts as not given.
//! `agent_config.tasks[].task_config` holds those of a call, `agent_config` the hours.

use std::time::Duration;

use serde_json::{Map, Value};
use tandem_call::{AgentRules, CallerSource, CallingHours, dialled};

use crate::api::{rule_of_agent, whole_number};

/// What documentation has in place of numbers; it names nobody.
const PLACEHOLDER: &str = "<any>";

/// Reads the rules.
///
/// `source_token` proves us to the service that knows callers; it is kept apart from the body.
pub fn agent_rules(body: &Map<String, Value>, source_token: Option<&str>) -> AgentRules {
    let config = body.get("agent_config");
    let setting = |name: &str| task_setting(body, name);
    let whole = |name: &str| setting(name).and_then(whole_number);
    AgentRules {
        inbound_limit: whole("inbound_limit").and_then(|most| u32::try_from(most).ok()),
        whitelist: setting("whitelist_phone_numbers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|number| *number != PLACEHOLDER)
            .filter_map(dialled::stored_key)
            .collect(),
        disallow_unknown: setting("disallow_unknown_numbers").and_then(Value::as_bool).unwrap_or(false),
        calling_hours: config.and_then(|config| config.get("calling_guardrails")).and_then(hours),
        max_duration: whole("call_terminate")
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        recording: body.get("recording").and_then(rule_of_agent),
        caller_source: config
            .and_then(|config| config.get("ingest_source_config"))
            .and_then(|source| caller_source(source, source_token)),
        silence: setting("hangup_after_silence")
            .and_then(Value::as_f64)
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    }
}

/// A setting of the agent's first task that has it.
fn task_setting<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let tasks = body.get("agent_config")?.get("tasks")?.as_array()?;
    tasks.iter().find_map(|task| task.get("task_config")?.get(name).filter(|value| !value.is_null()))
}

fn caller_source(source: &Value, token: Option<&str>) -> Option<CallerSource> {
    let text = |name: &str| source.get(name).and_then(Value::as_str);
    let kind = text("source_type")?;
    if kind != "api" {
        return Some(CallerSource::Unread(kind.to_owned()));
    }
    let (url, token) = (text("source_url")?.to_owned(), token.unwrap_or_default().to_owned());
    Some(CallerSource::Api { url, token })
}

fn hours(guardrails: &Value) -> Option<CallingHours> {
    let hour = |name: &str| {
        let hour = whole_number(guardrails.get(name)?)?;
        u8::try_from(hour).ok().filter(|hour| *hour < 24)
    };
    Some(CallingHours { start: hour("call_start_hour")?, end: hour("call_end_hour")? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_read_where_bolna_has_them() {
        let body = json!({"agent_config": {
            "calling_guardrails": {"call_start_hour": 9, "call_end_hour": 17},
            "ingest_source_config": {"source_type": "api", "source_url": "https://crm.example/"},
            "tasks": [{"task_type": "extraction"}, {"task_config": {
                "inbound_limit": 3, "whitelist_phone_numbers": ["+49 30 100", "<any>"],
                "disallow_unknown_numbers": true, "call_terminate": 90, "hangup_after_silence": 2.5,
            }}],
        }});
        let rules = agent_rules(body.as_object().unwrap(), Some("t"));
        assert_eq!(rules.inbound_limit, Some(3));
        assert_eq!(rules.whitelist.iter().collect::<Vec<_>>(), ["4930100"]);
        assert!(rules.disallow_unknown);
        assert_eq!(rules.calling_hours, Some(CallingHours { start: 9, end: 17 }));
        assert_eq!(rules.max_duration, Some(Duration::from_secs(90)));
        let (url, token) = ("https://crm.example/".to_owned(), "t".to_owned());
        assert_eq!(rules.caller_source, Some(CallerSource::Api { url, token }));
        assert_eq!(rules.silence, Some(Duration::from_millis(2_500)));
    }

    #[test]
    fn an_agents_calls_are_recorded_if_its_recording_object_is_there_and_on() {
        use tandem_call::RecordingRule;
        use tandem_media::recording::PauseMode;

        let recording =
            |object: Value| agent_rules(json!({"recording": object}).as_object().unwrap(), None).recording;
        assert_eq!(recording(json!({})), Some(RecordingRule::default()));
        let rule = RecordingRule { pause: PauseMode::Skip, ..RecordingRule::default() };
        assert_eq!(recording(json!({"enabled": true, "format": "wav", "pause": "skip"})), Some(rule));
        for off in [json!(null), json!({"enabled": false, "format": "wav"})] {
            assert_eq!(recording(off), None);
        }
    }

    #[test]
    fn what_is_not_given_or_means_no_bound_is_no_rule() {
        for body in [
            json!({}),
            json!({"agent_config": {"tasks": [{"task_config": {"inbound_limit": -1, "call_terminate": 0, "hangup_after_silence": 0,
                "whitelist_phone_numbers": null}}]}}),
            json!({"agent_config": {"tasks": "none", "calling_guardrails": {"call_start_hour": 9}}}),
        ] {
            assert_eq!(agent_rules(body.as_object().unwrap(), Some("t")), AgentRules::default(), "{body}");
        }
    }
}
