//! What a dialect's start messages tell of a call, and the Twilio-style SIDs made from its ids.

use uuid::Uuid;

/// The facts of one call that its agent is told when the stream starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamFacts {
    /// The call's one identifier (`execution_id`, `id`).
    pub call: Uuid,
    /// The account that owns the call.
    pub account: String,
    /// The agent's id.
    pub agent: String,
    /// The trunk's id.
    pub trunk: String,
    /// The caller, as the trunk gave it.
    pub from: String,
    /// The number called.
    pub to: String,
    /// The Call-ID of the caller's leg.
    pub sip_call_id: String,
    /// The agent's own parameters, templates already expanded, in configured order.
    pub parameters: Vec<(String, String)>,
    /// `X-` headers of the INVITE, in order; the caller of the dialect bounds their number and length.
    pub headers: Vec<(String, String)>,
}

impl StreamFacts {
    /// The parameters as borrowed pairs.
    pub(crate) fn parameter_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// When the call came, in milliseconds of Unix time: its identifier holds it (RFC 9562, 5.7).
    pub(crate) fn unix_ms(&self) -> u64 {
        let (seconds, nanoseconds) = self.call.get_timestamp().map_or((0, 0), |time| time.to_unix());
        seconds * 1000 + u64::from(nanoseconds) / 1_000_000
    }
}

/// Appends a time of Unix as RFC 3339 has it, to the millisecond.
pub(crate) fn push_utc(out: &mut Vec<u8>, unix_ms: u64) {
    // Civil dates count from March, so that the leap day is a year's last; eras of 400 years are all alike.
    let (days, time) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, ms) = (time / 3_600_000, time / 60_000 % 60, time / 1000 % 60, time % 1000);
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
    out.extend_from_slice(text.as_bytes());
}

/// A UUID that stands for an account: stable, not secret.
#[must_use]
pub fn account_uuid(account: &str) -> Uuid {
    Uuid::try_parse(&account_sid(account)[2..]).expect("an account SID ends in 32 hex digits")
}

/// The Twilio-style call SID: `CA` and the call's UUID as 32 lower-case hex digits.
#[must_use]
pub fn call_sid(call: Uuid) -> String {
    format!("CA{}", call.as_simple())
}

/// The Twilio-style stream SID: `MZ` and the call's UUID as 32 lower-case hex digits. One call has one stream.
#[must_use]
pub fn stream_sid(call: Uuid) -> String {
    format!("MZ{}", call.as_simple())
}

/// The call that a call SID names, or nothing if it is not one of [`call_sid`]'s.
#[must_use]
pub fn parse_call_sid(sid: &str) -> Option<Uuid> {
    let hex = sid.strip_prefix("CA")?;
    if hex.len() != 32 {
        return None;
    }
    Uuid::try_parse(hex).ok()
}

/// The Twilio-style account SID of an account: itself if it already is one, else `AC` and 32 hex digits made
/// from its id (the UUID if it is one, otherwise its 128-bit FNV-1a hash: stable, not secret).
#[must_use]
pub fn account_sid(account: &str) -> String {
    if let Some(hex) = account.strip_prefix("AC")
        && hex.len() == 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return account.to_owned();
    }
    let number = match Uuid::try_parse(account) {
        Ok(uuid) => uuid.as_u128(),
        Err(_) => account.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        }),
    };
    format!("AC{number:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sids_carry_the_call_and_read_back() {
        let call = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(call_sid(call), "CA0123456789abcdef0123456789abcdef");
        assert_eq!(stream_sid(call), "MZ0123456789abcdef0123456789abcdef");
        assert_eq!(parse_call_sid(&call_sid(call)), Some(call));
        assert_eq!(parse_call_sid("CA0123"), None);
        assert_eq!(parse_call_sid(&stream_sid(call)), None);
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut out = Vec::new();
            push_utc(&mut out, unix_ms);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn account_sid_is_stable_and_well_formed() {
        let own = "ACffffffffffffffffffffffffffffffff";
        assert_eq!(account_sid(own), own);
        assert_eq!(account_sid("default"), account_sid("default"));
        assert_ne!(account_sid("default"), account_sid("other"));
        assert_eq!(account_sid("default").len(), 34);
        assert_eq!(account_sid("01234567-89ab-cdef-0123-456789abcdef"), "AC0123456789abcdef0123456789abcdef");
    }
}
