//! What keeps the server from starting, and how it says so.

use std::{
    net::{TcpListener, UdpSocket},
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
    assert_eq!(text.matches("in use").count(), 1, "said once: {text}");
}

#[test]
fn a_tcp_port_in_use_says_which_and_by_whom() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("bound");
    let text =
        format!("[sip]\nudp = []\ntcp = [\"{address}\"]\n[api]\nlisten = \"127.0.0.1:{}\"\n", free_port());
    let output = serve(&text);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&format!("TCP {address} cannot be opened")), "{text}");
    assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
}

#[test]
fn a_mistyped_key_names_its_neighbour() {
    let output = serve("[sip]\nupd = [\"127.0.0.1:5060\"]\n");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("sip.upd") && text.contains("udp"), "{text}");
}

#[test]
fn certificates_that_cannot_be_read_are_named_at_the_start() {
    let more = "[sip.tls]\nlisten = [\"127.0.0.1:5061\"]\ncertificate = \"a.pem\"\nprivate_key = \"b.pem\"";
    let output = serve(&configuration(free_port(), more));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("sip.tls.certificate a.pem cannot be read"), "{text}");
}
