//! Replays the fuzz corpora, found crashes among them, through the bodies of the fuzz targets; and throws mutated
//! seeds at them, so that a change that breaks a dialect shows without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/agent.rs"]
mod agent;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{folder} has lost its seeds");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn replay(target: &str, check: fn(&[u8])) {
    let mut random = Random(1);
    for seed in seeds(target) {
        check(&seed);
        for _ in 0..200 {
            check(&random.mutate(&seed));
        }
    }
}

#[test]
fn asterisk() {
    replay("agent_asterisk", agent::agent_asterisk);
}

#[test]
fn twilio() {
    replay("agent_twilio", agent::agent_twilio);
}

#[test]
fn bolna() {
    replay("agent_bolna", agent::agent_bolna);
}

struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % bound.max(1)
    }

    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, b"\"{}[]\\:,0 \xff\x1e"[self.below(12)]),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    }
}
