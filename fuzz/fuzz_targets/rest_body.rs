//! See `tandem_fuzz::api::rest_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::api::rest_body(data));
