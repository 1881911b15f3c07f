//! See `tandem_fuzz::sip::sip_datagram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::sip::sip_datagram(data));
