//! Numbers as routing compares them: `+91 (80) 4710-2030`, `918047102030` and `tel:+91-80-47102030` are one key.
//!
//! What it refuses to do: guess. A national or prefixed form is another key; routing names it as a near miss. RFC 3966
//! section 3 (visual separators), section 4 (comparison), section 5.1.5; RFC 3261 section 19.1.6.

/// Longest user part looked at, in bytes. Numbers have at most 15 digits (E.164); some carriers add routing prefixes.
pub const MAX_USER_BYTES: usize = 128;

/// What a number, as it stands in the store, is found by. `None` for what can never be dialled: empty or too long.
pub fn stored_key(number: &str) -> Option<String> {
    let bare = number.strip_prefix("tel:").or_else(|| number.strip_prefix("sip:")).unwrap_or(number);
    let user = bare.split('@').next().unwrap_or(bare);
    key(user.as_bytes())
}

/// The key of a dialled user part, with its parameters and escapes as they stood in the URI.
///
/// A `phone-context` is passed over: "It does NOT indicate a prefix that turns the local number into a global (E.164)
/// number" (RFC 3966 section 5.1.5).
pub fn key(user: &[u8]) -> Option<String> {
    if user.len() > MAX_USER_BYTES {
        return None;
    }
    let user = user.split(|byte| *byte == b';').next()?;
    // Nearly every INVITE asks for digits alone.
    let bare = user.strip_prefix(b"+").unwrap_or(user);
    if let (true, Ok(digits)) = (bare.iter().all(u8::is_ascii_digit), std::str::from_utf8(bare))
        && !digits.is_empty()
    {
        return Some(digits.to_owned());
    }
    let name = unescape(user)?;
    digits(&name).or_else(|| (!name.is_empty()).then_some(name))
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
            assert_eq!(key(user.as_bytes()).as_deref(), Some("918047102030"), "{user}");
        }
    }

    #[test]
    fn a_local_number_is_not_made_global_by_its_context() {
        assert_eq!(key(b"47102030;phone-context=+91-80").as_deref(), Some("47102030"));
    }

    #[test]
    fn a_name_is_its_own_key_and_keeps_its_case() {
        assert_eq!(key(b"Support-1").as_deref(), Some("Support-1"));
        assert_eq!(key(b"a%20b").as_deref(), Some("a b"));
        assert_eq!(key(b"*98#").as_deref(), Some("*98#"));
    }

    #[test]
    fn what_cannot_be_dialled_has_no_key() {
        assert_eq!(key(b""), None);
        assert_eq!(key(b";x=1"), None);
        assert_eq!(key(&[b'1'; MAX_USER_BYTES + 1]), None);
        assert_eq!(key(b"a%0d%0ab"), None);
        assert_eq!(key(b"\xff"), None);
        assert_eq!(key(b"100%zz").as_deref(), Some("100%zz"));
        assert_eq!(key(b"5%").as_deref(), Some("5%"));
    }

    #[test]
    fn stored_numbers_may_carry_a_scheme() {
        assert_eq!(stored_key("tel:+1-415-555-0100").as_deref(), Some("14155550100"));
        assert_eq!(stored_key("sip:support@example.com").as_deref(), Some("support"));
        assert_eq!(stored_key(""), None);
    }
}
