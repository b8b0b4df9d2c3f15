//! Simulated clock, sockets, disks and hosts behind the reactor's I/O traits.
#![forbid(unsafe_code)]
