//! The array's durable tables: identities, reservations, objects made at run time.
#![forbid(unsafe_code)]
