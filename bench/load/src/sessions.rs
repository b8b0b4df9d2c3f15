//! `kagami-bench sessions`.
use crate::{cli::SessionsArgs, error::Error};
/// x
pub fn run(_args: &SessionsArgs) -> Result<(), Error> { Ok(()) }
