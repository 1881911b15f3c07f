//! SIP over TLS: calls, whom is trusted, certificates that change while the server runs, connections that go nowhere.

use std::{
    io::Read,
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use tandem_tests::{
    awaited,
    certificates::Authority,
    product::{binary, free_port},
};

use crate::{DID, agent::Agent, product_with, text};

/// Calls by `tandem call` over TLS, trusting this authority, if any, beside the machine's.
fn call(port: u16, host: &str, authority: Option<&Path>) -> Output {
    let mut command = Command::new(binary());
    command.args(["call", &format!("sip:{DID}@{host}:{port}"), "--transport", "tls", "--duration", "1"]);
    if let Some(authority) = authority {
        command.arg("--ca").arg(authority);
    }
    command.output().expect("the test caller runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_call_comes_over_tls_and_goes_both_ways_on_its_connection() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let authority = Authority::new("Carriers' authority");
    let trusted = authority.write(folder.path(), "ca");
    let files = authority.issue(folder.path(), "sip", &["127.0.0.1", "localhost"]);
    let (product, provisioned) = product_with(&Agent::echo(), &files.table(port, ""));
    for host in ["127.0.0.1", "localhost"] {
        let output = call(port, host, Some(&trusted));
        assert!(output.status.success(), "{}", said(&output));
    }
    let calls = product.ended_calls(&provisioned.agent_id, 2);
    assert!(calls.iter().all(|call| text(call, "status") == "completed"), "{calls:?}");
    let (_, connection) = product.get("/v1/connection");
    assert!(
        connection["tls_certificate_sha256"].as_str().is_some_and(|hash| hash.len() == 95),
        "{connection}"
    );
    // Who does not trust the authority places no call.
    let output = call(port, "127.0.0.1", None);
    assert!(!output.status.success() && said(&output).contains("UnknownIssuer"), "{}", said(&output));
}

/// The server proves its name anew with each connection: a renewed certificate needs no restart, and one that cannot be
/// used leaves the one before in place.
#[test]
fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let trusted = after.write(folder.path(), "after");
    let files = before.issue(folder.path(), "sip", &["127.0.0.1"]);
    let (product, _) = product_with(&Agent::echo(), &files.table(port, ""));
    assert!(!call(port, "127.0.0.1", Some(&trusted)).status.success(), "it is not the new one yet");
    let _ = after.issue(folder.path(), "sip", &["127.0.0.1"]);
    until("the new certificate serves", || call(port, "127.0.0.1", Some(&trusted)).status.success());
    std::fs::write(&files.certificate, "no certificate").expect("written");
    until("the broken file is told of", || product.log().contains("the one before stays in use"));
    let output = call(port, "127.0.0.1", Some(&trusted));
    assert!(output.status.success(), "{}", said(&output));
}

/// With `client_ca` only carriers with a certificate of that authority get as far as SIP. The second opinion is
/// OpenSSL's.
#[test]
fn carriers_without_the_certificate_that_is_asked_for_get_no_answer() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let authority = Authority::new("Carriers' authority");
    let trusted = authority.write(folder.path(), "ca");
    let files = authority.issue(folder.path(), "sip", &["127.0.0.1"]);
    let carrier = authority.issue(folder.path(), "carrier", &["carrier.example"]);
    let table = files.table(port, &format!("client_ca = {trusted:?}"));
    let (product, _) = product_with(&Agent::echo(), &table);
    let ask = |more: &[&str]| {
        let options = "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK-t1;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: t1\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n";
        let mut client = Command::new("timeout")
            .args(["3", "openssl", "s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-CAfile"])
            .arg(&trusted)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let mut input = client.stdin.take().expect("piped");
        // A handshake that was refused may have ended it already.
        let _ = std::io::Write::write_all(&mut input, options.as_bytes());
        let mut answer = [0; 12];
        let mut output = client.stdout.take().expect("piped");
        let read = output.read_exact(&mut answer).is_ok();
        let _ = client.kill();
        let _ = client.wait();
        read && answer == *b"SIP/2.0 200 "
    };
    let (certificate, key) =
        (carrier.certificate.display().to_string(), carrier.private_key.display().to_string());
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(ask(&[version, "-cert", &certificate, "-key", &key]), "{version} with the certificate");
        assert!(!ask(&[version]), "{version} without");
    }
    assert!(product.metric("tandem_sip_tls_handshakes_failed_total", "") >= 2.0);
}

/// Hundreds of connections that never finish their handshake cost a place for a while, and hinder nobody.
#[test]
fn handshakes_that_never_end_leave_others_answered() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let authority = Authority::new("Carriers' authority");
    let trusted = authority.write(folder.path(), "ca");
    let files = authority.issue(folder.path(), "sip", &["127.0.0.1"]);
    let (product, _) = product_with(&Agent::echo(), &files.table(port, ""));
    let mut idle = Vec::new();
    for source in 2..12_u8 {
        for _ in 0..30 {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket
                .bind(&std::net::SocketAddr::from(([127, 0, 0, source], 0)).into())
                .expect("loopback is wide");
            socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("accepted");
            let mut stream = TcpStream::from(socket);
            // The first bytes of a ClientHello, and no more.
            let _ = std::io::Write::write_all(&mut stream, &[0x16, 0x03, 0x01, 0x02, 0x00]);
            idle.push(stream);
        }
    }
    let output = call(port, "127.0.0.1", Some(&trusted));
    assert!(output.status.success(), "{}", said(&output));
    let counted = || product.metric("tandem_sip_tls_handshakes_failed_total", "");
    until("the idle ones are let go", || counted() >= 150.0);
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        // An alert may come first.
        while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    }
}

/// What is wrong with the files is said at the start, with the key of the configuration.
#[test]
fn files_that_will_not_do_are_named_by_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("a");
    let files = authority.issue(folder.path(), "sip", &["127.0.0.1"]);
    let other = authority.issue(folder.path(), "other", &["127.0.0.1"]);
    let port = free_port();
    let check = |certificate: &Path, key: &Path| {
        let file = folder.path().join("tandem.toml");
        let text = format!(
            "[sip]\nudp = [\"127.0.0.1:{}\"]\ntcp = []\n[sip.tls]\nlisten = [\"127.0.0.1:{port}\"]\n\
             certificate = {certificate:?}\nprivate_key = {key:?}\n[store]\nurl = \"sqlite:{}\"\n",
            free_port(),
            folder.path().join("tandem.db").display(),
        );
        std::fs::write(&file, text).expect("written");
        let output =
            Command::new(binary()).args(["check", "--config"]).arg(&file).output().expect("check runs");
        said(&output)
    };
    let good = check(&files.certificate, &files.private_key);
    assert!(good.contains("its certificates can be used"), "{good}");
    for (certificate, key, words) in [
        (
            files.certificate.clone(),
            other.private_key,
            "sip.tls.private_key does not go with sip.tls.certificate",
        ),
        (folder.path().join("none.crt"), files.private_key.clone(), "cannot be read"),
        (files.private_key.clone(), files.private_key, "holds no certificate"),
    ] {
        let told = check(&certificate, &key);
        assert!(told.contains(words) && told.contains("sip.tls"), "{words}: {told}");
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    awaited::until(Duration::from_secs(40), || what.to_owned(), || is_so().then_some(()));
}
