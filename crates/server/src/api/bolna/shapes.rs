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

/// `just now`, `5 minutes ago`, `a day ago`.
pub(super) fn humanized(then: i64, now: i64) -> String {
    const UNITS: [(i64, &str, &str); 6] = [
        (31_536_000, "a year", "years"),
        (2_592_000, "a month", "months"),
        (604_800, "a week", "weeks"),
        (86_400, "a day", "days"),
        (3_600, "an hour", "hours"),
        (60, "a minute", "minutes"),
    ];
    let seconds = now.saturating_sub(then) / 1_000;
    let unit = UNITS.iter().find(|(length, ..)| seconds >= *length);
    match unit {
        None => "just now".to_owned(),
        Some((length, one, many)) => match seconds / length {
            1 => format!("{one} ago"),
            count => format!("{count} {many} ago"),
        },
    }
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

    #[test]
    fn ages_are_told_as_people_tell_them() {
        for (seconds, text) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "a minute ago"),
            (119, "a minute ago"),
            (120, "2 minutes ago"),
            (3_600, "an hour ago"),
            (90_000, "a day ago"),
            (200_000, "2 days ago"),
            (700_000, "a week ago"),
            (2_600_000, "a month ago"),
            (70_000_000, "2 years ago"),
        ] {
            assert_eq!(humanized(1_000_000, 1_000_000 + seconds * 1_000), text, "{seconds}");
        }
    }
}
