//! See `tandem_fuzz::agent::agent_elevenlabs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::agent::agent_elevenlabs(data));
