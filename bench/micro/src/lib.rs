//! Micro-benchmarks of the hot parts.
#![forbid(unsafe_code)]
