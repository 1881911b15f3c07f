//! What an account's identifier, a key's scopes and its addresses may be: one set of rules for the API and for the
//! command line. Each refusal says what was given and what would do.

use ipnet::IpNet;

use super::auth::SCOPES;
use super::fields::wrong_word;
use super::times;
use crate::routing::network;
use crate::store::now_ms;

/// Most ranges of one key.
pub(super) const MOST_RANGES: usize = 64;

/// Most scopes named for one key.
pub(super) const MOST_SCOPES: usize = 32;

/// An account's identifier: 1 to 64 characters that need no escape in a URL.
///
/// # Errors
/// What is wrong with it.
pub fn account_id(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(64).collect();
    Err(format!("{shown:?} is no account's id; give 1 to 64 letters, digits, dots, dashes and underscores"))
}

/// One of the scopes there are.
///
/// # Errors
/// What is wrong with it.
pub fn scope(text: &str) -> Result<String, String> {
    if SCOPES.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(wrong_word(&text.into(), SCOPES))
}

/// An address or range that a key may be used from.
///
/// # Errors
/// What is wrong with it.
pub fn allowed_range(text: &str) -> Result<IpNet, String> {
    let Some(range) = network(text.trim()) else {
        let shown: String = text.chars().take(64).collect();
        return Err(format!(
            "{shown:?} is no address; give one such as 192.0.2.5 or a range such as 192.0.2.0/24"
        ));
    };
    if range.trunc() != range {
        return Err(format!("{range} has bits set behind its prefix; give {}", range.trunc()));
    }
    Ok(range)
}

/// Until when a key is good, as milliseconds since 1970.
///
/// # Errors
/// What is wrong with it.
pub fn expiry(text: &str) -> Result<i64, String> {
    let time = times::parse(text).filter(|time| *time > now_ms());
    time.ok_or_else(|| format!("{text:?} was given; {} that is still to come", times::REMEDY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_would_do() {
        assert_eq!(account_id("acme-1.x_y"), Ok("acme-1.x_y".to_owned()));
        assert!(account_id("a/b").unwrap_err().contains("a/b"));
        assert!(account_id("").is_err() && account_id(&"x".repeat(65)).is_err());
        assert!(scope("trunk:read").unwrap_err().contains("the nearest is \"trunks:read\""));
        assert_eq!(allowed_range("192.0.2.5").unwrap().to_string(), "192.0.2.5/32");
        assert!(allowed_range("192.0.2.5/24").unwrap_err().contains("give 192.0.2.0/24"));
        assert!(allowed_range("example.com").unwrap_err().contains("example.com"));
    }
}
