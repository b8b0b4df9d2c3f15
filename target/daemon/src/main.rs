//! The array daemon.
#![forbid(unsafe_code)]
fn main() {}
