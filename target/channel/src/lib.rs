//! Channel controllers: iSCSI connections of one core, from bytes to commands and back.
#![forbid(unsafe_code)]
