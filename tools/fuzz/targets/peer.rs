//! What a peer says: pages, frames, answers and orders, to one side of a group (`engine/replica/tests/peer`).
#![no_main]

#[path = "../../../engine/replica/tests/peer/mod.rs"]
mod peer;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| peer::run(&data[..data.len().min(4096)]));
