//! Stacks that nobody here wrote, encrypted: baresip over TLS with SDES, calling and called, and its ICE against ours.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_media::Law;
use tandem_server::tools::{measure, wav};
use tandem_tests::certificates::Authority;
use tandem_tests::product::{Product, Provisioned, free_port, ip_trunk};

use crate::baresip::{Heard, assert_the_echo_is_what_was_played, call_at, recording_in};
use crate::echo_agent::EchoAgent;
use crate::outbound::{Rig, Telephone};

const DID: &str = "+918047333333";

/// What baresip needs for SRTP.
const MODULES: &str = "module srtp.so\nmodule ice.so\n";

/// A server that takes TLS, its trunk, and how baresip calls it.
struct House {
    // Kept for the certificates in it.
    _folder: tempfile::TempDir,
    _agent: EchoAgent,
    product: Product,
    ids: Provisioned,
    place: String,
    more: String,
}

impl House {
    fn new(settings: &Value) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let authority = Authority::new("Telephones' authority");
        let trusted = authority.write(folder.path(), "ca");
        let files = authority.issue(folder.path(), "sip", &["127.0.0.1", "localhost"]);
        let agent = EchoAgent::start("asterisk", &[]);
        let product = Product::start_with(&files.table(port, ""));
        let mut trunk = ip_trunk("carrier", "127.0.0.1/32");
        for (name, value) in settings.as_object().expect("an object") {
            trunk[name] = value.clone();
        }
        let ids = product.provision(DID, &trunk, &json!({"url": agent.url(), "dialect": "asterisk"}));
        let place = format!("127.0.0.1:{port};transport=tls");
        let more = format!("{MODULES}sip_cafile {}\nsip_verify_server yes\n", trusted.display());
        Self { _folder: folder, _agent: agent, product, ids, place, more }
    }

    fn call(&self, played: &[i16], account: &str) -> Heard {
        call_at(&self.place, 6, played, &format!("audio_codecs=PCMU/8000/1;{account}"), &self.more)
    }

    fn media(&self) -> Value {
        let record = self.product.ended_calls(&self.ids.agent_id, 1).pop().expect("one call");
        assert_eq!(record["status"], "completed", "{record}");
        record["telephony_data"]["media"].clone()
    }
}

fn sdes(optimistic: bool) -> Value {
    json!({
        "transport": "transport-tls", "media_encryption": "sdes", "media_encryption_optimistic": optimistic,
    })
}

fn assert_echoed(played: &[i16], heard: &Heard) {
    let common = played.len().min(heard.samples.len()).saturating_sub(16_000);
    assert_the_echo_is_what_was_played(Law::Mulaw, &played[..common], &heard.samples, &heard.log);
}

fn assert_encrypted(media: &Value) {
    let suite = media["encryption"].as_str().unwrap_or_default();
    assert!(suite.starts_with("AES_CM_128_HMAC_SHA1"), "{media}");
    // It opens a NAT's way by RTCP before it has keys, and says goodbye when it has let them go; all else proves itself.
    assert!(media["rtcp_refused_in_the_clear"].as_u64().is_some_and(|count| count <= 2), "{media}");
    assert_eq!(media["packets_refused_unauthentic"], 0, "{media}");
    assert_eq!(media["packets_refused_in_the_clear"], 0, "{media}");
    assert!(media["packets_received"].as_u64().is_some_and(|count| count > 200), "{media}");
}

#[test]
fn baresip_that_requires_srtp_hears_its_own_voice_back() {
    let house = House::new(&sdes(false));
    let played = measure::melody(20_000);
    let heard = house.call(&played, "mediaenc=srtp-mand");
    assert_echoed(&played, &heard);
    assert_encrypted(&house.media());
}

/// `mediaenc=srtp` has keys below `RTP/AVP`: both sides encrypt where they can.
#[test]
fn baresip_that_encrypts_at_will_is_met_by_an_optimistic_trunk() {
    let house = House::new(&sdes(true));
    let played = measure::melody(20_000);
    let heard = house.call(&played, "mediaenc=srtp");
    assert_echoed(&played, &heard);
    assert_encrypted(&house.media());
}

#[test]
fn baresip_without_srtp_is_taken_in_the_clear_by_an_optimistic_trunk() {
    let house = House::new(&sdes(true));
    let played = measure::melody(20_000);
    let heard = house.call(&played, "");
    assert_echoed(&played, &heard);
    assert_eq!(house.media()["encryption"], Value::Null);
}

/// baresip's ICE checks, nominates, and only then sends.
#[test]
fn baresip_with_ice_is_answered_by_our_lite_side() {
    let house = House::new(&json!({"transport": "transport-tls", "ice_support": true}));
    let played = measure::melody(20_000);
    let heard = house.call(&played, "medianat=ice");
    assert_echoed(&played, &heard);
    let media = house.media();
    assert!(media["packets_received"].as_u64().is_some_and(|count| count > 100), "{media}");
    assert!(heard.log.contains("ice"), "{}", heard.log);
}

#[test]
fn baresip_is_called_with_srtp_required_and_at_will() {
    for (settings, account) in [(sdes(false), ";mediaenc=srtp-mand"), (sdes(true), ";mediaenc=srtp")] {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new("Carriers' authority");
        let trusted = authority.write(folder.path(), "ca");
        let files = authority.issue(folder.path(), "carrier", &["localhost"]);
        let read = |path: &Path| fs::read_to_string(path).expect("a file");
        let both = folder.path().join("both.pem");
        fs::write(&both, read(&files.private_key) + &read(&files.certificate)).expect("written");
        let played = measure::melody(20_000);
        let port = free_port();
        let more = format!("{MODULES}sip_certificate {}\n", both.display());
        let telephone = Telephone::waits_with(folder.path(), port, &played, &more, ";transport=tls", account);
        let mut trunk = settings.clone();
        trunk["gateways"] = json!([{"gateway_address": "localhost", "port": port + 1}]);
        let rig = Rig::with(&format!("[sip.tls]\ngateway_ca = {trusted:?}"), &[], &trunk, &[]);
        let id = rig.order();
        rig.until(&id, "in-progress");
        telephone.hears(Duration::from_secs(6));
        let (status, answer) = rig.product.post(&format!("/call/{id}/stop"), &json!({}));
        assert_eq!(status, 200, "{answer}");
        let record = rig.until(&id, "stopped");
        assert_encrypted(&record["telephony_data"]["media"]);
        let log = telephone.end();
        let recording = recording_in(folder.path()).unwrap_or_else(|| panic!("nothing was heard:\n{log}"));
        let samples = wav::read(&recording).expect("the recording");
        let common = played.len().min(samples.len()).saturating_sub(16_000);
        // The telephone talks as soon as it answers; what it says before the agent is there is in no echo.
        assert_the_echo_is_what_was_played(Law::Mulaw, &played[8_000..common], &samples, &log);
    }
}
