//! The array daemon.
#![forbid(unsafe_code)]

pub mod bind;
pub mod config;
pub mod control;
pub mod device;
pub mod http;
mod page;
pub mod plan;
pub mod reload;
