//! `kagami-bench verify`.
mod jobs;
mod model;
mod stamp;
pub use jobs::Checker;
use crate::{cli::VerifyArgs, error::Error};
/// x
pub fn run(_args: &VerifyArgs) -> Result<(), Error> { Ok(()) }
