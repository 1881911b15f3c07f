//! Numbers as routing compares them: `+91 (80) 4710-2030`, `918047102030` and `tel:+91-80-47102030` are one key.
//!
//! What it refuses to do: guess. A national or prefixed form is another key; routing names it as a near miss. RFC 3966
//! section 3 (visual separators), section 5.1.5 (phone-context), section 4 (comparison); RFC 3261 section 19.1.6.

use std::borrow::Cow;

use smallvec::SmallVec;
use tandem_sip::{Scheme, Uri};

/// Longest user part looked at, in bytes. Numbers have at most 15 digits (E.164); some carriers add routing prefixes.
pub const MAX_USER_BYTES: usize = 128;

/// The keys a dialled user part stands for, the best first. At most two.
pub type Keys = SmallVec<[String; 2]>;

/// What a number, as it stands in the store, is found by. `None` for what can never be dialled: empty or too long.
pub fn stored_key(number: &str) -> Option<String> {
    let bare = number.strip_prefix("tel:").or_else(|| number.strip_prefix("sip:")).unwrap_or(number);
    let user = bare.split('@').next().unwrap_or(bare);
    keys(user.as_bytes()).into_iter().next()
}

/// The user part of a URI as [`keys`] wants it: with its parameters, which a `tel:` URI has where a `sip:` URI has its own.
pub fn user_of<'a>(uri: &Uri<'a>) -> Cow<'a, [u8]> {
    let user = uri.user().unwrap_or_default();
    match uri.scheme() {
        Scheme::Tel => Cow::Owned([user, uri.params_raw()].concat()),
        Scheme::Sip | Scheme::Sips | Scheme::Other(_) => Cow::Borrowed(user),
    }
}

/// The keys of a dialled user part, with its parameters and escapes as they stood in the URI.
///
/// A local number with a global `phone-context` is looked up by itself and then behind its context, as RFC 3966
/// section 5.1.5 has it ("the context … prefixed to the number").
pub fn keys(user: &[u8]) -> Keys {
    let mut keys = Keys::new();
    if user.is_empty() || user.len() > MAX_USER_BYTES {
        return keys;
    }
    let mut parts = user.split(|byte| *byte == b';');
    let Some(name) = parts.next().and_then(unescape) else { return keys };
    let context = parts
        .filter_map(|parameter| std::str::from_utf8(parameter).ok())
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("phone-context"))
        .map(|(_, value)| value);
    let Some(digits) = digits(&name) else {
        if !name.is_empty() {
            keys.push(name);
        }
        return keys;
    };
    let is_global = name.trim_start().starts_with('+');
    keys.push(digits);
    if let Some(context) =
        context.filter(|context| !is_global && context.starts_with('+')).and_then(self::digits)
    {
        keys.push(format!("{context}{}", keys[0]));
    }
    keys
}

/// The digits of a telephone number without its leading plus and visual separators; `None` for anything else.
fn digits(name: &str) -> Option<String> {
    let bare = name.trim();
    let bare = bare.strip_prefix('+').unwrap_or(bare);
    let mut digits = String::with_capacity(bare.len());
    for character in bare.chars() {
        match character {
            '0'..='9' | '*' | '#' => digits.push(character),
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some(digits)
}

/// Percent escapes undone (RFC 3261 section 19.1.2); `None` when what comes out is not text.
fn unescape(name: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let Some(escape) = after.get(..2)
            && let Some(value) =
                std::str::from_utf8(escape).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            bytes.push(value);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_number_is_one_key() {
        for user in [
            "+918047102030",
            "918047102030",
            "+91-80-4710.2030",
            "+91(80)47102030",
            "%2B918047102030",
            "+91%2080%2047102030",
            "+918047102030;npdi;rn=1",
            " +918047102030 ",
        ] {
            assert_eq!(keys(user.as_bytes()).as_slice(), ["918047102030"], "{user}");
        }
    }

    #[test]
    fn a_local_number_is_also_looked_up_behind_its_global_context() {
        assert_eq!(keys(b"47102030;phone-context=+91-80").as_slice(), ["47102030", "918047102030"]);
        assert_eq!(keys(b"47102030;phone-context=example.com").as_slice(), ["47102030"]);
        assert_eq!(keys(b"+4930;phone-context=+91").as_slice(), ["4930"]);
    }

    #[test]
    fn a_tel_uri_is_dialled_with_its_context() {
        let keys_of = |uri: &str| keys(&user_of(&Uri::parse(uri.as_bytes()).unwrap())).to_vec();
        assert_eq!(keys_of("tel:+91-80-47102030"), ["918047102030"]);
        assert_eq!(keys_of("tel:47102030;phone-context=+9180"), ["47102030", "918047102030"]);
        assert_eq!(keys_of("sip:47102030;phone-context=+9180@h;user=phone"), ["47102030", "918047102030"]);
        assert_eq!(keys_of("sip:host.example"), [""; 0]);
    }

    #[test]
    fn a_name_is_its_own_key_and_keeps_its_case() {
        assert_eq!(keys(b"Support-1").as_slice(), ["Support-1"]);
        assert_eq!(keys(b"a%20b").as_slice(), ["a b"]);
        assert_eq!(keys(b"*98#").as_slice(), ["*98#"]);
    }

    #[test]
    fn what_cannot_be_dialled_has_no_key() {
        assert!(keys(b"").is_empty());
        assert!(keys(b";x=1").is_empty());
        assert!(keys(&[b'1'; MAX_USER_BYTES + 1]).is_empty());
        assert!(keys(b"a%0d%0ab").is_empty());
        assert!(keys(b"\xff").is_empty());
        assert_eq!(keys(b"100%zz").as_slice(), ["100%zz"]);
        assert_eq!(keys(b"5%").as_slice(), ["5%"]);
    }

    #[test]
    fn stored_numbers_may_carry_a_scheme() {
        assert_eq!(stored_key("tel:+1-415-555-0100").as_deref(), Some("14155550100"));
        assert_eq!(stored_key("sip:support@example.com").as_deref(), Some("support"));
        assert_eq!(stored_key(""), None);
    }
}
