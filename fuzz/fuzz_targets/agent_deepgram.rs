//! See `tandem_fuzz::agent::agent_deepgram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::agent::agent_deepgram(data));
