//! Micro-benchmarks of the hot parts, one file each in `benches/`.
//!
//! `cargo bench -p kagami-micro` runs all, `--bench memory` one of them. This library holds nothing
//! but their names: a benchmark calls the real crates and no copy of them.
#![forbid(unsafe_code)]
