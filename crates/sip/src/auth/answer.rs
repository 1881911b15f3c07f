//! The client's side: picks a challenge it can meet, answers it, and keeps count of its nonce.
//!
//! A proxy and the server behind it may both ask, each for its own realm; every later request answers all that
//! did. It gives up rather than send the same secret to the same door twice, and answers no realm but the one it
//! was made for, if it was told one; if not, none that first asks after others have accepted the secret.
//! RFC 3261 sections 22.2 and 22.3, RFC 7616 section 3.4, RFC 8760 section 2.4.

use std::fmt;

use super::challenge::Side;
use super::digest::{Algorithm, DigestInput, Qop};
use super::header::{Challenge, challenges, escape, unescape};
use crate::message::{HeaderName, Method, Response};

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No challenge of the response is of a scheme, algorithm and protection that are spoken here.
    #[error("no supported challenge")]
    NothingSupported,
    /// The challenges are for realms these credentials do not belong to.
    #[error("challenge for another realm")]
    OtherRealm,
    /// The peer has seen these credentials and does not want them: "a UAC MUST NOT re-attempt requests with
    /// the credentials that have just been rejected (though the request may be retried if the nonce was
    /// stale)" (RFC 3261 section 22.1).
    #[error("credentials not accepted")]
    NotAccepted,
    /// The peer calls every nonce stale.
    #[error("challenged too often")]
    TooOften,
}

/// Answers in a row that one realm gets: the first, and one with a fresh nonce when that was stale. Who calls the fresh one
/// stale too goes round in circles.
const MAX_ROUNDS: u32 = 2;

/// Realms that may ask for one request: a server, and the proxies before it.
const MAX_REALMS: usize = 4;

/// One user's credentials at one server. Secrets show in no debug output.
#[derive(Clone)]
pub struct Answerer {
    username: String,
    password: String,
    realm: Option<String>,
    answering: Vec<Answering>,
    has_served: bool,
}

/// A challenge being answered, owned; values as between their quotes.
#[derive(Clone)]
struct Answering {
    side: Side,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    algorithm: Algorithm,
    names_algorithm: bool,
    qop: Option<Qop>,
    count: u32,
    /// Answers given since the last that was accepted.
    rounds: u32,
}

impl Answerer {
    /// Credentials for any realm that challenges.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        let (username, password) = (username.into(), password.into());
        Self { username, password, realm: None, answering: Vec::new(), has_served: false }
    }

    /// The same, for one realm alone.
    pub fn only_for(self, realm: impl Into<String>) -> Self {
        Self { realm: Some(realm.into()), ..self }
    }

    /// Takes the challenges of a 401 or 407: of each realm the first that is supported, top down (RFC 8760 section 2.4). A
    /// proxy that forks puts the challenges of all its branches into one response, those of servers and of proxies, and every
    /// realm has to be answered (RFC 3261 section 22.3). Then [`Self::authorizations`] makes the headers for the request to
    /// be sent again.
    ///
    /// # Errors
    /// [`Refused`] says why the response is final.
    pub fn take_challenge(&mut self, response: &Response) -> Result<(), Refused> {
        let mut refused = Refused::NothingSupported;
        let mut taken: Vec<(Side, &[u8])> = Vec::new();
        for side in [Side::User, Side::Proxy] {
            for challenge in response.headers(side.challenge()).flat_map(challenges) {
                let Some(algorithm) = challenge.algorithm else { continue };
                let qop = [Qop::Auth, Qop::AuthInt].into_iter().find(|&qop| challenge.offers(qop));
                if (challenge.qop.is_some() && qop.is_none()) || taken.contains(&(side, challenge.realm)) {
                    continue;
                }
                let is_other =
                    self.realm.as_deref().is_some_and(|realm| escape(realm).as_bytes() != challenge.realm);
                if is_other || (self.has_served && self.known(side, challenge.realm).is_none()) {
                    refused = Refused::OtherRealm;
                    continue;
                }
                self.take(side, &challenge, algorithm, qop)?;
                taken.push((side, challenge.realm));
            }
        }
        if taken.is_empty() { Err(refused) } else { Ok(()) }
    }

    fn take(
        &mut self,
        side: Side,
        challenge: &Challenge<'_>,
        algorithm: Algorithm,
        qop: Option<Qop>,
    ) -> Result<(), Refused> {
        let known = self.known(side, challenge.realm);
        let before = known.map(|index| &self.answering[index]);
        let rounds = before.map_or(0, |before| before.rounds);
        if before.is_some_and(|before| before.count > 0) && !challenge.is_stale && rounds > 0 {
            return Err(Refused::NotAccepted);
        }
        if rounds == MAX_ROUNDS || (known.is_none() && self.answering.len() == MAX_REALMS) {
            return Err(Refused::TooOften);
        }
        let answering = Answering {
            side,
            realm: challenge.realm.to_vec(),
            nonce: challenge.nonce.to_vec(),
            opaque: challenge.opaque.map(<[u8]>::to_vec),
            algorithm,
            names_algorithm: algorithm != Algorithm::MD5 || challenge.names_algorithm,
            qop,
            count: 0,
            rounds: rounds + 1,
        };
        match known {
            Some(index) => self.answering[index] = answering,
            None => self.answering.push(answering),
        }
        Ok(())
    }

    fn known(&self, side: Side, realm: &[u8]) -> Option<usize> {
        self.answering.iter().position(|known| known.side == side && known.realm == realm)
    }

    /// Notes that a request with our answer was accepted: later challenges start anew, and the nonce goes
    /// on being used with rising counts.
    pub fn accepted(&mut self) {
        self.has_served |= self.answering.iter().any(|state| state.count > 0);
        for state in &mut self.answering {
            state.rounds = 0;
        }
    }

    /// The headers that answer the challenges taken, one for each realm, for a request of this method, URI and
    /// body; none before any challenge. Each call counts the nonces up. `cnonce` is random, from the caller's
    /// generator.
    pub fn authorizations(
        &mut self,
        method: Method<'_>,
        uri: &[u8],
        body: &[u8],
        cnonce: u64,
    ) -> Vec<(HeaderName, Vec<u8>)> {
        let Self { username, password, answering, .. } = self;
        let answers = answering.iter_mut().filter_map(|state| {
            let value = state.answer(username, password, method, uri, body, cnonce)?;
            Some((state.side.credentials(), value))
        });
        answers.collect()
    }
}

impl Answering {
    /// The value of the header; `None` once the nonce's count is used up.
    fn answer(
        &mut self,
        username: &str,
        password: &str,
        method: Method<'_>,
        uri: &[u8],
        body: &[u8],
        cnonce: u64,
    ) -> Option<Vec<u8>> {
        self.count = self.count.checked_add(1)?;
        let (count, cnonce) = (format!("{:08x}", self.count), format!("{cnonce:016x}"));
        let quoted_username = escape(username);
        let response = DigestInput {
            algorithm: self.algorithm,
            username: username.as_bytes(),
            realm: &unescape(&self.realm),
            password: password.as_bytes(),
            method: method.as_bytes(),
            uri,
            nonce: &unescape(&self.nonce),
            qop: self.qop,
            nonce_count: count.as_bytes(),
            cnonce: cnonce.as_bytes(),
            body,
        }
        .response();
        let mut value = b"Digest username=\"".to_vec();
        let mut quoted = |name: &str, content: &[u8]| {
            value.extend_from_slice(name.as_bytes());
            value.extend_from_slice(content);
        };
        quoted("", quoted_username.as_bytes());
        quoted("\", realm=\"", &self.realm);
        quoted("\", nonce=\"", &self.nonce);
        quoted("\", uri=\"", uri);
        quoted("\", response=\"", response.as_ref());
        quoted("\"", b"");
        if self.names_algorithm {
            quoted(", algorithm=", self.algorithm.as_str().as_bytes());
        }
        if let Some(opaque) = &self.opaque {
            quoted(", opaque=\"", opaque);
            quoted("\"", b"");
        }
        if let Some(qop) = self.qop {
            quoted(", qop=", qop.as_str().as_bytes());
            quoted(", nc=", count.as_bytes());
        }
        if self.qop.is_some() || self.algorithm.is_session {
            quoted(", cnonce=\"", cnonce.as_bytes());
            quoted("\"", b"");
        }
        Some(value)
    }
}

impl fmt::Debug for Answerer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answerer").field("username", &self.username).finish_non_exhaustive()
    }
}
