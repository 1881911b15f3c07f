//! Replays the fuzz corpora, found crashes among them, through the bodies of the fuzz targets.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/sip.rs"]
mod sip;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{folder} has lost its seeds");
}

#[test]
fn datagrams() {
    replay("sip_datagram", sip::sip_datagram);
}

#[test]
fn streams() {
    replay("sip_stream", sip::sip_stream);
}

#[test]
fn digests() {
    replay("digest", sip::digest);
}
