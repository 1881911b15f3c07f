//! Replays a target's corpus, found crashes among it, through the target's body: for the tests of the rooms, which
//! include this file. It needs no fuzzer and names no room.

/// A corpus with fewer seeds has lost some.
const SEEDS_MIN: usize = 10;

/// Gives every seed of the target's corpus to `check`, in the order of their names. Each is named before, so that the
/// last name printed tells which one failed.
///
/// # Panics
/// When the corpus is not there, or has lost its seeds.
pub fn replay(target: &str, mut check: impl FnMut(&[u8])) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= SEEDS_MIN, "{folder} has lost its seeds");
    for path in paths {
        println!("{}", path.display());
        check(&std::fs::read(path).expect("a seed"));
    }
}
