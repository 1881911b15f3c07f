//! A SIP message as the checks read it: a tiny parser over text, made to be simple and to share nothing with the
//! product's.
//!
//! It refuses what is not plainly a SIP message and understands no compact names but those used here.

use bytes::Bytes;

/// A message, taken apart.
#[derive(Debug, Clone)]
pub struct SipText {
    /// Method and Request-URI, for requests.
    pub request: Option<(String, String)>,
    /// Status code, for responses.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// What follows the empty line.
    pub body: Vec<u8>,
}

impl SipText {
    /// Takes a message apart, or says nothing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let first = lines.next()?;
        let mut words = first.splitn(3, ' ');
        let (request, status) = match (words.next()?, words.next()?, words.next()?) {
            ("SIP/2.0", code, _) => (None, code.parse().ok()?),
            (method, uri, "SIP/2.0") => (Some((method.to_owned(), uri.to_owned())), 0),
            _ => return None,
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), headers.last_mut()) {
                value.push_str(line);
                continue;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((long_name(name.trim()), value.trim().to_owned()));
        }
        Some(Self { request, status, headers, body: bytes[end + 4..].to_vec() })
    }

    /// The method of a request; empty for a response.
    pub fn method(&self) -> &str {
        self.request.as_ref().map_or("", |(method, _)| method)
    }

    /// The Request-URI of a request; empty for a response.
    pub fn uri(&self) -> &str {
        self.request.as_ref().map_or("", |(_, uri)| uri)
    }

    /// The first line of a header, by its long name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header, lists taken apart at commas outside quotes and angle brackets.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(key, _)| key == name);
        lines.flat_map(|(_, value)| split_list(value)).collect()
    }

    /// Call-ID.
    pub fn call_id(&self) -> &str {
        self.header("call-id").unwrap_or("")
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> (u32, &str) {
        let (number, method) =
            self.header("cseq").and_then(|value| value.split_once(' ')).unwrap_or(("0", ""));
        (number.trim().parse().unwrap_or(0), method.trim())
    }

    /// Tag of From; empty if there is none.
    pub fn from_tag(&self) -> &str {
        self.header("from").and_then(|value| parameter(value, "tag")).unwrap_or("")
    }

    /// Tag of To; empty if there is none.
    pub fn to_tag(&self) -> &str {
        self.header("to").and_then(|value| parameter(value, "tag")).unwrap_or("")
    }

    /// Branch and sent-by of the topmost Via.
    pub fn transaction(&self) -> (&str, &str) {
        let via = self.values("via").first().copied().unwrap_or("");
        let sent_by = via.split(';').next().and_then(|front| front.split_whitespace().nth(1)).unwrap_or("");
        (parameter(via, "branch").unwrap_or(""), sent_by)
    }

    /// The URI inside the first Contact.
    pub fn contact(&self) -> Option<&str> {
        self.values("contact").first().map(|value| uri_of(value))
    }
}

fn long_name(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "v" => "via".into(),
        "f" => "from".into(),
        "t" => "to".into(),
        "i" => "call-id".into(),
        "m" => "contact".into(),
        "l" => "content-length".into(),
        "c" => "content-type".into(),
        "k" => "supported".into(),
        "x" => "session-expires".into(),
        long => long.to_owned(),
    }
}

fn split_list(value: &str) -> Vec<&str> {
    let (mut quoted, mut inside, mut start) = (false, false, 0);
    let mut parts = Vec::new();
    for (at, character) in value.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '<' if !quoted => inside = true,
            '>' if !quoted => inside = false,
            ',' if !quoted && !inside => {
                parts.push(value[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(value[start..].trim());
    parts
}

/// The URI of a name-addr or addr-spec.
pub fn uri_of(value: &str) -> &str {
    match (value.find('<'), value.find('>')) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// A header parameter, looked for behind the angle brackets if there are any.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let tail = value.rfind('>').map_or(value, |at| &value[at + 1..]);
    tail.split(';').skip(1).find_map(|part| {
        let (key, content) = part.split_once('=').unwrap_or((part, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| content.trim())
    })
}

/// User part of a SIP or tel URI.
pub fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    match rest.split_once('@') {
        Some((user, _)) => user.split(';').next().unwrap_or(user),
        None => rest.split(';').next().unwrap_or(rest),
    }
}

/// Cuts the messages out of a stream by Content-Length (RFC 3261 18.3), ignoring keep-alives.
#[derive(Debug, Clone, Default)]
pub struct Cutter {
    pending: Vec<u8>,
}

impl Cutter {
    /// Reads on; each whole message is told to `found`.
    pub fn push(&mut self, bytes: &[u8], mut found: impl FnMut(Bytes)) {
        self.pending.extend_from_slice(bytes);
        loop {
            let blank = self.pending.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.pending.drain(..blank);
            let Some(end) = self.pending.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            let head = String::from_utf8_lossy(&self.pending[..end]).to_ascii_lowercase();
            let length = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("content-length:").or_else(|| line.strip_prefix("l:")))
                .and_then(|value| value.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if self.pending.len() < end + 4 + length {
                return;
            }
            let message: Vec<u8> = self.pending.drain(..end + 4 + length).collect();
            found(Bytes::from(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:+1800@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bKa1;rport, SIP/2.0/UDP b;branch=z9\r\n\
        f: \"Doe, <J>\" <sip:j@x>;tag=f1\r\nTo: <sip:+1800@192.0.2.1>\r\nCall-ID: c1\r\nCSeq: 7 INVITE\r\nContact: <sip:j@198.51.100.9:5070;x=1>\r\nContent-Length: 4\r\n\r\nv=0\n";

    #[test]
    fn what_the_checks_ask_for_is_read() {
        let text = SipText::parse(INVITE.as_bytes()).unwrap();
        assert_eq!((text.method(), text.uri()), ("INVITE", "sip:+1800@192.0.2.1"));
        assert_eq!(text.transaction(), ("z9hG4bKa1", "198.51.100.9:5060"));
        assert_eq!((text.from_tag(), text.to_tag(), text.cseq()), ("f1", "", (7, "INVITE")));
        assert_eq!(text.contact(), Some("sip:j@198.51.100.9:5070;x=1"));
        assert_eq!(text.values("via").len(), 2);
        assert_eq!(user_of(text.uri()), "+1800");
        assert_eq!(text.body, b"v=0\n");
    }

    #[test]
    fn a_stream_is_cut_at_every_split() {
        let twice = [INVITE.as_bytes(), b"\r\n\r\n", INVITE.as_bytes()].concat();
        for split in 0..twice.len() {
            let mut cutter = Cutter::default();
            let mut count = 0;
            for piece in [&twice[..split], &twice[split..]] {
                cutter.push(piece, |message| {
                    assert_eq!(message, INVITE.as_bytes());
                    count += 1;
                });
            }
            assert_eq!(count, 2, "split at {split}");
        }
    }
}
