//! PDUs of the full feature phase, behind one byte of options.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kagami_iscsi::fuzz::pdu_stream(input));
