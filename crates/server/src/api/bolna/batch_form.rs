//! The form of `POST /batches`: a file of contacts, and how they are called.
//!
//! The file is CSV (RFC 4180) with a column `contact_number`; every other column is a fact for the agent. Lines whose
//! number cannot be called are counted and left out, as the vendor does; a file without any other is refused.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::call_body;
use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::{Faults, Fields, Text};
use crate::api::form::{Form, Part};
use crate::dialling::e164;
use crate::ids::canonical_uuid;
use crate::store::{BatchPlan, Contact, NewBatch, RetryRules};

const BAD: StatusCode = StatusCode::BAD_REQUEST;

/// The column that holds whom to call.
const NUMBER_COLUMN: &str = "contact_number";

/// Most lines of a file.
const MOST_LINES: usize = 10_000;

/// Most columns of a file.
const MOST_COLUMNS: usize = 64;

/// Most numbers to call from.
const MOST_FROM: usize = 100;

/// Longest name of a file.
const MOST_NAME_CHARACTERS: usize = 255;

/// Reads the form.
///
/// # Errors
/// What is wrong with it, field by field.
pub(super) fn new_batch(form: &Form) -> ApiResult<NewBatch> {
    let mut faults = Faults::default();
    let object = form.object();
    let fields = Fields::new(&object, "");
    let agent = call_body::required(&fields, "agent_id", 128, &mut faults).unwrap_or_default();
    let from = from_numbers(&object, &mut faults);
    let retry = retry_rules(&fields, &mut faults);
    let file = form.all("file").next();
    if file.is_none() {
        let message = "is missing; send a CSV file with a column contact_number, as curl --form file=@contacts.csv does";
        faults.constant(BAD, "file is required", "file", message);
    }
    let read = file.and_then(|file| contacts(file, &mut faults));
    faults.finish()?;
    let (contacts, total) = read.ok_or_else(|| ApiError::new(BAD, "file is required"))?;
    Ok(NewBatch {
        agent: canonical_uuid(agent),
        file_name: file.and_then(|file| file.file_name.as_deref()).map(file_name).unwrap_or_default(),
        plan: BatchPlan { from, retry },
        total,
        contacts,
    })
}

/// `from_phone_numbers`: a field for each, or one with a list in JSON or parted by commas; the older
/// `from_phone_number` where there are none.
fn from_numbers(object: &Map<String, Value>, faults: &mut Faults) -> Vec<String> {
    let name =
        ["from_phone_numbers", "from_phone_number"].into_iter().find(|name| object.contains_key(*name));
    let Some((name, value)) = name.and_then(|name| Some((name, object.get(name)?))) else {
        return Vec::new();
    };
    let given: Vec<String> = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => match serde_json::from_str::<Vec<String>>(text) {
            Ok(items) => items,
            Err(_) => text.split(',').map(str::to_owned).collect(),
        },
        _ => Vec::new(),
    };
    // Empty fields of a form count too: they were given.
    if given.len() > MOST_FROM {
        faults.push(name, format!("{} numbers were given; {MOST_FROM} are the most", given.len()));
    }
    let given: Vec<String> =
        given.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
    for (at, number) in given.iter().enumerate().filter(|(_, number)| e164(number).is_none()) {
        faults.push(
            format!("{name}[{at}]"),
            format!("{number:?} was given; give a number in E.164, such as \"+14155550100\""),
        );
    }
    given
}

/// `retry_config`: JSON, as a text.
fn retry_rules(fields: &Fields<'_>, faults: &mut Faults) -> RetryRules {
    let Some(text) = fields.text("retry_config", Text::Lines(4_096), faults) else {
        return RetryRules::default();
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => {
            call_body::read_retry_rules(&Fields::new(&object, "retry_config"), faults)
        }
        Ok(Value::Null) => RetryRules::default(),
        Ok(_) | Err(_) => {
            let message =
                format!("{text:?} was given; give an object in JSON, such as {{\"enabled\": true}}");
            faults.push("retry_config", message);
            RetryRules::default()
        }
    }
}

fn file_name(given: &str) -> String {
    given.chars().filter(|c| !c.is_control()).take(MOST_NAME_CHARACTERS).collect()
}

/// The contacts of a file that can be called, and how many lines there are.
fn contacts(file: &Part, faults: &mut Faults) -> Option<(Vec<Contact>, usize)> {
    // Spreadsheets begin their files with a mark of the byte order.
    let bytes = file.bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&file.bytes);
    let mut lines = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let columns = match lines.headers() {
        Ok(columns) => columns.clone(),
        Err(error) => {
            faults.push("file", unreadable(&error));
            return None;
        }
    };
    let Some(number_at) = columns.iter().position(|name| name.eq_ignore_ascii_case(NUMBER_COLUMN)) else {
        let message = format!(
            "its columns are {:?}; one must be called {NUMBER_COLUMN}, in the first line, parted by commas",
            columns.iter().take(8).collect::<Vec<_>>()
        );
        faults.constant(BAD, "contact_number column is required", "file", message);
        return None;
    };
    if columns.len() > MOST_COLUMNS {
        faults.push("file", format!("{} columns were given; {MOST_COLUMNS} are the most", columns.len()));
        return None;
    }
    let (mut contacts, mut total) = (Vec::new(), 0);
    for line in lines.records() {
        total += 1;
        if total > MOST_LINES {
            faults
                .push("file", format!("holds more than {MOST_LINES} contacts; part it into several batches"));
            return None;
        }
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                faults.push("file", unreadable(&error));
                return None;
            }
        };
        let number = line.get(number_at).unwrap_or_default();
        if e164(number).is_none() {
            continue;
        }
        let facts = columns
            .iter()
            .zip(&line)
            .enumerate()
            .filter(|(at, (name, _))| *at != number_at && !name.is_empty())
            .map(|(_, (name, value))| (name.to_owned(), value.into()))
            .collect();
        contacts.push(Contact { number: number.to_owned(), facts });
    }
    if contacts.is_empty() {
        let message = format!(
            "none of its {total} lines has a number in {NUMBER_COLUMN} that can be called; give them in E.164, such as \
             +14155550100"
        );
        faults.constant(BAD, "No valid contacts found", "file", message);
        return None;
    }
    Some((contacts, total))
}

fn unreadable(error: &csv::Error) -> String {
    format!("it cannot be read as CSV in UTF-8: {error}")
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;

    fn form(fields: &[(&str, &str)], file: &[u8]) -> Form {
        let text = |(name, text): &(&str, &str)| Part {
            name: (*name).to_owned(),
            file_name: None,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        };
        let file = Part {
            name: "file".to_owned(),
            file_name: Some("leads.csv".to_owned()),
            bytes: Bytes::copy_from_slice(file),
        };
        Form(fields.iter().map(text).chain([file]).collect())
    }

    #[test]
    fn a_file_is_read_as_spreadsheets_write_it() {
        let file = "\u{feff}Name, Contact_Number ,note\r\n\"Ada, L.\",+91 88000 01234,\"two\nlines\"\r\n\r\nBob,none,\r\nEve,14155550100";
        let batch = new_batch(&form(
            &[
                ("agent_id", "agt-6f2d6c1e-1111-4222-8333-444455556666"),
                ("from_phone_numbers", "+919876543210"),
                ("from_phone_numbers", "+919876543211"),
                ("retry_config", "{\"enabled\":true,\"max_retries\":2,\"retry_intervals_minutes\":[15,30]}"),
            ],
            file.as_bytes(),
        ))
        .unwrap();
        assert_eq!(batch.agent, "6f2d6c1e-1111-4222-8333-444455556666");
        assert_eq!(batch.plan.from, ["+919876543210", "+919876543211"]);
        assert_eq!((batch.plan.retry.enabled, batch.plan.retry.max_retries), (true, 2));
        assert_eq!((batch.total, batch.file_name.as_str()), (3, "leads.csv"));
        let shown: Vec<(&str, Value)> = batch
            .contacts
            .iter()
            .map(|contact| (contact.number.as_str(), Value::Object(contact.facts.clone())))
            .collect();
        assert_eq!(
            shown,
            [
                ("+91 88000 01234", serde_json::json!({"Name": "Ada, L.", "note": "two\nlines"})),
                ("14155550100", serde_json::json!({"Name": "Eve"})),
            ]
        );
    }

    #[test]
    fn numbers_to_call_from_come_in_the_ways_of_clients() {
        for fields in [
            &[("from_phone_numbers", "+919876543210, +919876543211")][..],
            &[("from_phone_numbers", "[\"+919876543210\", \"+919876543211\"]")],
            &[("from_phone_numbers", "+919876543210"), ("from_phone_numbers", "+919876543211")],
        ] {
            let object = form(fields, b"").object();
            let read = from_numbers(&object, &mut Faults::default());
            assert_eq!(read, ["+919876543210", "+919876543211"], "{fields:?}");
        }
        let older = form(&[("from_phone_number", "+919876543210")], b"").object();
        assert_eq!(from_numbers(&older, &mut Faults::default()), ["+919876543210"]);
    }

    #[test]
    fn what_is_wrong_with_a_form_is_told_by_its_field() {
        let agent = ("agent_id", "a");
        let good = b"contact_number\n+14155550100\n";
        let many = format!("contact_number\n{}", "+14155550100\n".repeat(MOST_LINES + 1));
        let crowd = [&[agent][..], &[("from_phone_numbers", ""); MOST_FROM + 1]].concat();
        let wide = format!("contact_number{}\n+14155550100\n", ",x".repeat(MOST_COLUMNS));
        for (fields, file, headline, location) in [
            (&[][..], &good[..], "agent_id is required", "agent_id"),
            (&[agent], b"", "contact_number column is required", "file"),
            (&[agent], b"number\n+14155550100", "contact_number column is required", "file"),
            (&[agent], b"contact_number;name\n+14155550100;Ada", "contact_number column is required", "file"),
            (&[agent], b"contact_number\nnobody\n", "No valid contacts found", "file"),
            (&[agent], b"contact_number\n\xff\xfe\n", "file: it cannot be read", "file"),
            (&[agent], many.as_bytes(), "file: holds more than", "file"),
            (&[agent], wide.as_bytes(), "file: 65 columns were given", "file"),
            (&[agent, ("retry_config", "yes")], good, "retry_config: \"yes\"", "retry_config"),
            (
                &[agent, ("retry_config", "{\"max_retries\": 9}")],
                good,
                "retry_config.max_retries",
                "retry_config.max_retries",
            ),
            (&crowd, good, "from_phone_numbers: 101 numbers were given", "from_phone_numbers"),
            (
                &[agent, ("from_phone_numbers", "12")],
                good,
                "from_phone_numbers[0]: \"12\"",
                "from_phone_numbers[0]",
            ),
        ] {
            let error = new_batch(&form(fields, file)).unwrap_err();
            assert!(error.message.starts_with(headline), "{headline}: {error:?}");
            assert_eq!(error.errors[0].location, location, "{error:?}");
        }
    }
}
