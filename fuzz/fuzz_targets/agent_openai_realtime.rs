//! See `tandem_fuzz::agent::agent_openai_realtime`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::agent::agent_openai_realtime(data));
