//! Tests of the cached volume.

mod model;
mod steady;
mod steps;
mod support;
mod trouble;
