//! Load generator.
#![forbid(unsafe_code)]
fn main() {}
