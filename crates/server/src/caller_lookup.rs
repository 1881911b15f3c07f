//! Asks an agent owner's own service who a caller is (Bolna's `ingest_source_config`), while the caller hears ringing and
//! the agent is being dialled. The answer is an object; its fields become parameters of the call.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use serde_json::{Map, Value};
use tandem_call::{CallerAnswer, CallerQuestion};
use url::Url;

use crate::net::post::Poster;

/// How long an answer may take: the caller is waiting.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Most fields taken of an answer, and the most bytes of one.
const MOST_FACTS: usize = 64;
const MOST_FACT_BYTES: usize = 4_096;

/// Asks.
pub async fn ask(client: &Poster, question: &CallerQuestion) -> CallerAnswer {
    let outcome = answer(client, question).await;
    let word = match &outcome {
        CallerAnswer::Known(_) => "known",
        CallerAnswer::Unknown(_) => "unknown",
        CallerAnswer::Failed(_) => "failed",
    };
    metrics::counter!("tandem_caller_lookups_total", "outcome" => word).increment(1);
    outcome
}

async fn answer(client: &Poster, question: &CallerQuestion) -> CallerAnswer {
    let failed = |why: String| CallerAnswer::Failed(short(&why));
    let url = match url_of(question) {
        Ok(url) => url,
        Err(why) => return failed(format!("its source_url cannot be used: {why}")),
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    match HeaderValue::from_str(&format!("Bearer {}", question.token)) {
        Ok(value) => headers.push((header::AUTHORIZATION, value)),
        Err(_) => return failed("its source_auth_token cannot be sent in a header".to_owned()),
    }
    match client.get(&url, &headers).await {
        Ok((200..300, body)) => read(&body),
        Ok((404, _)) => CallerAnswer::Unknown("the source answered 404".to_owned()),
        Ok((status, _)) => failed(format!("the source answered {status}")),
        Err(error) => failed(error.to_string()),
    }
}

/// The source's own URL with the facts of the call.
fn url_of(question: &CallerQuestion) -> Result<String, String> {
    let mut url = Url::parse(&question.url).map_err(|error| error.to_string())?;
    url.query_pairs_mut()
        .append_pair("contact_number", &question.contact_number)
        .append_pair("agent_id", question.agent.as_str())
        .append_pair("execution_id", &question.call.to_string());
    Ok(url.into())
}

/// An object's fields as texts. Nothing, or an object of nothing, is nobody known.
fn read(body: &[u8]) -> CallerAnswer {
    if body.iter().all(u8::is_ascii_whitespace) {
        return CallerAnswer::Unknown("the source's answer is empty".to_owned());
    }
    let object: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => object,
        Ok(Value::Null) => return CallerAnswer::Unknown("the source's answer is null".to_owned()),
        Ok(_) | Err(_) => return CallerAnswer::Failed("the source's answer is no JSON object".to_owned()),
    };
    let facts: Vec<(String, String)> = object
        .into_iter()
        .filter_map(|(name, value)| Some((name, text_of(value)?)))
        .filter(|(name, value)| name.len() <= 255 && value.len() <= MOST_FACT_BYTES)
        .take(MOST_FACTS)
        .collect();
    if facts.is_empty() {
        return CallerAnswer::Unknown("the source's answer is an object of nothing".to_owned());
    }
    CallerAnswer::Known(facts)
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use tandem_call::CallId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_question_is_asked_as_documented_beside_the_urls_own_parameters() {
        let question = CallerQuestion {
            call: CallId(Uuid::from_u128(1)),
            agent: "a1".into(),
            contact_number: "+4930100".to_owned(),
            url: "https://crm.example/customers?tenant=7".to_owned(),
            token: String::new(),
            must_be_known: false,
        };
        assert_eq!(
            url_of(&question).unwrap(),
            "https://crm.example/customers?tenant=7&contact_number=%2B4930100&agent_id=a1&\
             execution_id=00000000-0000-0000-0000-000000000001"
        );
    }

    #[test]
    fn fields_of_an_answer_become_texts() {
        let answer = read(br#"{"first_name": "Ada", "visits": 3, "vip": true, "none": null, "tags": ["a"]}"#);
        let CallerAnswer::Known(mut facts) = answer else { panic!("{answer:?}") };
        facts.sort();
        let facts: Vec<(&str, &str)> =
            facts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(facts, [("first_name", "Ada"), ("tags", "[\"a\"]"), ("vip", "true"), ("visits", "3")]);
        for nobody in ["", " \n", "null", "{}", "{\"a\": null}"] {
            assert!(matches!(read(nobody.as_bytes()), CallerAnswer::Unknown(_)), "{nobody}");
        }
        for broken in ["[]", "\"x\"", "<html>"] {
            assert!(matches!(read(broken.as_bytes()), CallerAnswer::Failed(_)), "{broken}");
        }
    }
}
