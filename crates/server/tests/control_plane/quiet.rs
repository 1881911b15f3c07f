//! Secrets are in no log line, however much is logged, and in no answer.

use std::cell::Cell;
use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use super::client::{Server, agent, ip_trunk};

/// Takes what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

thread_local! {
    /// Whether what this thread logs is looked at.
    static LISTENS: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn nothing_secret_is_logged_at_the_finest_level_or_answered() {
    let lines = Lines::default();
    // The subscriber is the process's, since what a thread's own one sees depends on which thread comes first to a
    // place that logs; it heeds this thread alone, on which everything below runs.
    LISTENS.set(true);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    let layer = layer.with_filter(dynamic_filter_fn(|_, _| LISTENS.get()));
    tracing_subscriber::registry().with(layer).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (answers, key) = runtime.block_on(traffic());
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("/sip-trunks/trunks"), "nothing was logged:\n{logged}");
    for secret in ["open sesame", "close sesame", "hush-hush", key.as_str()] {
        assert!(!logged.contains(secret), "{secret} is logged");
        assert!(!answers.contains(secret), "{secret} is answered");
    }
}

/// A bit of everything that handles secrets, refused requests too; what was answered, and the key that was used.
async fn traffic() -> (String, String) {
    let server = Server::start().await;
    let mut trunk = ip_trunk("a");
    trunk["auth_type"] = json!("userpass");
    trunk["auth_username"] = json!("alice");
    trunk["auth_password"] = json!("open sesame");
    let made = server.post("/sip-trunks/trunks", trunk.clone()).await;
    let path = format!("/sip-trunks/trunks/{}", made.body["id"].as_str().unwrap());
    let mut answers = vec![made];
    answers.push(server.post("/sip-trunks/trunks", trunk).await);
    answers.push(server.patch(&path, json!({"auth_password": "close sesame"})).await);
    answers.push(server.patch(&path, json!({"auth_password": "close sesame", "gateways": []})).await);
    answers.push(server.get("/sip-trunks/trunks").await);
    let agent_made = server.post("/v2/agent", agent()).await;
    answers.push(server.get(&format!("/v2/agent/{}", agent_made.body["agent_id"].as_str().unwrap())).await);
    answers.push(server.get("/v2/agent/all").await);
    let mut wrong = agent();
    wrong["websocket"]["dialect"] = json!("x");
    answers.push(server.post("/v2/agent", wrong).await);
    let texts: String = answers.iter().map(|answer| answer.text.as_str()).collect();
    (texts, server.key.clone())
}
