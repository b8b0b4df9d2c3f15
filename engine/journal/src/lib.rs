//! Journal volumes: what lies on them, and what is found there after a crash.
//!
//! Everything here is without I/O: bytes and places go in and out, and whoever has the device reads and writes. What a
//! journal is for, and who acknowledges what when, is decided in `kagami-replica`, which is the only caller.
#![forbid(unsafe_code)]
