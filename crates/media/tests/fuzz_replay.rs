//! Replays the fuzz corpora, found crashes among them, through the bodies of the fuzz targets.

#![expect(clippy::unwrap_used, reason = "a test fails where it is wrong")]

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/media.rs"]
mod media;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 20, "{folder} has lost its seeds");
}

#[test]
fn descriptions() {
    replay("sdp", media::sdp);
}

#[test]
fn packets() {
    replay("rtp", media::rtp);
}
