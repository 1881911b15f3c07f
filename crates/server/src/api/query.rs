//! Parameters of the query: found by name, their escapes undone, read by rule.

use std::ops::RangeInclusive;

use axum::http::StatusCode;

use super::body::storable;
use super::error::{ApiError, ApiResult};

/// A switch of the query: `true`, `false`, `1`, `0`, in any case.
pub(super) fn switch(query: Option<&str>, name: &str) -> ApiResult<Option<bool>> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(bad_parameter(name, format!("{text:?} was given; give true or false"))),
    }
}

/// A whole number of the query.
pub(super) fn integer(query: Option<&str>, name: &str, range: RangeInclusive<i64>) -> ApiResult<Option<i64>> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    match text.parse().ok().filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(bad_parameter(
            name,
            format!("{text:?} was given; give a whole number from {} to {}", range.start(), range.end()),
        )),
    }
}

pub(super) fn bad_parameter(name: &str, message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("{name}: {message}")).at(name, message)
}

/// A parameter of the query, its escapes undone.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescaped(key) == name).then(|| storable(&unescaped(value)))
    })
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_their_escapes_undone() {
        let query = Some("a=1&b=x%20y+z&c&%64=%zz");
        assert_eq!(parameter(query, "b").as_deref(), Some("x y z"));
        assert_eq!(parameter(query, "c").as_deref(), Some(""));
        assert_eq!(parameter(query, "d").as_deref(), Some("%zz"));
        assert_eq!(parameter(query, "e"), None);
        assert_eq!(parameter(None, "a"), None);
    }
}
