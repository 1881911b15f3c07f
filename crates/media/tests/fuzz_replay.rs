//! Replays the fuzz corpora, found crashes among them, through the bodies of the fuzz targets.

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/media.rs"]
mod media;
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn descriptions() {
    replay("sdp", media::sdp);
}

#[test]
fn encrypted_packets() {
    replay("srtp", media::srtp);
}

#[test]
fn checks_of_ice() {
    replay("stun", media::stun);
}

#[test]
fn packets() {
    replay("rtp", media::rtp);
}
