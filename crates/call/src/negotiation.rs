//! Offer and answer of one call: what was offered, what we last said, and what both agreed on.
//!
//! What it refuses to do: read or write SDP itself (`tandem_media::sdp` does), or know when a message may be sent (the
//! endpoint does). RFC 3264 sections 5 to 8, RFC 3261 sections 13.2.1 and 14, RFC 4568 section 7.1.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_media::ice::IceCredentials;
use tandem_media::sdp::{
    self, AnswerPolicy, Description, Encryption, MediaParameters, Offer, OfferPolicy, OfferedKeys,
    RefusedMedia, SdpError,
};
use tandem_media::srtp::{KeyMaterial, MasterKey, Suite};
use tandem_media::{Codec, Direction};
use tandem_sip::Transport;

use crate::encryption::{Exposed, MediaSecurity};
use crate::route::{KeyedAudio, OfferSummary};

/// The state of a call's descriptions.
#[derive(Debug)]
pub(crate) struct Negotiation {
    codecs: Vec<Codec>,
    session_id: u64,
    version: u64,
    local: Option<SocketAddr>,
    /// The INVITE's offer, until it is answered.
    invite_offer: Option<Offer>,
    /// Our latest description.
    last: Option<Bytes>,
    /// Our offer that awaits its answer in an ACK.
    pending: Option<Bytes>,
    agreed: Option<MediaParameters>,
    security: MediaSecurity,
    /// What our key is made of, as long as the peer keeps its own.
    material: KeyMaterial,
    /// Our ICE credentials, as long as the call lasts.
    ice: Option<IceCredentials>,
}

impl Negotiation {
    pub(crate) fn new(
        codecs: Vec<Codec>,
        session_id: u64,
        invite_offer: Option<Offer>,
        mut security: MediaSecurity,
    ) -> Self {
        Self {
            material: security.material(),
            ice: security.credentials(),
            security,
            codecs,
            session_id,
            version: 1,
            local: None,
            invite_offer,
            last: None,
            pending: None,
            agreed: None,
        }
    }

    /// Our RTP address as the caller is to see it.
    pub(crate) fn bind(&mut self, local: SocketAddr) {
        self.local = Some(local);
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What both sides agreed on last.
    pub(crate) fn agreed(&self) -> Option<&MediaParameters> {
        self.agreed.as_ref()
    }

    /// What answering the INVITE's offer will come to; `None` when it holds no offer. Our own address is not in it.
    pub(crate) fn preview(&self) -> Option<Result<MediaParameters, SdpError>> {
        let offer = self.invite_offer.as_ref()?;
        let policy = AnswerPolicy { address: UNBOUND, ..self.answer_policy() };
        Some(sdp::answer(offer, &policy).map(|(_, parameters)| parameters))
    }

    /// Goes to another gateway, by its transport: keys that one was offered are not offered to another.
    pub(crate) fn begin_attempt(&mut self, transport: Transport) -> Result<(), Exposed> {
        self.agreed = None;
        self.security.speak_over(transport)
    }

    /// Whether media is encrypted as agreed last.
    pub(crate) fn suite(&self) -> Option<Suite> {
        self.agreed.as_ref().and_then(|parameters| parameters.srtp).map(|keys| keys.suite())
    }

    /// The description for the 200 to the INVITE: the answer to its offer, or our offer when it had none.
    pub(crate) fn describe_answer(&mut self) -> Result<Bytes, SdpError> {
        match self.invite_offer.take() {
            Some(offer) => self.answer(&offer),
            None => Ok(self.offer()),
        }
    }

    /// Answers an offer within the dialog.
    pub(crate) fn answer_change(&mut self, body: &[u8]) -> Result<Bytes, SdpError> {
        let offer = Offer::parse(body)?;
        self.answer(&offer)
    }

    fn answer_policy(&self) -> AnswerPolicy {
        AnswerPolicy {
            encryption: self.security.encryption,
            key: self.material.clone(),
            ice: self.ice,
            ..AnswerPolicy::new(self.codecs.clone(), self.address(), self.session_id, self.version)
        }
    }

    fn answer(&mut self, offer: &Offer) -> Result<Bytes, SdpError> {
        let mut policy = self.answer_policy();
        let (mut text, mut parameters) = sdp::answer(offer, &policy)?;
        let keys = |media: &MediaParameters| media.srtp.map(|keys| keys.remote);
        if self.agreed.as_ref().and_then(keys).is_some_and(|before| Some(before) != keys(&parameters)) {
            // RFC 4568 section 7.1.4: a peer with a new key may be another that knows nothing of our counters, so that it
            // gets a new one of ours, whose counters are zero.
            self.material = self.security.material();
            policy.key = self.material.clone();
            (text, parameters) = sdp::answer(offer, &policy)?;
        }
        // RFC 3264 section 8: "If the version in the origin line does not increment, the SDP MUST be identical to the SDP
        // with that version number."
        if self.last.as_ref().is_some_and(|last| *last != text) {
            self.version += 1;
            policy.version = self.version;
            text = sdp::answer(offer, &policy)?.0;
        }
        self.last = Some(text.clone());
        self.agreed = Some(parameters);
        Ok(text)
    }

    /// An offer of ours: for an INVITE or re-INVITE that brought none. Its answer comes in the ACK.
    pub(crate) fn offer(&mut self) -> Bytes {
        let mut policy = OfferPolicy::new(self.codecs.clone(), self.address(), self.session_id, self.version);
        (policy.before, policy.after) = self.refused_sections();
        policy.keys = self.offered_keys();
        let mut text = sdp::offer(&policy);
        if self.last.as_ref().is_some_and(|last| *last != text) {
            self.version += 1;
            policy.version = self.version;
            text = sdp::offer(&policy);
        }
        self.last = Some(text.clone());
        self.pending = Some(text.clone());
        text
    }

    /// A key for each suite when nothing is agreed on yet; later the one that is in use, or none where none is.
    fn offered_keys(&mut self) -> OfferedKeys {
        let may_be_left_out = self.security.encryption != Encryption::Required;
        let keys = match (self.security.encryption, &self.agreed) {
            (Encryption::Off, _) => Vec::new(),
            (_, Some(agreed)) => agreed.srtp.iter().map(|keys| keys.local).collect(),
            (_, None) => Suite::ALL.map(|suite| MasterKey::ours(suite, &self.security.material())).to_vec(),
        };
        OfferedKeys { keys, may_be_left_out }
    }

    /// Whether an answer is due in the next ACK.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes the answer to our offer.
    pub(crate) fn take_answer(&mut self, answer: &[u8]) -> Result<MediaParameters, SdpError> {
        let offer = self.pending.take().ok_or(SdpError::NotSdp)?;
        let parameters = sdp::accept_answer(&offer, answer)?;
        if let Some(keys) = &parameters.srtp {
            self.material = KeyMaterial::of(&keys.local);
        }
        self.agreed = Some(parameters);
        Ok(parameters)
    }

    /// Whether the caller hears us not and is not heard: on hold, no audio is to be expected.
    pub(crate) fn is_on_hold(&self) -> bool {
        self.agreed.as_ref().is_some_and(|parameters| match parameters.direction {
            Direction::SendRecv | Direction::RecvOnly => false,
            Direction::SendOnly | Direction::Inactive => true,
        })
    }

    fn address(&self) -> SocketAddr {
        self.local.unwrap_or(UNBOUND)
    }

    /// RFC 3264 section 8: "if the previous SDP contained N "m=" lines, the new SDP MUST contain at least N "m=" lines":
    /// those of our last description that are not its audio, switched off.
    fn refused_sections(&self) -> (Vec<RefusedMedia>, Vec<RefusedMedia>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let Some(last) = self.last.as_ref().and_then(|last| Description::parse(last).ok()) else {
            return (before, after);
        };
        let audio = last.sections().iter().position(|section| section.port != 0);
        for (index, section) in last.sections().iter().enumerate() {
            if Some(index) == audio {
                continue;
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let refused = RefusedMedia {
                media: text(&section.media),
                protocol: text(&section.protocol),
                formats: section.formats.iter().map(|format| text(format)).collect::<Vec<_>>().join(" "),
            };
            if audio.is_none_or(|audio| index < audio) {
                before.push(refused);
            } else {
                after.push(refused);
            }
        }
        (before, after)
    }
}

/// Stands where our address is not known yet and does not matter.
const UNBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

fn trial(offer: &Offer, codec: Codec, encryption: Encryption) -> Result<(Bytes, MediaParameters), SdpError> {
    sdp::answer(offer, &AnswerPolicy { encryption, ..AnswerPolicy::new(vec![codec], UNBOUND, 1, 1) })
}

/// Reads the body of an INVITE: what routing wants to know of it, and the offer itself when it can be taken.
pub(crate) fn read_offer(body: &[u8]) -> (OfferSummary, Option<Offer>) {
    if body.is_empty() {
        return (OfferSummary::Absent, None);
    }
    let unacceptable =
        |error: SdpError| OfferSummary::Unacceptable { status: error.sip_status(), why: error.to_string() };
    let offer = match Offer::parse(body) {
        Ok(offer) => offer,
        Err(error) => return (unacceptable(error), None),
    };
    let (mut codecs, mut is_plain) = (SmallVec::new(), true);
    for codec in Codec::ALL {
        match trial(&offer, codec, Encryption::Off) {
            Ok(_) => codecs.push(codec),
            Err(SdpError::NoCommonCodec) => {}
            Err(SdpError::EncryptionRequired) => is_plain = false,
            Err(error) => return (unacceptable(error), None),
        }
    }
    let keyed = keyed_audio(&offer);
    (OfferSummary::Audio { codecs, is_plain, keyed }, Some(offer))
}

fn keyed_audio(offer: &Offer) -> KeyedAudio {
    let mut codecs = SmallVec::new();
    for codec in Codec::ALL {
        match trial(offer, codec, Encryption::Required) {
            Ok(_) => codecs.push(codec),
            Err(SdpError::NoCommonCodec) => {}
            Err(SdpError::EncryptionMissing) => return KeyedAudio::Absent,
            Err(error) => return KeyedAudio::Unusable(error.to_string()),
        }
    }
    KeyedAudio::Usable(codecs)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::table::{MediaEncryption, Trunk};

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

    #[test]
    fn the_version_rises_with_each_description_that_differs_and_with_no_other() {
        let mut negotiation = bound(Offer::parse(OFFER.as_bytes()).ok());
        let first = text(&negotiation.describe_answer().unwrap());
        assert!(first.contains("o=- 77 1 "), "{first}");
        let same = text(&negotiation.answer_change(OFFER.as_bytes()).unwrap());
        assert_eq!(same, first);
        let held = OFFER.to_owned() + "a=sendonly\r\n";
        let hold = text(&negotiation.answer_change(held.as_bytes()).unwrap());
        assert!(hold.contains("o=- 77 2 ") && hold.contains("a=recvonly"), "{hold}");
        let resumed = text(&negotiation.answer_change(OFFER.as_bytes()).unwrap());
        assert!(resumed.contains("o=- 77 3 "), "{resumed}");
        assert!(!negotiation.is_on_hold());
    }

    #[test]
    fn an_offer_of_ours_never_has_fewer_sections_than_before() {
        let offer = OFFER.to_owned() + "m=image 5000 udptl t38\r\n";
        let mut negotiation = bound(Offer::parse(offer.as_bytes()).ok());
        let answer = text(&negotiation.describe_answer().unwrap());
        assert_eq!(answer.matches("m=").count(), 2, "{answer}");
        let own = text(&negotiation.offer());
        assert_eq!(own.matches("m=").count(), 2, "{own}");
        assert!(own.contains("m=image 0 udptl t38"), "{own}");
        assert!(negotiation.awaits_answer());
        let answered = OFFER.to_owned() + "m=image 0 udptl t38\r\n";
        let parameters = negotiation.take_answer(answered.as_bytes()).unwrap();
        assert_eq!(parameters.remote, "192.0.2.1:4000".parse().unwrap());
        assert!(negotiation.take_answer(answered.as_bytes()).is_err(), "one answer to one offer");
    }

    #[test]
    fn offers_are_summed_up_for_routing() {
        let summary = |body: &str| read_offer(body.as_bytes()).0;
        let OfferSummary::Audio { codecs, is_plain, keyed } = summary(OFFER) else {
            panic!("audio is offered")
        };
        assert_eq!((codecs.len(), is_plain, keyed), (2, true, KeyedAudio::Absent));
        assert_eq!(summary(""), OfferSummary::Absent);
        let refused = |body: &str| match summary(body) {
            OfferSummary::Unacceptable { status, .. } => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("hello"), 400);
        assert_eq!(refused(&OFFER.replace("m=audio 4000 RTP/AVP", "m=image 4000 udptl")), 488);
        let foreign = OFFER.replace("8 0 101", "18 101");
        let none = SmallVec::new;
        let audio = |is_plain, keyed| OfferSummary::Audio { codecs: none(), is_plain, keyed };
        assert_eq!(summary(&foreign), audio(true, KeyedAudio::Absent));
        let secure = OFFER.replace("RTP/AVP", "RTP/SAVP");
        let keyless = SdpError::KeysMissing.to_string();
        assert_eq!(summary(&secure), audio(false, KeyedAudio::Unusable(keyless)));
        let both: SmallVec<[Codec; 3]> = [Codec::PCMU, Codec::PCMA].into_iter().collect();
        assert_eq!(summary(&(secure + CRYPTO)), audio(false, KeyedAudio::Usable(both)));
    }

    const CRYPTO: &str =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n";

    fn secured(offer: Option<Offer>, encryption: Encryption) -> Negotiation {
        let mut trunk = Trunk::new("t", "a", "t");
        if encryption != Encryption::Off {
            trunk.media_encryption = MediaEncryption::Sdes;
            trunk.media_encryption_optimistic = encryption == Encryption::Preferred;
        }
        let security = MediaSecurity::new(&trunk, Transport::Tls, ChaCha20Rng::seed_from_u64(1));
        let mut negotiation = Negotiation::new(vec![Codec::PCMU, Codec::PCMA], 77, offer, security);
        negotiation.bind("203.0.113.1:20000".parse().unwrap());
        negotiation
    }

    fn our_line(text: &str) -> &str {
        text.lines().find(|line| line.starts_with("a=crypto")).unwrap()
    }

    #[test]
    fn our_key_stays_as_long_as_the_peers_and_is_the_one_that_was_foreseen() {
        let offer = OFFER.replace("RTP/AVP", "RTP/SAVP") + CRYPTO;
        let mut negotiation = secured(Offer::parse(offer.as_bytes()).ok(), Encryption::Required);
        let foreseen = negotiation.preview().unwrap().unwrap().srtp.unwrap();
        let first = text(&negotiation.describe_answer().unwrap());
        assert_eq!(negotiation.agreed().unwrap().srtp, Some(foreseen));
        let held = text(&negotiation.answer_change((offer.clone() + "a=sendonly\r\n").as_bytes()).unwrap());
        assert_eq!(our_line(&held), our_line(&first));
        let rekeyed = offer.replace("WVNf", "AAAA");
        let rekeyed = text(&negotiation.answer_change(rekeyed.as_bytes()).unwrap());
        assert_ne!(our_line(&rekeyed), our_line(&first));
        let own = text(&negotiation.offer());
        assert!(own.contains("RTP/SAVP"), "{own}");
        assert_eq!(own.matches("a=crypto").count(), 1, "{own}");
        assert_eq!(our_line(&own), our_line(&rekeyed));
        let clear = negotiation.answer_change(OFFER.as_bytes());
        assert_eq!(clear.unwrap_err(), SdpError::EncryptionMissing);
    }

    #[test]
    fn each_gateway_is_offered_keys_of_its_own_and_none_in_the_clear() {
        for (encryption, protocol) in [(Encryption::Preferred, "RTP/AVP"), (Encryption::Required, "RTP/SAVP")]
        {
            let mut negotiation = secured(None, encryption);
            negotiation.begin_attempt(Transport::Tls).unwrap();
            let first = text(&negotiation.offer());
            assert!(first.contains(&format!("m=audio 20000 {protocol} ")), "{first}");
            assert_eq!(first.matches("a=crypto").count(), Suite::ALL.len());
            negotiation.begin_attempt(Transport::Tls).unwrap();
            let second = text(&negotiation.offer());
            assert!(
                first.lines().filter(|line| line.starts_with("a=crypto")).all(|line| !second.contains(line))
            );
            let exposed = negotiation.begin_attempt(Transport::Udp);
            assert_eq!(exposed.is_err(), encryption == Encryption::Required);
            if exposed.is_ok() {
                assert!(!text(&negotiation.offer()).contains("crypto"));
            }
        }
    }

    fn bound(offer: Option<Offer>) -> Negotiation {
        let mut negotiation = secured(offer, Encryption::Off);
        negotiation.bind("203.0.113.1:20000".parse().unwrap());
        negotiation
    }

    fn text(bytes: &Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}
