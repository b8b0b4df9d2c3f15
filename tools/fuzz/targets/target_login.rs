//! What an initiator can send from its first byte on, to a target that asks some for CHAP.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kagami_iscsi::fuzz::target_login(input));
