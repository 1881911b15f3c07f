//! Dependencies point one way: `server -> call -> {sip, media, agent}`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The folder that holds the workspace manifest.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// What `cargo metadata` says of the workspace and everything it is built from.
pub(crate) fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        // What other platforms would need has not been downloaded by the build.
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "host-tuple",
        ])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn rooms_named_by(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let found = packages.iter().find(|entry| entry["name"] == package);
    let found = found.unwrap_or_else(|| panic!("no package {package}"));
    found["dependencies"]
        .as_array()
        .expect("dependencies")
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn rooms_depend_in_one_direction_only() {
    let metadata = metadata();
    let allowed: [(&str, &[&str]); 5] = [
        ("tandem-sip", &[]),
        ("tandem-media", &[]),
        ("tandem-agent", &[]),
        ("tandem-call", &["tandem-sip", "tandem-media", "tandem-agent"]),
        ("tandem-server", &["tandem-sip", "tandem-media", "tandem-agent", "tandem-call"]),
    ];
    for (room, may_name) in allowed {
        for dependency in rooms_named_by(&metadata, room) {
            let is_room = dependency.starts_with("tandem-");
            assert!(
                !is_room || may_name.contains(&dependency.as_str()),
                "{room} depends on {dependency}, which design says it must not"
            );
        }
    }
}

#[test]
fn cores_name_no_runtime_socket_or_database_crate() {
    let metadata = metadata();
    let forbidden = ["tokio", "mio", "axum", "sqlx", "hyper", "socket2", "dashmap", "tungstenite", "rand"];
    for core in ["tandem-sip", "tandem-media", "tandem-agent", "tandem-call"] {
        let named = rooms_named_by(&metadata, core);
        for name in forbidden {
            assert!(!named.contains(name), "{core} is a core and must not depend on {name}");
        }
    }
}
