//! Times as answers write them: each of the vendor's families has its own way.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const ZULU: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const NAIVE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]");

/// A time of the trunk family: `2025-01-15T10:00:00Z`.
pub(super) fn zulu(unix_ms: i64) -> String {
    formatted(unix_ms, ZULU)
}

/// A time of the execution family: `2026-01-28T13:17:50.116000`, meaning UTC.
pub(super) fn naive(unix_ms: i64) -> String {
    formatted(unix_ms, NAIVE)
}

fn formatted(unix_ms: i64, format: &[BorrowedFormatItem<'_>]) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(format).expect("the format names parts that every time has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_shape_of_their_family() {
        assert_eq!(zulu(1_736_935_200_999), "2025-01-15T10:00:00Z");
        assert_eq!(naive(1_769_606_270_116), "2026-01-28T13:17:50.116000");
        assert_eq!(zulu(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
