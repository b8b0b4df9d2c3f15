//! What a hostile target can send to an initiator, behind one byte of options.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kagami_iscsi::fuzz::initiator_login(input));
