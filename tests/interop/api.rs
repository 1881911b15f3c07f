//! The API against programs that read its description: schemathesis, which sends what the description allows and
//! what it forbids, and a shell that runs the steps shown in the documentation.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tandem_tests::postgres::cluster;
use tandem_tests::product::{API_KEY, Product};

/// Seconds that each database is tried for.
const TRY_SECONDS: &str = "90";

/// Nobody is told to slow down: the tool would see little else. A refused key is answered with 401, as the tool's
/// check of keys expects; without this, as the vendor's live system does, with 403.
const UNHURRIED: [(&str, &str); 5] = [
    ("TANDEM__LIMITS__API_REQUESTS_PER_MINUTE", "1000000"),
    ("TANDEM__LIMITS__API_NARROW_PER_MINUTE", "1000000"),
    ("TANDEM__LIMITS__API_EXOTEL_PER_MINUTE", "1000000"),
    ("TANDEM__LIMITS__API_FAILURES_PER_MINUTE", "1000000"),
    ("TANDEM__API__AUTH_FAILURE_STATUS", "401"),
];

fn schemathesis() -> PathBuf {
    let peers = PathBuf::from(std::env::var_os("TANDEM_PEERS").expect("tests/run sets TANDEM_PEERS"));
    peers.join("schemathesis/bin/schemathesis")
}

/// Runs schemathesis over every operation with every check it has; panics with its report when one fails. What is
/// left out, and why, stands in `schemathesis.toml`.
fn assert_holds_what_it_describes(product: &Product) {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/schemathesis.toml");
    let run = Command::new(schemathesis())
        .arg("--config-file")
        .arg(configuration)
        .args(["run", &format!("http://{}/openapi.json", product.api)])
        .args(["-H", &format!("Authorization: Bearer {API_KEY}")])
        // A key that was revoked is still shown, with the time of it; what is deleted elsewhere has tests of its own.
        .args(["--exclude-checks", "use_after_free"])
        .args(["--checks", "all", "--max-time", TRY_SECONDS, "--seed", "1", "--no-color"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("schemathesis runs");
    let report = String::from_utf8_lossy(&run.stdout);
    let tail: Vec<&str> = report.lines().rev().take(200).collect();
    let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(run.status.success(), "{tail}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(report.contains("Test cases:"), "nothing was tried:\n{tail}");
}

#[test]
fn every_answer_is_as_described_on_sqlite() {
    assert_holds_what_it_describes(&Product::start_in(&UNHURRIED));
}

#[test]
fn every_answer_is_as_described_on_postgres() {
    let Some(cluster) = cluster() else { return };
    let database = cluster.database();
    let secret = "a".repeat(64);
    let own = [("TANDEM__STORE__URL", database.as_str()), ("TANDEM_SECRET_KEY", &secret)];
    let environment: Vec<(&str, &str)> = UNHURRIED.into_iter().chain(own).collect();
    assert_holds_what_it_describes(&Product::start_in(&environment));
}

#[test]
fn the_steps_of_the_documentation_run_as_they_are_shown() {
    let product = Product::start();
    let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/server/src/api/docs/first_trunk.sh");
    let mut shell = Command::new("bash")
        .args(["-euo", "pipefail"])
        .env("TANDEM", format!("http://{}", product.api))
        .env("KEY", API_KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let text = std::fs::read(steps).expect("the steps");
    shell.stdin.take().expect("piped").write_all(&text).expect("bash reads");
    let output = shell.wait_with_output().expect("bash ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let (_, trunks) = product.get("/sip-trunks/trunks");
    let number = &trunks[0]["phone_numbers"][0];
    assert_eq!(number["phone_number"], "+918047111111", "{trunks}");
    assert!(number["agent_id"].is_string(), "{trunks}");
}
