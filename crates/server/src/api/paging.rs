//! Lists a page at a time, for clients that ask with `limit` or `cursor`: the vendor's lists are bare arrays without
//! pages, so the place where the next page begins stands in the header `X-Next-Cursor`. Who asks for no page gets the
//! account's whole list, as the vendor's clients expect.

use axum::Json;
use axum::http::{HeaderValue, header::HeaderName};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::IntoParams;

use super::error::ApiResult;
use super::query::{bad_parameter, integer, parameter};
use crate::store::{Cursor, Page};

/// Where an answer says how the next page is asked for.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// Items of a page when only a cursor is given.
const PAGE_SIZE: u32 = 50;

/// Which part of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ListQuery {
    /// At most so many; without it, and without `cursor`, all.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `X-Next-Cursor` of the page before.
    #[param(value_type = String, required = false, pattern = r"^[0-9]{1,15}\.[0-9A-Za-z-]{1,64}$")]
    cursor: String,
}

/// The part of a list that a request asks for.
#[derive(Debug)]
pub(super) struct Part {
    /// At most so many.
    pub(super) limit: u32,
    /// Behind which row it begins.
    pub(super) after: Option<Cursor>,
}

/// Reads `limit` and `cursor` of the query.
///
/// # Errors
/// 400, naming the parameter.
pub(super) fn part(query: Option<&str>) -> ApiResult<Part> {
    let limit = integer(query, "limit", 1..=500)?.and_then(|limit| u32::try_from(limit).ok());
    let after = match parameter(query, "cursor") {
        Some(text) => Some(cursor(&text).ok_or_else(|| {
            bad_parameter("cursor", format!("{text:?} was given; give the X-Next-Cursor of the page before"))
        })?),
        None => None,
    };
    let whole = if after.is_some() { PAGE_SIZE } else { u32::MAX };
    Ok(Part { limit: limit.unwrap_or(whole), after })
}

fn cursor(text: &str) -> Option<Cursor> {
    let (at, id) = text.split_once('.')?;
    let is_place = (1..=15).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_digit());
    let is_id =
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    Cursor::parse(text).filter(|_| is_place && is_id)
}

/// Part of a list as it is sent.
#[derive(Debug)]
pub(super) struct Paged<T> {
    items: Vec<T>,
    next: Option<Cursor>,
}

impl<T> Paged<T> {
    /// The page, each of its rows shown by `show`.
    pub(super) fn of<R>(page: &Page<R>, show: impl FnMut(&R) -> T) -> Self {
        Self { items: page.rows.iter().map(show).collect(), next: page.next.clone() }
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.items).into_response();
        if let Some(next) = self.next.and_then(|next| HeaderValue::from_str(&next.to_string()).ok()) {
            response.headers_mut().insert(NEXT_CURSOR, next);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_whole_unless_a_page_is_asked_for() {
        let whole = part(None).unwrap();
        assert_eq!((whole.limit, whole.after), (u32::MAX, None));
        assert_eq!(part(Some("limit=7")).unwrap().limit, 7);
        let next = part(Some("cursor=17.01J-X")).unwrap();
        assert_eq!((next.limit, next.after.unwrap().to_string()), (PAGE_SIZE, "17.01J-X".to_owned()));
        for bad in ["limit=0", "limit=501", "limit=", "cursor=", "cursor=x.y", "cursor=-1.a", "cursor=1.%00"]
        {
            let error = part(Some(bad)).unwrap_err();
            assert!(bad.starts_with(error.errors[0].location.as_str()), "{bad}");
        }
    }
}
