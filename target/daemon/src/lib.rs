//! The array daemon.
#![forbid(unsafe_code)]

pub mod config;
pub mod plan;
