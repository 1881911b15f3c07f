//! Keys pressed, as some carriers tell them: by INFO with `application/dtmf-relay` or `application/dtmf`.
//!
//! No RFC has it; Cisco's form is `Signal=5`, `Duration=160` line by line, the other is the digit alone. What it refuses:
//! everything that is not one key.

/// Length of a key whose INFO does not say, in milliseconds.
const DEFAULT_MS: u16 = 160;

/// Longest length taken, in milliseconds.
const MAX_MS: u16 = 5000;

/// The key and its length in milliseconds.
pub(crate) fn read(content_type: Option<&[u8]>, body: &[u8]) -> Option<(char, u16)> {
    let media_type = content_type?.split(|byte| *byte == b';').next()?.trim_ascii();
    let body = std::str::from_utf8(body.get(..body.len().min(256))?).ok()?;
    if media_type.eq_ignore_ascii_case(b"application/dtmf") {
        return Some((key(body)?, DEFAULT_MS));
    }
    if !media_type.eq_ignore_ascii_case(b"application/dtmf-relay") {
        return None;
    }
    let field = |wanted: &str| {
        body.lines().find_map(|line| {
            let (name, value) = line.split_once(['=', ':'])?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let duration = field("Duration").and_then(|value| value.parse().ok()).unwrap_or(DEFAULT_MS);
    Some((key(field("Signal")?)?, duration.clamp(1, MAX_MS)))
}

/// One key, by its sign or by its RFC 4733 event number (10 is star, 11 is pound), as some gateways write it.
fn key(text: &str) -> Option<char> {
    let text = text.trim();
    match text {
        "10" => return Some('*'),
        "11" => return Some('#'),
        _ => {}
    }
    let mut characters = text.chars();
    let key = characters.next()?.to_ascii_uppercase();
    (characters.next().is_none() && matches!(key, '0'..='9' | '*' | '#' | 'A'..='D')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_either_form() {
        let relay = Some(&b"application/dtmf-relay"[..]);
        assert_eq!(read(relay, b"Signal=5\r\nDuration=250\r\n"), Some(('5', 250)));
        assert_eq!(read(relay, b"signal= #\nduration = 99999"), Some(('#', DEFAULT_MS)), "beyond 16 bits");
        assert_eq!(read(relay, b"Signal=1\nDuration=60000"), Some(('1', MAX_MS)));
        assert_eq!(read(relay, b"Signal=10\r\n"), Some(('*', DEFAULT_MS)));
        assert_eq!(read(Some(b"application/DTMF; charset=utf-8"), b" d \r\n"), Some(('D', DEFAULT_MS)));
    }

    #[test]
    fn everything_else_is_no_key() {
        let relay = Some(&b"application/dtmf-relay"[..]);
        for body in ["", "Signal=", "Signal=55", "Signal=x", "Duration=160", "5", "Signal=\u{fc}"] {
            assert_eq!(read(relay, body.as_bytes()), None, "{body}");
        }
        assert_eq!(read(Some(b"text/plain"), b"5"), None);
        assert_eq!(read(None, b"5"), None);
        assert_eq!(read(relay, b"\xff"), None);
    }
}
