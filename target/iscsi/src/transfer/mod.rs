//! The rules of one task's data (RFC 7143 4.2.5, 11.7, 11.8, 13.10 to 13.19).
//!
//! [`DataOut`] follows a write: what came with the command, what may come unasked, what is asked for
//! with R2Ts. [`DataIn`] cuts a read into PDUs. [`Residual`] says how far command and expectation
//! differ. All are small values without heap or pointers, made to lie in a task slot; the bytes
//! themselves are elsewhere.
//!
//! Used by the channel controller for each task, and by the tests of the initiators.

mod data_in;
mod data_out;
mod residual;

pub use data_in::{DataIn, DataInPdu};
pub use data_out::{Burst, DataOut, DataOutError, MAX_OUTSTANDING_R2T, Placement, R2t, WriteRules};
pub use residual::{Residual, residual};
