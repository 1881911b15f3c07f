//! See `tandem_fuzz::sip::sip_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::sip::sip_stream(data));
