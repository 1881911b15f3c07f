//! Reading the fields of a body. The first fault gives the answer its constant; all of them are listed with field,
//! what was given, and what would do.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::envelope::{Constant, Failure};
use crate::api::fields::{Problem, describe};

/// The faults of one body, in the order of the checks.
#[derive(Default)]
pub(super) struct Checks {
    head: Option<(Constant, String)>,
    problems: Vec<Problem>,
}

impl Checks {
    /// Notes a fault.
    pub(super) fn fail(
        &mut self,
        constant: Constant,
        description: impl Into<String>,
        location: &str,
        message: impl Into<String>,
    ) {
        self.head.get_or_insert_with(|| (constant, description.into()));
        self.problems.push(Problem::new(location, message));
    }

    /// `Ok` when there is none.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Some((constant, description)) = self.head else { return Ok(()) };
        let failure = Failure::new(constant, description);
        Err(self.problems.into_iter().fold(failure, |failure, one| failure.at(one.location, one.message)))
    }

    /// A text; `None` when absent, null or at fault.
    pub(super) fn text<'a>(
        &mut self,
        object: &'a Map<String, Value>,
        name: &str,
        location: &str,
    ) -> Option<&'a str> {
        match object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                let message = format!("{} was given; give text in quotes", describe(other));
                self.unparsable(location, message);
                None
            }
        }
    }

    /// A text that must be there; `what` is the vendor's name for it. An empty one is as good as none.
    pub(super) fn mandatory<'a>(
        &mut self,
        object: &'a Map<String, Value>,
        name: &str,
        what: &str,
    ) -> Option<&'a str> {
        let before = self.problems.len();
        let text = self.text(object, name, name).filter(|text| !text.is_empty());
        if text.is_none() && self.problems.len() == before {
            self.fail(Constant::Missing, format!("{what} is mandatory"), name, "is missing or empty");
        }
        text
    }

    /// A whole number of a range; `None` when absent, null or at fault. `description` is said of one out of it.
    pub(super) fn integer(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
        description: &str,
    ) -> Option<u32> {
        let value = object.get(name).filter(|value| !value.is_null())?;
        let (least, most) = (range.start(), range.end());
        let remedy = format!("{} was given; give a whole number from {least} to {most}", describe(value));
        // 22.0 is a whole number too.
        let Some(given) = value.as_f64().filter(|given| given.fract() == 0.0) else {
            self.unparsable(name, remedy);
            return None;
        };
        let is_within = (f64::from(*least)..=f64::from(*most)).contains(&given);
        // Within the range of a u32, so nothing is cut off.
        let number = is_within.then_some(given as u32);
        if number.is_none() {
            self.fail(Constant::Invalid, description, name, remedy);
        }
        number
    }

    /// A list of objects that must be there, within bounds.
    pub(super) fn objects<'a>(
        &mut self,
        object: &'a Map<String, Value>,
        name: &str,
        what: &str,
        most: usize,
    ) -> Vec<&'a Map<String, Value>> {
        let items = match object.get(name) {
            Some(Value::Array(items)) if !items.is_empty() => items,
            None | Some(Value::Null | Value::Array(_)) => {
                self.fail(Constant::Missing, format!("{what} is mandatory"), name, "is missing or empty");
                return Vec::new();
            }
            Some(other) => {
                self.unparsable(name, format!("{} was given; give a list of objects", describe(other)));
                return Vec::new();
            }
        };
        if items.len() > most {
            let message = format!("{} items were given; {most} are the most", items.len());
            self.fail(
                Constant::Invalid,
                format!("Maximum allowed number of {what} is {most}"),
                name,
                message,
            );
            return Vec::new();
        }
        let mut objects = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match item {
                Value::Object(object) => objects.push(object),
                other => {
                    let message = format!("{} was given; give an object", describe(other));
                    self.unparsable(&format!("{name}[{at}]"), message);
                }
            }
        }
        objects
    }

    fn unparsable(&mut self, location: &str, message: String) {
        self.fail(Constant::Unparsable, format!("{location}: {message}"), location, message);
    }
}

/// `^\+[1-9][0-9]{6,14}$`
pub(super) fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
}

/// `^[A-Za-z0-9_]*$`
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A time as this family writes it: `2026-01-23T09:24:59Z`.
pub(super) fn date(unix_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1_000));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_e164_with_a_plus() {
        for good in ["+919876543210", "+14155552671", "+1234567"] {
            assert!(is_e164(good), "{good}");
        }
        for bad in [
            "080-486-36999",
            "invalid-phone",
            "123456",
            "919876543210",
            "+0123456789",
            "+1234567890123456",
            "+",
        ] {
            assert!(!is_e164(bad), "{bad}");
        }
    }

    #[test]
    fn times_have_seconds_and_a_z() {
        assert_eq!(date(1_769_160_299_999), "2026-01-23T09:24:59Z");
        assert_eq!(date(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
