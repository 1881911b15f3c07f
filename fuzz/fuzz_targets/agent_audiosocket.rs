//! See `tandem_fuzz::agent::agent_audiosocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::agent::agent_audiosocket(data));
