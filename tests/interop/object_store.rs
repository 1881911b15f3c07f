//! Recordings in an object store that speaks S3: moto's server, which `tests/run` installs.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tandem_server::tools::measure;
use tandem_tests::awaited;
use tandem_tests::product::{Product, free_port, ip_trunk};

use crate::baresip;
use crate::echo_agent::EchoAgent;

const DID: &str = "+918047333333";

/// moto gives an object only to who signs, and does not look at who that is.
const WHOEVER: &str =
    "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// moto's server with one bucket; dropping it ends it.
struct ObjectStore {
    child: Child,
    port: u16,
}

impl ObjectStore {
    fn start() -> Self {
        let port = free_port();
        let peers = std::env::var("TANDEM_PEERS").expect("tests/run names the folder of peers");
        let child = Command::new(Path::new(&peers).join("moto/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto starts; tests/run installs it");
        let store = Self { child, port };
        awaited::until(
            Duration::from_secs(60),
            || "the object store makes no bucket".to_owned(),
            || (store.ask("PUT", "/calls").0 == 200).then_some(()),
        );
        store
    }

    /// Status and body of a request.
    fn ask(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header("authorization", WHOEVER)
            .body(())
            .expect("a request");
        match agent.run(request) {
            Ok(mut response) => {
                let body = response.body_mut().read_to_vec().expect("a body that ends");
                (response.status().as_u16(), body)
            }
            Err(_) => (0, Vec::new()),
        }
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call of baresip, recorded, goes to the bucket and comes back from it, and what is in it is what was said and heard.
#[test]
fn a_telephones_call_is_recorded_into_the_object_store_and_read_back() {
    let (objects, agent) = (ObjectStore::start(), EchoAgent::start("asterisk", &[]));
    let product = Product::start_with(&format!(
        "[recording]\nkeep = \"s3\"\n[recording.s3]\nendpoint = \"http://127.0.0.1:{}\"\nbucket = \"calls\"\n\
         prefix = \"tandem/\"\naccess_key = \"key\"\nsecret_key = \"secret\"\n",
        objects.port
    ));
    let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
    let ids = product.provision(DID, &ip_trunk("carrier", "127.0.0.1/32"), &websocket);
    let path = format!("/v2/agent/{}", ids.agent_id);
    assert_eq!(product.request("PATCH", &path, Some(&json!({"recording": {"format": "wav"}}))).0, 200);
    let played = measure::melody(6_000);
    let heard = baresip::call(&product, 8, &played, "audio_codecs=PCMU/8000/1", "");
    let call = product.ended_calls(&ids.agent_id, 1).remove(0);
    let id = call["id"].as_str().expect("an id").to_owned();
    let key = format!("/calls/tandem/default/{id}.wav");
    awaited::until(
        Duration::from_secs(20),
        || format!("nothing in the bucket:\n{}", product.log()),
        || (objects.ask("GET", &key).0 == 200).then_some(()),
    );
    let place = product.folder().join(format!("recordings/default/{id}.wav"));
    awaited::until(
        Duration::from_secs(10),
        || "the file stays behind".to_owned(),
        || (!place.exists()).then_some(()),
    );
    let (status, wav) = product.bytes(&format!("/recordings/call/{id}"));
    assert_eq!((status, &wav), (200, &objects.ask("GET", &key).1));

    // sox is another reader of WAV, and tells the sides apart.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording.wav");
    fs::write(&file, wav).expect("written");
    let side = |channel: &str| {
        let output = Command::new("sox")
            .arg(&file)
            .args(["-t", "raw", "-e", "signed", "-b", "16", "-", "remix", channel])
            .output()
            .expect("sox runs; tests/run installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
    };
    let (caller, agent) = (side("1"), side("2"));
    assert_eq!(caller.len(), agent.len());
    let common = played.len().min(caller.len()).saturating_sub(8_000);
    let law = tandem_media::Law::Mulaw;
    baresip::assert_the_echo_is_what_was_played(law, &played[..common], &caller, "the caller's side");
    baresip::assert_the_echo_is_what_was_played(law, &played[..common], &agent, &heard.log);

    assert_eq!(product.request("DELETE", &format!("/recordings/call/{id}"), None).0, 204);
    assert_eq!(objects.ask("GET", &key).0, 404);
}
