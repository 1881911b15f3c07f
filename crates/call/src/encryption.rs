//! Whether a trunk's media is encrypted, and what keys and ICE credentials of one call are made of.
//!
//! `media_encryption: sdes` requires SRTP; `media_encryption_optimistic` beside it takes media in the clear where the carrier
//! offers no key. Keys stand in the SDP, so they are neither offered nor accepted where signalling is not TLS (RFC 4568
//! section 8.3): a trunk that requires them has no call then, one that does not has it in the clear.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use tandem_media::ice::{CREDENTIAL_OCTETS, IceCredentials};
use tandem_media::sdp::Encryption;
use tandem_media::session::SecurityTrouble;
use tandem_media::srtp::{KeyMaterial, MASTER_OCTETS_MAX};
use tandem_sip::Transport;

use crate::table::{MediaEncryption, Trunk};

/// Keys would cross the network in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exposed;

/// What the trunk asks for, whatever the transport.
pub(crate) fn wish(trunk: &Trunk) -> Encryption {
    match (trunk.media_encryption, trunk.media_encryption_optimistic) {
        (MediaEncryption::No, _) => Encryption::Off,
        (MediaEncryption::Sdes, true) => Encryption::Preferred,
        (MediaEncryption::Sdes, false) => Encryption::Required,
    }
}

/// What is left of a wish on a transport.
pub(crate) fn over(wish: Encryption, transport: Transport) -> Result<Encryption, Exposed> {
    match (wish, transport) {
        (Encryption::Off, _) | (_, Transport::Tls) => Ok(wish),
        (Encryption::Preferred, Transport::Udp | Transport::Tcp) => Ok(Encryption::Off),
        (Encryption::Required, Transport::Udp | Transport::Tcp) => Err(Exposed),
    }
}

/// What a call's media is secured by, beside the descriptions.
#[derive(Debug)]
pub(crate) struct MediaSecurity {
    /// What the trunk asks for, whatever the transport.
    wish: Encryption,
    /// What is left of it on the transport spoken.
    pub(crate) encryption: Encryption,
    takes_ice: bool,
    random: ChaCha20Rng,
}

impl MediaSecurity {
    /// What this trunk's calls over this transport have. `random` makes keys and credentials and nothing else.
    pub(crate) fn new(trunk: &Trunk, transport: Transport, random: ChaCha20Rng) -> Self {
        let wish = wish(trunk);
        let encryption = over(wish, transport).unwrap_or(wish);
        Self { wish, encryption, takes_ice: trunk.ice_support, random }
    }

    /// Goes on over another transport.
    pub(crate) fn speak_over(&mut self, transport: Transport) -> Result<(), Exposed> {
        self.encryption = over(self.wish, transport)?;
        Ok(())
    }

    pub(crate) fn material(&mut self) -> KeyMaterial {
        let mut octets = [0; MASTER_OCTETS_MAX];
        self.random.fill_bytes(&mut octets);
        KeyMaterial(octets)
    }

    pub(crate) fn credentials(&mut self) -> Option<IceCredentials> {
        let mut octets = [0; CREDENTIAL_OCTETS];
        self.random.fill_bytes(&mut octets);
        self.takes_ice.then(|| IceCredentials::from_random(&octets))
    }
}

/// What to say of a peer's packets that do not open.
pub(crate) fn words_for(trouble: SecurityTrouble) -> &'static str {
    match trouble {
        SecurityTrouble::InTheClear => {
            "SRTP was agreed on, and the carrier sends plain RTP, which is not heard: let it encrypt what it agrees to, or set \
             media_encryption to no at both ends"
        }
        SecurityTrouble::Unauthentic => {
            "the carrier's SRTP packets do not match the key it sent, and are not heard: something between rewrote the media or \
             the a=crypto line; ask the carrier which key its media server uses"
        }
        SecurityTrouble::KeyExpired => {
            "the carrier's key was used for as many packets as its own a=crypto line allows, and what follows is not heard: let \
             it leave the lifetime out, or send a new key by re-INVITE in time"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_need_tls_and_a_trunk_that_requires_them_has_no_call_without() {
        use Encryption::{Off, Preferred, Required};
        for transport in [Transport::Udp, Transport::Tcp] {
            assert_eq!(over(Off, transport), Ok(Off));
            assert_eq!(over(Preferred, transport), Ok(Off));
            assert_eq!(over(Required, transport), Err(Exposed));
        }
        for wish in [Off, Preferred, Required] {
            assert_eq!(over(wish, Transport::Tls), Ok(wish));
        }
    }
}
