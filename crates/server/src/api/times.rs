//! Times as Tandem's own API writes and reads them: RFC 3339, written in UTC to the second.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::error::ApiResult;
use super::query::{bad_parameter, parameter};

const ZULU: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// The end of the year 9999, the last that can be written.
const LATEST: i64 = 253_402_300_799_000;

/// What would do where a time is asked for.
pub(super) const REMEDY: &str = "give a time such as 2026-01-31T13:00:00Z";

/// `2026-01-15T10:00:00Z`.
pub(super) fn zulu(unix_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(ZULU).expect("the format names parts that every time has")
}

/// A time with its zone, as milliseconds since 1970. Nothing here happened before that, nor does after the year
/// 9999, so times beyond mean the first and the last that can be.
pub(super) fn parse(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(|ms| ms.clamp(0, LATEST))
}

/// A time of the query.
pub(super) fn of_query(query: Option<&str>, name: &str) -> ApiResult<Option<i64>> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    match parse(&text) {
        Some(time) => Ok(Some(time)),
        None => Err(bad_parameter(name, format!("{text:?} was given; {REMEDY}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        assert_eq!(zulu(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(parse("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(parse("2023-11-15T03:43:20+05:30"), Some(1_700_000_000_000));
        assert_eq!(parse("1969-01-01T00:00:00Z"), Some(0));
        assert_eq!(zulu(parse("9999-12-31T23:59:59-12:00").unwrap()), "9999-12-31T23:59:59Z");
        for bad in ["2023-11-14", "2023-11-14T22:13:20", "1700000000", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
