//! `ETag` and `If-Match` (RFC 9110 sections 8.8.3, 13.1.1): a client that sends what it has seen changes nothing
//! that somebody else changed meanwhile. Without the header the last write wins, as the vendors' clients expect.
//!
//! A tag is the row's revision in quotes. Nothing is compared here: the store does that, inside its transaction.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::{IntoParams, IntoResponses};

use super::App;
use super::error::{ApiError, ErrorBody};
use crate::store::Expected;

/// Most tags that one header may name.
const MOST_TAGS: usize = 16;

/// The tag of a revision.
pub(super) fn etag(revision: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("digits in quotes are a header value")
}

/// An answer with the tag of what it shows.
#[derive(Debug)]
pub(super) struct Tagged<T> {
    /// The revision of the row that is shown.
    pub(super) revision: i64,
    /// The answer itself.
    pub(super) answer: T,
}

impl<T: IntoResponse> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        response.headers_mut().insert(header::ETAG, etag(self.revision));
        response
    }
}

/// What a request presupposes: its `If-Match`.
#[derive(Debug)]
pub(super) struct IfMatch(pub(super) Expected);

impl FromRequestParts<App> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let mut tags = Vec::new();
        for value in parts.headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| malformed("holds characters that no tag has"))?;
            tags.extend(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()));
        }
        if tags.is_empty() {
            let was_sent = parts.headers.contains_key(header::IF_MATCH);
            return if was_sent { Err(malformed("is empty")) } else { Ok(Self(Expected::Any)) };
        }
        if tags.len() > MOST_TAGS {
            return Err(malformed(&format!("names {} tags; {MOST_TAGS} are the most", tags.len())));
        }
        if tags == ["*"] {
            return Ok(Self(Expected::Any));
        }
        let revisions = tags.into_iter().map(revision).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Expected::OneOf(revisions.into_iter().flatten().collect())))
    }
}

/// The revision a tag names; `None` for a tag that is none of ours, or weak, which never matches here.
fn revision(tag: &str) -> Result<Option<i64>, ApiError> {
    let strong = tag.strip_prefix("W/").unwrap_or(tag);
    // Clients lose the quotes of a tag now and then; digits mean one thing all the same.
    if let Some(revision) = tag.parse().ok().filter(|_| tag.bytes().all(|byte| byte.is_ascii_digit())) {
        return Ok(Some(revision));
    }
    let inner = strong
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|inner| !inner.contains('"'))
        .ok_or_else(|| malformed(&format!("{tag:?} is no tag")))?;
    Ok(inner.parse().ok().filter(|_| strong.len() == tag.len()))
}

fn malformed(what: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("If-Match: {what}"))
        .at("If-Match", format!("{what}; send the ETag of the last answer, quotes included, or *"))
}

/// The header, for the description of the API.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct IfMatchHeader {
    /// The `ETag` of the last answer: the change is made only if nobody else made one meanwhile.
    #[param(
        rename = "If-Match",
        required = false,
        pattern = r#"^(\*|"[0-9]{1,18}"|[0-9]{1,18})$"#,
        example = "\"3\""
    )]
    if_match: String,
}

/// What an endpoint that heeds `If-Match` may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum OutOfDate {
    /// Somebody else changed it since the client read it.
    #[response(status = 412)]
    PreconditionFailed(#[to_schema] ErrorBody),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_revision_in_quotes() {
        assert_eq!(etag(12), "\"12\"");
        assert_eq!(revision("\"12\"").unwrap(), Some(12));
        assert_eq!(revision("W/\"12\"").unwrap(), None, "a weak tag never matches");
        assert_eq!(revision("\"abc\"").unwrap(), None);
        assert_eq!(revision("12").unwrap(), Some(12), "the quotes may be missing");
        for tag in ["x", "\"12", "12\"", "\"1\"2\""] {
            let error = revision(tag).unwrap_err();
            assert!(error.errors[0].message.contains("ETag of the last answer"), "{tag}");
        }
    }
}
