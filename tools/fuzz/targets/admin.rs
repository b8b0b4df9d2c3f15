//! Requests of the admin socket, and answers to them.
#![no_main]

use kagami_admin::{MAX_REQUEST, parse_answer, parse_call, read_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = parse_call(data);
    let _ = parse_answer(data);
    let mut rest = data;
    while let Ok(body) = read_frame(&mut rest, MAX_REQUEST) {
        let _ = parse_call(&body);
    }
});
