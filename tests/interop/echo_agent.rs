//! The product's own test agent as a process beside the server.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tandem_tests::product::{binary, free_port};

/// A running `tandem agent`; dropping it ends its process.
pub(crate) struct EchoAgent {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl EchoAgent {
    /// Starts an agent that echoes in this dialect.
    pub(crate) fn start(dialect: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let port = free_port();
        let child = Command::new(binary())
            .args(["agent", "--dialect", dialect, "--listen", &format!("127.0.0.1:{port}")])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        let agent = Self { child, port, folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !agent.log().contains("ws://") {
            assert!(Instant::now() < deadline, "the agent does not listen: {}", agent.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        agent
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/call/{{execution_id}}", self.port)
    }

    /// What it printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for EchoAgent {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
