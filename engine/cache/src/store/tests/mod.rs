//! Tests of the cached volume.

mod ahead;
mod model;
mod room;
mod shared;
mod steady;
mod steps;
mod support;
mod through;
mod trouble;
