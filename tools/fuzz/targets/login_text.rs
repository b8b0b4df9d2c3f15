//! The text of a login request, in every stage.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kagami_iscsi::fuzz::login_text(input));
