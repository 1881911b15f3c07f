//! Replays the fuzz corpora, found crashes among them, through the bodies of the fuzz targets; and throws mutated
//! seeds at them, so that a change that breaks a dialect shows without a fuzzer.

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/agent.rs"]
mod agent;
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

fn replay(target: &str, check: fn(&[u8])) {
    let mut random = Random(1);
    replay::replay(target, |seed| {
        check(seed);
        for _ in 0..200 {
            check(&random.mutate(seed));
        }
    });
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

#[test]
fn plivo() {
    replay("agent_plivo", agent::agent_plivo);
}

#[test]
fn vobiz() {
    replay("agent_vobiz", agent::agent_vobiz);
}

#[test]
fn exotel() {
    replay("agent_exotel", agent::agent_exotel);
}

#[test]
fn telnyx() {
    replay("agent_telnyx", agent::agent_telnyx);
}

#[test]
fn vonage() {
    replay("agent_vonage", agent::agent_vonage);
}

#[test]
fn genesys() {
    replay("agent_genesys", agent::agent_genesys);
}

#[test]
fn jambonz() {
    replay("agent_jambonz", agent::agent_jambonz);
}

#[test]
fn audiosocket() {
    replay("agent_audiosocket", agent::agent_audiosocket);
}

#[test]
fn openai_realtime() {
    replay("agent_openai_realtime", agent::agent_openai_realtime);
}

#[test]
fn elevenlabs() {
    replay("agent_elevenlabs", agent::agent_elevenlabs);
}

#[test]
fn deepgram() {
    replay("agent_deepgram", agent::agent_deepgram);
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
