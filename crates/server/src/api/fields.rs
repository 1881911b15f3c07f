//! Reading a JSON object field by field. Each fault names the field, what was given, and what would do; all
//! faults are gathered, in the order of the checks.
//!
//! Unknown fields are ignored: the vendor's guide and API description differ, and refusing would break clients
//! of one of them.

use std::ops::RangeInclusive;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::error::ApiError;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `gateways[0].port`.
    pub location: String,
    /// What was given and what would do.
    pub message: String,
}

impl Problem {
    /// A problem at a field.
    pub fn new(location: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location: location.into(), message: message.into() }
    }
}

/// The faults of one body, in the order of the checks.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
}

#[derive(Debug)]
struct Fault {
    status: StatusCode,
    /// A text of the API's own, if there is one for it.
    constant: Option<String>,
    problem: Problem,
}

impl Faults {
    /// A fault whose headline is a text of the API's own, which clients know word for word.
    pub(super) fn constant(
        &mut self,
        status: StatusCode,
        headline: &str,
        location: impl Into<String>,
        message: impl Into<String>,
    ) {
        let problem = Problem::new(location, message);
        self.list.push(Fault { status, constant: Some(headline.to_owned()), problem });
    }

    /// A field that is as it should be and does not go with another.
    pub(super) fn contradiction(&mut self, location: impl Into<String>, message: impl Into<String>) {
        let problem = Problem::new(location, message);
        self.list.push(Fault { status: StatusCode::UNPROCESSABLE_ENTITY, constant: None, problem });
    }

    /// A fault whose headline is made of field and message.
    pub(super) fn push(&mut self, location: impl Into<String>, message: impl Into<String>) {
        let problem = Problem::new(location, message);
        self.list.push(Fault { status: StatusCode::BAD_REQUEST, constant: None, problem });
    }

    /// Whether one of them is at the field or within it.
    pub(super) fn touches(&self, name: &str) -> bool {
        self.list.iter().any(|fault| {
            fault
                .problem
                .location
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `Ok` when there are none; else an error headed by the first of the API's own texts, for those are what
    /// clients look for, or by the first fault when there is no such text.
    ///
    /// # Errors
    /// The faults, as an answer.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let head = self.list.iter().find(|fault| fault.constant.is_some()).or(self.list.first());
        let Some(head) = head else { return Ok(()) };
        let headline = match &head.constant {
            Some(constant) => constant.clone(),
            None => format!("{}: {}", head.problem.location, head.problem.message),
        };
        let mut error = ApiError::new(head.status, headline);
        error.errors = self.list.into_iter().map(|fault| fault.problem).collect();
        Err(error)
    }
}

/// One object of a body.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    above: String,
}

/// What a text may be.
#[derive(Clone, Copy)]
pub(super) enum Text {
    /// One line of at most so many characters.
    Line(usize),
    /// Lines of at most so many characters together.
    Lines(usize),
}

impl<'a> Fields<'a> {
    /// The fields of `object`, which stands at `above` (empty for the body itself).
    pub(super) fn new(object: &'a Map<String, Value>, above: impl Into<String>) -> Self {
        Self { object, above: above.into() }
    }

    /// Where the field `name` stands.
    pub(super) fn location(&self, name: &str) -> String {
        if self.above.is_empty() { name.to_owned() } else { format!("{}.{name}", self.above) }
    }

    /// The field as it was sent; `None` when absent or null.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field was sent, null or not.
    pub(super) fn was_sent(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// A text; `None` when absent, null, or at fault.
    pub(super) fn text(&self, name: &str, rule: Text, faults: &mut Faults) -> Option<&'a str> {
        let value = self.value(name)?;
        let Value::String(text) = value else {
            faults.push(self.location(name), format!("{} was given; give text in quotes", describe(value)));
            return None;
        };
        let (most, is_plain): (usize, fn(char) -> bool) = match rule {
            Text::Line(most) => (most, |c| !c.is_control()),
            Text::Lines(most) => (most, |c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')),
        };
        let length = text.chars().count();
        if length > most {
            faults.push(self.location(name), format!("{length} characters were given; {most} are the most"));
            return None;
        }
        if let Some((at, bad)) = text.chars().enumerate().find(|(_, c)| !is_plain(*c)) {
            faults.push(
                self.location(name),
                format!("holds the control character U+{:04X} at position {at}; leave it out", bad as u32),
            );
            return None;
        }
        Some(text)
    }

    /// A switch; `None` when absent, null, or at fault.
    pub(super) fn switch(&self, name: &str, faults: &mut Faults) -> Option<bool> {
        let value = self.value(name)?;
        if let Value::Bool(switch) = value {
            return Some(*switch);
        }
        faults.push(self.location(name), format!("{} was given; give true or false", describe(value)));
        None
    }

    /// A whole number within a range; `None` when absent, null, or at fault.
    pub(super) fn integer(&self, name: &str, range: RangeInclusive<i64>, faults: &mut Faults) -> Option<i64> {
        let value = self.value(name)?;
        let number = whole(value).filter(|number| range.contains(number));
        if number.is_none() {
            let hint = if value.is_string() { " without quotes" } else { "" };
            faults.push(
                self.location(name),
                format!(
                    "{} was given; give a whole number from {} to {}{hint}",
                    describe(value),
                    range.start(),
                    range.end()
                ),
            );
        }
        number
    }

    /// A number within a range, whole or not; `None` when absent, null, or at fault.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>, faults: &mut Faults) -> Option<f64> {
        let value = self.value(name)?;
        let number = value.as_f64().filter(|number| range.contains(number));
        if number.is_none() {
            let hint = if value.is_string() { " without quotes" } else { "" };
            faults.push(
                self.location(name),
                format!(
                    "{} was given; give a number from {} to {}{hint}",
                    describe(value),
                    range.start(),
                    range.end()
                ),
            );
        }
        number
    }

    /// A list of texts; `None` when absent, null, or no list. Items that are no texts are faults.
    pub(super) fn texts(&self, name: &str, most: usize, faults: &mut Faults) -> Option<Vec<&'a str>> {
        let value = self.value(name)?;
        let Value::Array(items) = value else {
            faults.push(self.location(name), format!("{} was given; give a list of texts", describe(value)));
            return None;
        };
        if items.len() > most {
            faults
                .push(self.location(name), format!("{} items were given; {most} are the most", items.len()));
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match item.as_str() {
                Some(text) if !text.contains('\0') => texts.push(text),
                Some(_) => faults.push(
                    format!("{}[{at}]", self.location(name)),
                    "holds the character U+0000; leave it out",
                ),
                None => faults.push(
                    format!("{}[{at}]", self.location(name)),
                    format!("{} was given; give text in quotes", describe(item)),
                ),
            }
        }
        Some(texts)
    }

    /// One of a few words; `None` when absent, null, or at fault.
    pub(super) fn word<T>(
        &self,
        name: &str,
        words: &[&str],
        read: impl Fn(&str) -> Option<T>,
        faults: &mut Faults,
    ) -> Option<T> {
        let value = self.value(name)?;
        let read = value.as_str().and_then(read);
        if read.is_none() {
            faults.push(self.location(name), wrong_word(value, words));
        }
        read
    }

    /// An object; `None` when absent, null, or at fault.
    pub(super) fn object(&self, name: &str, faults: &mut Faults) -> Option<Self> {
        let value = self.value(name)?;
        if let Value::Object(object) = value {
            return Some(Fields::new(object, self.location(name)));
        }
        faults.push(self.location(name), format!("{} was given; give an object", describe(value)));
        None
    }

    /// A list of objects; `None` when absent, null, or no list. Items that are no objects are faults.
    pub(super) fn objects(
        &self,
        name: &str,
        example: &str,
        most: usize,
        faults: &mut Faults,
    ) -> Option<Vec<Self>> {
        let value = self.value(name)?;
        let Value::Array(items) = value else {
            faults.push(
                self.location(name),
                format!("{} was given; give a list such as [{example}]", describe(value)),
            );
            return None;
        };
        if items.len() > most {
            faults
                .push(self.location(name), format!("{} items were given; {most} are the most", items.len()));
            return None;
        }
        let mut objects = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let location = format!("{}[{at}]", self.location(name));
            match item {
                Value::Object(object) => objects.push(Fields::new(object, location)),
                other => faults.push(
                    location,
                    format!("{} was given; give an object such as {example}", describe(other)),
                ),
            }
        }
        Some(objects)
    }

    /// Names and values of the object itself.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.object.iter()
    }
}

/// A whole number, as JSON Schema has it: 43.0 is one too.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT)?;
        // Every whole number of that size has an i64 of its own.
        Some(number as i64)
    })
}

/// What was given, short enough to be shown to the client that gave it.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 64 => format!("the text {text:?}"),
        Value::String(text) => format!("a text of {} characters", text.chars().count()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The message for a value that is none of the words.
pub(super) fn wrong_word(value: &Value, words: &[&str]) -> String {
    let known = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let near = value.as_str().and_then(|given| {
        let given = given.to_ascii_lowercase();
        let score = |word: &str| {
            // `udp` is meant for `transport-udp`, however little else they share.
            let is_part = !given.is_empty() && word.split('-').any(|part| part == given);
            if is_part { 1.0 } else { strsim::jaro_winkler(word, &given) }
        };
        words.iter().copied().filter(|word| score(word) > 0.7).max_by(|a, b| score(a).total_cmp(&score(b)))
    });
    let near = near.map(|near| format!("; the nearest is \"{near}\"")).unwrap_or_default();
    format!("{} was given; give one of {known}{near}", describe(value))
}
