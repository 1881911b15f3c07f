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
    fn account_sid_is_stable_and_well_formed() {
        let own = "ACffffffffffffffffffffffffffffffff";
        assert_eq!(account_sid(own), own);
        assert_eq!(account_sid("default"), account_sid("default"));
        assert_ne!(account_sid("default"), account_sid("other"));
        assert_eq!(account_sid("default").len(), 34);
        assert_eq!(account_sid("01234567-89ab-cdef-0123-456789abcdef"), "AC0123456789abcdef0123456789abcdef");
    }
}
