//! A configuration file; whatever is wrong with it must also be told.
#![no_main]

use kagamid::config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // The file is refused before it is parsed where it is not UTF-8.
    let Ok(text) = str::from_utf8(input) else { return };
    match config::parse(text, "fuzz.toml") {
        Ok(parsed) => assert!(!parsed.portals.is_empty(), "served by nothing"),
        Err(errors) => assert!(!errors.to_string().is_empty(), "refused without a reason"),
    }
});
