//! When a recipient may be called: the agent's hours, by the clock at the recipient's place.
//!
//! The place follows from the number's country code. A country with several zones is called only while the hours hold in
//! all of them, for the number does not tell which is its own; where no hour holds in all, the most peopled zone decides.
//! What it refuses to do: know better than the number (ported and roaming telephones are where they are).

use jiff::Timestamp;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use tandem_call::CallingHours;

/// How far ahead an opening is looked for: every hour of a day comes once within it, changes of the clock included.
const AHEAD_HOURS: i64 = 49;

/// Country codes, the longer ones to be looked up first, with the zones of the country, the most peopled first.
const ZONES: &[(&str, &[&str])] = &[
    ("1", &["America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"]),
    ("7", &["Europe/Moscow", "Asia/Yekaterinburg", "Asia/Novosibirsk", "Asia/Vladivostok"]),
    ("20", &["Africa/Cairo"]),
    ("27", &["Africa/Johannesburg"]),
    ("30", &["Europe/Athens"]),
    ("31", &["Europe/Amsterdam"]),
    ("32", &["Europe/Brussels"]),
    ("33", &["Europe/Paris"]),
    ("34", &["Europe/Madrid"]),
    ("36", &["Europe/Budapest"]),
    ("39", &["Europe/Rome"]),
    ("40", &["Europe/Bucharest"]),
    ("41", &["Europe/Zurich"]),
    ("43", &["Europe/Vienna"]),
    ("44", &["Europe/London"]),
    ("45", &["Europe/Copenhagen"]),
    ("46", &["Europe/Stockholm"]),
    ("47", &["Europe/Oslo"]),
    ("48", &["Europe/Warsaw"]),
    ("49", &["Europe/Berlin"]),
    ("51", &["America/Lima"]),
    ("52", &["America/Mexico_City", "America/Tijuana"]),
    ("54", &["America/Argentina/Buenos_Aires"]),
    ("55", &["America/Sao_Paulo", "America/Manaus"]),
    ("56", &["America/Santiago"]),
    ("57", &["America/Bogota"]),
    ("58", &["America/Caracas"]),
    ("60", &["Asia/Kuala_Lumpur"]),
    ("61", &["Australia/Sydney", "Australia/Adelaide", "Australia/Perth"]),
    ("62", &["Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"]),
    ("63", &["Asia/Manila"]),
    ("64", &["Pacific/Auckland"]),
    ("65", &["Asia/Singapore"]),
    ("66", &["Asia/Bangkok"]),
    ("81", &["Asia/Tokyo"]),
    ("82", &["Asia/Seoul"]),
    ("84", &["Asia/Ho_Chi_Minh"]),
    ("86", &["Asia/Shanghai"]),
    ("90", &["Europe/Istanbul"]),
    ("91", &["Asia/Kolkata"]),
    ("92", &["Asia/Karachi"]),
    ("94", &["Asia/Colombo"]),
    ("98", &["Asia/Tehran"]),
    ("212", &["Africa/Casablanca"]),
    ("213", &["Africa/Algiers"]),
    ("216", &["Africa/Tunis"]),
    ("221", &["Africa/Dakar"]),
    ("233", &["Africa/Accra"]),
    ("234", &["Africa/Lagos"]),
    ("251", &["Africa/Addis_Ababa"]),
    ("254", &["Africa/Nairobi"]),
    ("255", &["Africa/Dar_es_Salaam"]),
    ("256", &["Africa/Kampala"]),
    ("351", &["Europe/Lisbon"]),
    ("352", &["Europe/Luxembourg"]),
    ("353", &["Europe/Dublin"]),
    ("354", &["Atlantic/Reykjavik"]),
    ("356", &["Europe/Malta"]),
    ("357", &["Asia/Nicosia"]),
    ("358", &["Europe/Helsinki"]),
    ("359", &["Europe/Sofia"]),
    ("370", &["Europe/Vilnius"]),
    ("371", &["Europe/Riga"]),
    ("372", &["Europe/Tallinn"]),
    ("380", &["Europe/Kyiv"]),
    ("381", &["Europe/Belgrade"]),
    ("385", &["Europe/Zagreb"]),
    ("386", &["Europe/Ljubljana"]),
    ("420", &["Europe/Prague"]),
    ("421", &["Europe/Bratislava"]),
    ("593", &["America/Guayaquil"]),
    ("598", &["America/Montevideo"]),
    ("852", &["Asia/Hong_Kong"]),
    ("855", &["Asia/Phnom_Penh"]),
    ("880", &["Asia/Dhaka"]),
    ("886", &["Asia/Taipei"]),
    ("960", &["Indian/Maldives"]),
    ("961", &["Asia/Beirut"]),
    ("962", &["Asia/Amman"]),
    ("965", &["Asia/Kuwait"]),
    ("966", &["Asia/Riyadh"]),
    ("968", &["Asia/Muscat"]),
    ("971", &["Asia/Dubai"]),
    ("972", &["Asia/Jerusalem"]),
    ("973", &["Asia/Bahrain"]),
    ("974", &["Asia/Qatar"]),
    ("977", &["Asia/Kathmandu"]),
    ("994", &["Asia/Baku"]),
    ("995", &["Asia/Tbilisi"]),
    ("998", &["Asia/Tashkent"]),
];

/// When the recipient may be called next, milliseconds since 1970; `None` is now.
///
/// A number whose country is not in the table is taken to keep UTC.
pub fn next_opening(hours: CallingHours, digits: &str, now_ms: i64) -> Option<i64> {
    let zones = zones_of(digits);
    let now = Timestamp::from_millisecond(now_ms).ok()?;
    if is_open(hours, &zones, now) {
        return None;
    }
    opening(hours, &zones, now).or_else(|| {
        let main = zones.get(..1)?;
        if is_open(hours, main, now) { None } else { opening(hours, main, now) }
    })
}

fn zones_of(digits: &str) -> Vec<TimeZone> {
    let names = (1..=3).rev().find_map(|length| {
        let code = digits.get(..length)?;
        ZONES.iter().find(|(known, _)| *known == code).map(|(_, zones)| *zones)
    });
    let zones: Vec<TimeZone> =
        names.unwrap_or_default().iter().filter_map(|name| TimeZone::get(name).ok()).collect();
    if zones.is_empty() { vec![TimeZone::UTC] } else { zones }
}

fn is_open(hours: CallingHours, zones: &[TimeZone], at: Timestamp) -> bool {
    zones.iter().all(|zone| {
        let hour = zone.to_datetime(at).hour();
        u8::try_from(hour).is_ok_and(|hour| hours.hold(hour))
    })
}

/// The first quarter of an hour at which the hours hold everywhere: zones differ by quarters.
fn opening(hours: CallingHours, zones: &[TimeZone], now: Timestamp) -> Option<i64> {
    const QUARTER_MS: i64 = 900_000;
    let next_quarter = now.as_millisecond().div_euclid(QUARTER_MS).checked_add(1)?.checked_mul(QUARTER_MS)?;
    let mut at = Timestamp::from_millisecond(next_quarter).ok()?;
    for _ in 0..AHEAD_HOURS * 4 {
        if is_open(hours, zones, at) {
            return Some(at.as_millisecond());
        }
        at = at.checked_add(15.minutes()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: CallingHours = CallingHours { start: 9, end: 17 };

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn opening_at(hours: CallingHours, digits: &str, now: &str) -> Option<String> {
        next_opening(hours, digits, at(now)).map(|at| Timestamp::from_millisecond(at).unwrap().to_string())
    }

    #[test]
    fn every_zone_of_the_table_exists() {
        for (code, zones) in ZONES {
            assert!(!zones.is_empty());
            for zone in *zones {
                assert!(TimeZone::get(zone).is_ok(), "{code} {zone}");
            }
        }
    }

    #[test]
    fn hours_are_those_of_the_recipients_place() {
        // 9:00 in India is 3:30 UTC.
        assert_eq!(
            opening_at(OFFICE, "918800001234", "2026-01-15T03:29:00Z").as_deref(),
            Some("2026-01-15T03:30:00Z")
        );
        assert_eq!(opening_at(OFFICE, "918800001234", "2026-01-15T03:30:00Z"), None);
        // 17:00 there is 11:30 UTC: the next day's morning.
        assert_eq!(
            opening_at(OFFICE, "918800001234", "2026-01-15T11:30:00Z").as_deref(),
            Some("2026-01-16T03:30:00Z")
        );
        // Summer time counts: 9:00 in Berlin is 7:00 UTC in July and 8:00 in January.
        assert_eq!(
            opening_at(OFFICE, "4930100", "2026-07-15T05:00:00Z").as_deref(),
            Some("2026-07-15T07:00:00Z")
        );
        assert_eq!(
            opening_at(OFFICE, "4930100", "2026-01-15T05:00:00Z").as_deref(),
            Some("2026-01-15T08:00:00Z")
        );
    }

    #[test]
    fn a_country_of_several_zones_is_called_while_the_hours_hold_in_all_of_them() {
        // 9:00 in Los Angeles is 17:00 UTC in January, and noon in New York.
        assert_eq!(
            opening_at(OFFICE, "14155550100", "2026-01-15T14:00:00Z").as_deref(),
            Some("2026-01-15T17:00:00Z")
        );
        assert_eq!(opening_at(OFFICE, "14155550100", "2026-01-15T18:00:00Z"), None);
        // One hour never holds in all: New York decides.
        let one = CallingHours { start: 9, end: 9 };
        assert_eq!(opening_at(one, "14155550100", "2026-01-15T14:30:00Z"), None);
        assert_eq!(
            opening_at(one, "14155550100", "2026-01-15T16:00:00Z").as_deref(),
            Some("2026-01-16T14:00:00Z")
        );
    }

    #[test]
    fn a_country_that_is_not_known_keeps_utc() {
        assert_eq!(
            opening_at(OFFICE, "888123456789", "2026-01-15T08:00:00Z").as_deref(),
            Some("2026-01-15T09:00:00Z")
        );
    }
}
