//! A carrier's answer to a digest challenge, computed by rsip.

use rsip::headers::auth::{Algorithm, AuthQop};
use rsip::services::DigestGenerator;

/// Name and password of a trunk, and how the carrier gets them wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// What is wrong with the answer.
    pub trick: DigestTrick,
}

/// What is wrong with a digest answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestTrick {
    /// Nothing.
    Honest,
    /// The password is wrong.
    WrongPassword,
    /// The answer names another realm.
    WrongRealm,
    /// The answer was computed for another Request-URI.
    WrongUri,
    /// The nonce is made up.
    ForgedNonce,
    /// The answer waits for so many seconds, until the nonce is stale; then the second challenge is answered.
    StaleNonce(u16),
}

/// One challenge, as much of it as is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// realm
    pub realm: String,
    /// nonce
    pub nonce: String,
    /// algorithm; MD5 when absent
    pub algorithm: String,
    /// Whether qop=auth is offered.
    pub qop_auth: bool,
    /// stale
    pub stale: bool,
    /// opaque, to be returned
    pub opaque: Option<String>,
}

impl Challenge {
    /// Reads `Digest key="value", …`.
    pub fn parse(value: &str) -> Option<Self> {
        let fields = Fields::read(value)?;
        let find = |name: &str| fields.find(name).map(str::to_owned);
        Some(Self {
            realm: find("realm")?,
            nonce: find("nonce")?,
            algorithm: find("algorithm").unwrap_or_else(|| "MD5".into()),
            qop_auth: find("qop").is_some_and(|list| list.split(',').any(|one| one.trim() == "auth")),
            stale: find("stale").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            opaque: find("opaque"),
        })
    }
}

/// Whether an Authorization value answers a challenge with this nonce by these credentials, as rsip computes it.
pub fn is_right(value: &str, credentials: &Credentials, nonce: &str, method: &str) -> bool {
    let Some(given) = Fields::read(value) else { return false };
    let algorithm = match given.find("algorithm").unwrap_or("MD5") {
        "MD5" => Algorithm::Md5,
        "SHA-256" => Algorithm::Sha256,
        _ => return false,
    };
    let count = given.find("nc").and_then(|text| u8::from_str_radix(text, 16).ok());
    let qop = given.find("cnonce").zip(count).map(|(cnonce, nc)| AuthQop::Auth { cnonce: cnonce.into(), nc });
    let uri = given.find("uri").and_then(|uri| rsip::Uri::try_from(uri).ok());
    let (Some(uri), Ok(method), Some(realm)) = (uri, method.parse(), given.find("realm")) else {
        return false;
    };
    let generator = DigestGenerator {
        username: &credentials.username,
        password: &credentials.password,
        nonce,
        uri: &uri,
        realm,
        method: &method,
        qop: qop.as_ref(),
        algorithm,
    };
    given.find("username") == Some(credentials.username.as_str())
        && given.find("nonce") == Some(nonce)
        && given.find("response") == Some(generator.compute().as_str())
}

/// The fields of a challenge or of its answer, without their quotes.
struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `Digest key="value", …`.
    fn read(value: &str) -> Option<Self> {
        let rest = value.trim().strip_prefix("Digest ")?;
        let (mut quoted, mut parts, mut part) = (false, Vec::new(), String::new());
        for character in rest.chars() {
            match character {
                '"' => quoted = !quoted,
                ',' if !quoted => parts.push(std::mem::take(&mut part)),
                other => part.push(other),
            }
        }
        parts.push(part);
        let pairs = parts.iter().filter_map(|part| part.split_once('='));
        Some(Self(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()))
    }

    fn find(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The Authorization value that answers the first of `challenges` this carrier can compute.
pub fn answer(challenges: &[String], credentials: &Credentials, method: &str, uri: &str) -> Option<String> {
    let known = |name: &str| match name.to_ascii_uppercase().as_str() {
        "MD5" => Some(Algorithm::Md5),
        "SHA-256" => Some(Algorithm::Sha256),
        _ => None,
    };
    let (challenge, algorithm) = challenges
        .iter()
        .filter_map(|value| Challenge::parse(value))
        .find_map(|challenge| known(&challenge.algorithm).map(|algorithm| (challenge, algorithm)))?;
    let trick = credentials.trick;
    let password = if trick == DigestTrick::WrongPassword { "guess" } else { &credentials.password };
    let realm =
        if trick == DigestTrick::WrongRealm { "elsewhere".to_owned() } else { challenge.realm.clone() };
    let nonce = if trick == DigestTrick::ForgedNonce {
        "dGhpcyBub25jZSBpcyBtYWRlIHVw".to_owned()
    } else {
        challenge.nonce.clone()
    };
    let digest_uri = if trick == DigestTrick::WrongUri { "sip:+19995550000@192.0.2.1:5060" } else { uri };
    let parsed_uri = rsip::Uri::try_from(digest_uri).ok()?;
    let qop = challenge.qop_auth.then(|| AuthQop::Auth { cnonce: "5ca1ab1e".into(), nc: 1 });
    let generator = DigestGenerator {
        username: &credentials.username,
        password,
        nonce: &nonce,
        uri: &parsed_uri,
        realm: &realm,
        method: &method.parse().ok()?,
        qop: qop.as_ref(),
        algorithm,
    };
    let mut value = format!(
        "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{digest_uri}\", response=\"{}\", algorithm={}",
        credentials.username,
        generator.compute(),
        challenge.algorithm
    );
    if challenge.qop_auth {
        value.push_str(", qop=auth, cnonce=\"5ca1ab1e\", nc=00000001");
    }
    if let Some(opaque) = challenge.opaque {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    Some(value)
}
