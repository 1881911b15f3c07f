//! Replays the fuzz corpora, found crashes among them, through the bodies of the fuzz targets.

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/sip.rs"]
mod sip;

use replay::replay;

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
