//! Templates over a call's facts: `wss://agent.example/ws/{execution_id}?from={from}`.
//!
//! What it refuses to do: let a caller choose where we connect (no placeholder before the path of a URL is filled in), add
//! a header (control characters never pass), or climb a path (a value of dots alone is left out). Callers write From, To
//! and every header of an INVITE; each value is bounded and escaped for the place it goes to. RFC 3986 section 2.3
//! (unreserved characters), RFC 9110 section 5.5 (field values).

use thiserror::Error;

/// Longest value filled in, in bytes.
pub const MAX_VALUE_BYTES: usize = 256;

/// Longest text made of a template, in bytes; the rest is cut off.
pub const MAX_TEXT_BYTES: usize = 8192;

/// The names that may stand in braces, beside `header:…`.
pub const NAMES: [&str; 7] = ["execution_id", "call_id", "agent_id", "from", "to", "trunk_id", "sip_call_id"];

/// Headers never handed to an agent: they hold credentials.
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "authentication-info"];

/// What a call's templates are filled with.
pub trait Facts {
    /// The value of one of [`NAMES`].
    fn fact(&self, name: &str) -> Option<String>;

    /// The value of a header of the INVITE.
    fn header(&self, name: &str) -> Option<String>;
}

/// Why a template cannot be used; for whoever writes one, through the API.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Braces hold a name that is no fact.
    #[error("{{{name}}} is no fact of a call; known are {}, {{header:X-Name}}", known())]
    UnknownName {
        /// What stands in the braces.
        name: String,
    },
    /// Braces stand where the host is.
    #[error("a template may fill in path and query of a url, not its host")]
    InAuthority,
    /// Braces name a header that holds credentials.
    #[error("the header {name} is not handed to agents")]
    SecretHeader {
        /// The header.
        name: String,
    },
}

fn known() -> String {
    NAMES.map(|name| format!("{{{name}}}")).join(", ")
}

/// Checks a URL template.
///
/// # Errors
/// Names the first placeholder that could never be filled in.
pub fn check_url(template: &str) -> Result<(), TemplateError> {
    let (authority, rest) = template.split_at(path_start(template));
    if parts(authority).any(|part| matches!(part, Part::Fact(_) | Part::Header(_))) {
        return Err(TemplateError::InAuthority);
    }
    check_text(rest)
}

/// Checks a template of a header or parameter value.
///
/// # Errors
/// Names the first placeholder that could never be filled in.
pub fn check_text(template: &str) -> Result<(), TemplateError> {
    for part in parts(template) {
        match part {
            Part::Header(name) if is_secret(name) => {
                return Err(TemplateError::SecretHeader { name: name.to_owned() });
            }
            Part::Unknown(name) => return Err(TemplateError::UnknownName { name: name.to_owned() }),
            Part::Text(_) | Part::Fact(_) | Part::Header(_) => {}
        }
    }
    Ok(())
}

/// Fills in a URL. Placeholders before the path stay as they are, and so cannot be dialled.
pub fn expand_url(template: &str, facts: &impl Facts) -> String {
    let (authority, rest) = template.split_at(path_start(template));
    let mut text = authority.to_owned();
    expand_into(&mut text, rest, facts, push_url_value);
    text
}

/// Fills in the value of an HTTP header: nothing but visible ASCII and spaces comes of a value.
pub fn expand_header(template: &str, facts: &impl Facts) -> String {
    let mut text = String::new();
    expand_into(&mut text, template, facts, |text, value| {
        text.extend(value.chars().map(|character| match character {
            ' '..='~' => character,
            _ => '?',
        }));
    });
    // The template itself comes from the API, which checks it; a header line is a header line all the same.
    text.retain(|character| !character.is_control());
    text
}

/// Fills in a parameter's value: text without control characters.
pub fn expand_text(template: &str, facts: &impl Facts) -> String {
    let mut text = String::new();
    expand_into(&mut text, template, facts, |text, value| {
        text.extend(value.chars().filter(|character| !character.is_control()));
    });
    text
}

fn expand_into(text: &mut String, template: &str, facts: &impl Facts, push: impl Fn(&mut String, &str)) {
    for part in parts(template) {
        let value = match part {
            Part::Text(literal) => {
                text.push_str(literal);
                continue;
            }
            Part::Unknown(name) => {
                text.extend(["{", name, "}"]);
                continue;
            }
            Part::Fact(name) => facts.fact(name),
            Part::Header(name) if is_secret(name) => None,
            Part::Header(name) => facts.header(name),
        };
        push(text, bounded(value.as_deref().unwrap_or_default()));
    }
    text.truncate(floor_char_boundary(text, MAX_TEXT_BYTES));
}

/// RFC 3986 section 2.3: "ALPHA, DIGIT, '-', '.', '_', '~'" pass; every other byte is escaped.
fn push_url_value(text: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if value.bytes().all(|byte| byte == b'.') {
        return;
    }
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            _ => text.extend([
                '%',
                char::from(HEX[usize::from(byte >> 4)]),
                char::from(HEX[usize::from(byte & 15)]),
            ]),
        }
    }
}

fn bounded(value: &str) -> &str {
    &value[..floor_char_boundary(value, MAX_VALUE_BYTES)]
}

fn floor_char_boundary(text: &str, most: usize) -> usize {
    (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

fn is_secret(header: &str) -> bool {
    SECRET_HEADERS.iter().any(|secret| header.eq_ignore_ascii_case(secret))
}

/// Where a URL's path, query or fragment begins.
fn path_start(url: &str) -> usize {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    url[authority..].find(['/', '?', '#']).map_or(url.len(), |end| authority + end)
}

enum Part<'a> {
    Text(&'a str),
    Fact(&'a str),
    Header(&'a str),
    /// Looks like a name and is none.
    Unknown(&'a str),
}

/// Cuts a template at its placeholders. Braces around anything that does not look like a name are text: JSON may stand in
/// a parameter.
fn parts(template: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('{')
            && let Some((name, after)) = inner.split_once('}')
            && let Some(part) = placeholder(name)
        {
            rest = after;
            return Some(part);
        }
        let end = rest.char_indices().skip(1).find(|(_, character)| *character == '{').map(|(end, _)| end);
        let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(Part::Text(text))
    })
}

fn placeholder(name: &str) -> Option<Part<'_>> {
    if let Some(header) = name.strip_prefix("header:") {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!%*+`'~".contains(&byte);
        return (!header.is_empty() && header.bytes().all(is_token)).then_some(Part::Header(header));
    }
    if NAMES.contains(&name) {
        return Some(Part::Fact(name));
    }
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(Part::Unknown(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample(&'static str);

    impl Facts for Sample {
        fn fact(&self, name: &str) -> Option<String> {
            Some(match name {
                "execution_id" => "id-1".to_owned(),
                "from" => self.0.to_owned(),
                _ => return None,
            })
        }

        fn header(&self, name: &str) -> Option<String> {
            name.eq_ignore_ascii_case("x-name").then(|| self.0.to_owned())
        }
    }

    #[test]
    fn facts_and_headers_are_filled_in() {
        let facts = Sample("+918047102030");
        assert_eq!(
            expand_url("wss://agent.example/ws/{execution_id}?f={from}&n={header:x-NAME}&t={to}", &facts),
            "wss://agent.example/ws/id-1?f=%2B918047102030&n=%2B918047102030&t="
        );
        assert_eq!(expand_header("caller {from}", &facts), "caller +918047102030");
        assert_eq!(expand_text(r#"{"a": {"b": "{from}"}}"#, &facts), r#"{"a": {"b": "+918047102030"}}"#);
        assert_eq!(expand_text("", &facts), "");
        assert_eq!(expand_text("é{from}é", &facts), "é+918047102030é");
        assert_eq!(expand_text("{from", &facts), "{from");
        assert_eq!(expand_text("{{from}", &facts), "{+918047102030");
    }

    #[test]
    fn a_callers_value_cannot_leave_its_place() {
        let evil = Sample("a/../b?c=d&e#f%20g@h:i\r\nX-Evil: 1\u{0}ü");
        assert_eq!(
            expand_url("ws://h/{from}", &evil),
            "ws://h/a%2F..%2Fb%3Fc%3Dd%26e%23f%2520g%40h%3Ai%0D%0AX-Evil%3A%201%00%C3%BC"
        );
        let header = expand_header("v={from}", &evil);
        assert_eq!(header, "v=a/../b?c=d&e#f%20g@h:i??X-Evil: 1??");
        assert!(!expand_text("{from}", &evil).contains(['\r', '\n', '\0']));
        assert_eq!(expand_url("ws://h/ws/{from}/x", &Sample("..")), "ws://h/ws//x");
    }

    #[test]
    fn a_caller_cannot_choose_the_host() {
        let facts = Sample("evil.example");
        for template in ["ws://{from}/ws", "ws://a.{from}:80/ws", "ws://{from}", "{from}"] {
            assert!(expand_url(template, &facts).contains("{from}"), "{template}");
            assert_eq!(check_url(template), Err(TemplateError::InAuthority));
        }
        assert_eq!(expand_url("ws://h?x={from}", &facts), "ws://h?x=evil.example");
    }

    #[test]
    fn credentials_of_the_invite_are_never_handed_on() {
        let error = check_text("{header:Authorization}").unwrap_err();
        assert_eq!(error, TemplateError::SecretHeader { name: "Authorization".into() });
        struct All;
        impl Facts for All {
            fn fact(&self, _name: &str) -> Option<String> {
                None
            }
            fn header(&self, _name: &str) -> Option<String> {
                Some("secret".into())
            }
        }
        assert_eq!(expand_text("{header:proxy-authorization}", &All), "");
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = check_url("ws://h/{exection_id}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "{exection_id} is no fact of a call; known are {execution_id}, {call_id}, {agent_id}, {from}, {to}, \
             {trunk_id}, {sip_call_id}, {header:X-Name}"
        );
        assert_eq!(check_text(r#"{"json": {"is": "fine"}}"#), Ok(()));
        assert_eq!(check_url("wss://h/{execution_id}/{header:X-A}"), Ok(()));
    }

    #[test]
    fn texts_are_bounded() {
        struct Long;
        impl Facts for Long {
            fn fact(&self, _name: &str) -> Option<String> {
                Some("ü".repeat(10_000))
            }
            fn header(&self, _name: &str) -> Option<String> {
                None
            }
        }
        assert_eq!(expand_text("{from}", &Long).len(), MAX_VALUE_BYTES);
        assert!(expand_url(&"{from}".repeat(1000), &Long).len() <= MAX_TEXT_BYTES);
    }
}
