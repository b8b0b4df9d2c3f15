//! Commands to a logical unit, with resets, changed capacities and restored state between them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kagami_scsi::fuzz::run(input));
