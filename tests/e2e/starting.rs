//! What keeps the server from starting, and how it says so.

use std::{
    net::UdpSocket,
    process::{Command, Output},
};

use tandem_tests::product::{binary, free_port};

fn serve(configuration: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, configuration).expect("written");
    Command::new(binary())
        .args(["serve", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .env("TANDEM_API_KEY", "bn-test-key-0123456789")
        .output()
        .expect("the binary runs")
}

fn configuration(sip: u16, more: &str) -> String {
    format!(
        "[sip]\nudp = [\"127.0.0.1:{sip}\"]\ntcp = []\n{more}\n[api]\nlisten = \"127.0.0.1:{}\"\n\
         [store]\nurl = \"sqlite:tandem.db\"\n",
        free_port()
    )
}

#[test]
fn a_port_in_use_says_which_and_by_whom() {
    let held = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("bound").port();
    let output = serve(&configuration(port, ""));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&format!("UDP 127.0.0.1:{port} cannot be opened")), "{text}");
    assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
}

#[test]
fn tls_listeners_are_refused_in_plain_words() {
    let more = "[sip.tls]\nlisten = [\"127.0.0.1:5061\"]\ncertificate = \"a.pem\"\nprivate_key = \"b.pem\"";
    let output = serve(&configuration(free_port(), more));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("TLS"), "{text}");
}
