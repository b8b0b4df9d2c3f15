//! SCSI (SPC, SBC) without I/O: one opcode table, the device server, reservations.
#![forbid(unsafe_code)]
