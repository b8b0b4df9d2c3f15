//! Volumes: back ends, disk controllers, logical blocks to device commands.
#![forbid(unsafe_code)]
