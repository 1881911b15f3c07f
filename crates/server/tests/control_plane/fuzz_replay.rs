//! Replays the corpus of bodies, found crashes among them, through the body of the fuzz target.

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../../fuzz/src/api.rs"]
mod api;

#[test]
fn bodies() {
    let folder = format!("{}/../../fuzz/corpus/rest_body", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        api::rest_body(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{folder} has lost its seeds");
}
