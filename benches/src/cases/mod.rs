//! The small pieces of work whose cost is watched: each is a closure that does the piece once, ready to be
//! repeated for ever in a steady state. `micro/cases.rs` measures their time and allocations, the
//! `instructions` command counts their instructions; both run the same bodies.

mod bridge;
pub mod call;
mod convert;
mod dialect;
mod srtp;
mod transaction;
mod wire;

/// A piece of work, ready to be repeated.
pub type Step = Box<dyn FnMut()>;

/// Every case, by name.
pub const NAMES: [&str; 38] = [
    "parse an INVITE",
    "parse an INVITE and read what routing needs",
    "print the 200 to an INVITE",
    "transaction: OPTIONS answered",
    "transaction: INVITE repeated",
    "transaction: INVITE to BYE",
    "call: INVITE to BYE",
    "bridge tick: asterisk",
    "bridge tick: asterisk-json",
    "bridge tick: twilio",
    "bridge tick: bolna",
    "encode 20 ms: asterisk",
    "encode 20 ms: asterisk-json",
    "encode 20 ms: twilio",
    "encode 20 ms: bolna",
    "decode 20 ms: asterisk",
    "decode 20 ms: asterisk-json",
    "decode 20 ms: twilio",
    "decode 20 ms: bolna",
    "protect 20 ms: AES_CM_128_HMAC_SHA1_80",
    "protect 20 ms: AEAD_AES_128_GCM",
    "protect 20 ms: AEAD_AES_256_GCM",
    "protect and open 20 ms: AES_CM_128_HMAC_SHA1_80",
    "protect and open 20 ms: AEAD_AES_128_GCM",
    "protect and open 20 ms: AEAD_AES_256_GCM",
    "convert 20 ms: ulaw to ulaw",
    "convert 20 ms: ulaw to alaw",
    "convert 20 ms: ulaw to slin",
    "convert 20 ms: ulaw to slin16",
    "convert 20 ms: ulaw to slin24",
    "convert 20 ms: ulaw to slin48",
    "convert 20 ms: slin24 to ulaw",
    "convert 20 ms: slin16 to slin24",
    "code 20 ms: G722",
    "decode 20 ms of payload: G722",
    "seek keys in 20 ms",
    "judge 20 ms of voice",
    "nothing",
];

/// Makes a case ready.
///
/// # Panics
/// When there is no case of this name.
#[must_use]
pub fn prepare(name: &str) -> Step {
    if let Some(dialect) = name.strip_prefix("bridge tick: ") {
        return bridge::tick(dialect);
    }
    if let Some(dialect) = name.strip_prefix("encode 20 ms: ") {
        return dialect::encode(dialect);
    }
    if let Some(dialect) = name.strip_prefix("decode 20 ms: ") {
        return dialect::decode(dialect);
    }
    if let Some(suite) = name.strip_prefix("protect 20 ms: ") {
        return srtp::protect(suite);
    }
    if let Some(suite) = name.strip_prefix("protect and open 20 ms: ") {
        return srtp::protect_and_open(suite);
    }
    if let Some(pair) = name.strip_prefix("convert 20 ms: ") {
        return convert::convert(pair);
    }
    match name {
        "code 20 ms: G722" => convert::encode_g722(),
        "decode 20 ms of payload: G722" => convert::decode_g722(),
        "seek keys in 20 ms" => convert::seek_keys(),
        "judge 20 ms of voice" => convert::judge_voice(),
        "parse an INVITE" => wire::parse(),
        "parse an INVITE and read what routing needs" => wire::parse_and_read(),
        "print the 200 to an INVITE" => wire::print(),
        "transaction: OPTIONS answered" => transaction::options(),
        "transaction: INVITE repeated" => transaction::repeated_invite(),
        "transaction: INVITE to BYE" => transaction::invite_to_bye(),
        "call: INVITE to BYE" => call::invite_to_bye(),
        // What the measuring itself costs.
        "nothing" => Box::new(|| std::hint::black_box(())),
        other => panic!("{other}: no such case"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each case checks in itself that it does what it says.
    #[test]
    fn every_case_can_be_repeated() {
        for name in NAMES {
            let mut step = prepare(name);
            (0..50).for_each(|_| step());
        }
    }
}
