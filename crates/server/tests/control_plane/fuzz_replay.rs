//! Replays the corpus of bodies, found crashes among them, through the body of the fuzz target.

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../../fuzz/src/api.rs"]
mod api;
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn bodies() {
    replay::replay("rest_body", api::rest_body);
}
