//! `kagami-bench verify`: is what was acknowledged there, and what was flushed still there after a crash?
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`stamp`] | what every block holds, so that a read says whose it is |
//! | [`model`] | what every block may hold |
//! | [`jobs`] | tasks that are stamped and judged; shared with `load --verify` |
//! | [`driver`] | the run: commands, cut connections, reconnection, crash recovery |
//! | [`plan`] | which command comes next |
//! | [`events`] | the word "crash" on standard input, signals |
//! | [`watch`] | the announced crash, and time that is our own |
//! | [`state`] | the model in a file, for a run after a restart |

mod driver;
mod events;
mod jobs;
mod model;
mod plan;
pub(crate) mod stamp;
mod state;
mod watch;

pub use jobs::Checker;
pub(crate) use model::Rule;
pub(crate) use stamp::Found;
pub(crate) use state::Kept;
#[cfg(test)]
pub(crate) use state::save as save_state;

use crate::cli::VerifyArgs;
use crate::error::Error;
use driver::Driver;
use serde_json::json;

/// Runs the check and prints what was done.
///
/// # Errors
/// [`Error::Mismatch`] where a block holds what it must not; else what kept the run from ending.
pub fn run(args: &VerifyArgs) -> Result<(), Error> {
    args.connect.pin(0)?;
    let mut driver = Driver::open(args)?;
    let result = driver.run();
    if let (Some(path), false) = (&args.state, matches!(result, Err(Error::Mismatch(_)))) {
        // What is still under way when a run fails may have taken effect.
        driver.abandon();
        state::save(path, args.seed, driver.checker())?;
    }
    let counts = driver.counts();
    if args.connect.json {
        let report = json!({
            "schema": 1,
            "ok": result.is_ok(),
            "reads": counts.reads,
            "writes": counts.writes,
            "flushes": counts.flushes,
            "blocks_read": counts.blocks_read,
            "blocks_written": counts.blocks_written,
            "retries": counts.retries,
            "cuts": counts.cuts,
            "connections_lost": counts.lost,
            "crashes": counts.crashes,
        });
        println!("{report:#}");
    } else {
        println!(
            "{} reads, {} writes, {} flushes; {} blocks checked; {} cuts, {} connections lost, {} crashes",
            counts.reads,
            counts.writes,
            counts.flushes,
            counts.blocks_read,
            counts.cuts,
            counts.lost,
            counts.crashes
        );
    }
    result
}
