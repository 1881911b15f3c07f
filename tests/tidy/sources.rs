//! What the text of the sources must and must not hold.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::workspace;

const CORES: [&str; 4] = ["sip", "media", "agent", "call"];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The lines of a file that are neither comments nor part of its unit tests,
/// each with its number from 1.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let root = workspace();
    let mut silent = Vec::new();
    for folder in ["crates", "tests", "benches", "fuzz"] {
        for path in rust_files(&root.join(folder)) {
            let is_built = path.components().any(|part| part.as_os_str() == "target");
            let text = fs::read_to_string(&path).expect("a source file");
            if !is_built && !text.starts_with("//!") && !text.starts_with("#![no_main]\n//!") {
                silent.push(path.strip_prefix(&root).expect("inside").display().to_string());
            }
        }
    }
    assert!(silent.is_empty(), "files without an opening `//!`: {silent:#?}");
}

#[test]
fn cores_touch_no_clock_task_socket_or_global() {
    let forbidden = [
        "Instant::now",
        "SystemTime",
        "async fn",
        ".await;",
        ".await?",
        "tokio",
        "UdpSocket",
        "TcpStream",
        "thread::",
        "static mut",
        "OnceLock",
        "LazyLock",
        "Mutex",
        "std::fs",
        "std::env",
    ];
    let mut found = Vec::new();
    for core in CORES {
        for path in rust_files(&workspace().join("crates").join(core).join("src")) {
            let text = fs::read_to_string(&path).expect("a source file");
            for (number, line) in product_lines(&text) {
                for word in forbidden.iter().filter(|word| line.contains(**word)) {
                    // Tables computed once at first use are constants, not state.
                    let is_table = *word == "LazyLock" && path.ends_with("g711.rs");
                    if !is_table {
                        found.push(format!("{}:{number}: {word}", path.display()));
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "a core touches what only the shell may: {found:#?}");
}

#[test]
fn each_foreign_protocol_crate_is_named_in_one_room_only() {
    let rules = [
        ("rsip::", vec!["tests/"]),
        ("rtp::packet::", vec!["crates/media/src/rtp/"]),
        ("rtcp::", vec!["crates/media/src/rtp/"]),
        ("webrtc_sdp", vec!["crates/media/"]),
        ("dashmap", vec!["crates/server/"]),
    ];
    let root = workspace();
    for folder in CORES.iter().chain(&["server"]) {
        for path in rust_files(&root.join("crates").join(folder).join("src")) {
            let inside = path.strip_prefix(&root).expect("inside").display().to_string();
            let text = fs::read_to_string(&path).expect("a source file");
            for (number, line) in product_lines(&text) {
                for (name, homes) in &rules {
                    let names_it =
                        line.contains(&format!("use {name}")) || line.contains(&format!(" {name}"));
                    let is_home = homes.iter().any(|home| inside.starts_with(home));
                    assert!(!names_it || is_home, "{inside}:{number} names {name}; its home is {homes:?}");
                }
            }
        }
    }
}

#[test]
fn cores_carry_the_same_lint_file() {
    let read = |core: &str| {
        fs::read_to_string(workspace().join("crates").join(core).join("clippy.toml")).expect("a clippy.toml")
    };
    for core in CORES {
        assert_eq!(read(core), read("sip"), "clippy.toml of {core} differs from that of sip");
    }
}

/// What is routed past the description is in no documentation, and no test that reads it tries it.
#[test]
fn every_endpoint_of_the_api_is_described() {
    let api = workspace().join("crates/server/src/api");
    let mut bare = Vec::new();
    for path in rust_files(&api) {
        // The description itself, and the page made of it.
        if path.ends_with("openapi.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        let routed = product_lines(&text).filter(|(_, line)| line.contains(".route("));
        bare.extend(routed.map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim())));
    }
    assert!(bare.is_empty(), "use .routes(routes!(…)) over a #[utoipa::path]: {bare:#?}");
}

#[test]
fn nothing_half_done_is_left_in_the_sources() {
    let root = workspace();
    let words = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["#[ig", "nore"].concat()];
    for folder in ["crates", "tests", "benches"] {
        for path in rust_files(&root.join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file");
            for word in &words {
                assert!(!text.contains(word.as_str()), "{} holds {word}", path.display());
            }
        }
    }
}
