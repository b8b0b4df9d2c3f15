//! The I/O traits that io_uring and the simulator both speak, the poll loop, timers.
#![forbid(unsafe_code)]
