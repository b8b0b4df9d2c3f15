//! The array daemon.
#![forbid(unsafe_code)]

pub mod config;
pub mod device;
pub mod plan;
pub mod serve;
