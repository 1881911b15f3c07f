//! Digest access authentication, both sides of it.
//!
//! `digest` computes, `header` reads and writes the header values, `challenge` is the server that asks
//! and verifies, `answer` the client. The Basic scheme is not spoken: RFC 3261 section 22 forbids it.
//! RFC 3261 section 22, RFC 7616, RFC 8760.

mod answer;
mod challenge;
mod digest;
mod header;

pub use answer::{Answerer, Refused};
pub use challenge::{Authenticator, AuthenticatorConfig, Side, Staleness, Verification};
pub use digest::{Algorithm, DigestInput, Hash, HexDigest, Qop};
pub use header::{Challenge, Credentials, challenges};
