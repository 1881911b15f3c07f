//! See `tandem_fuzz::media::sdp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::media::sdp(data));
