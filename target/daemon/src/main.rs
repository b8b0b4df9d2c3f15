//! `kagamid`: the array daemon. Everything is in the library.
#![forbid(unsafe_code)]

use clap::Parser;
use kagamid::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    ExitCode::from(if cli.check { kagamid::check::run(&cli) } else { kagamid::run::run(&cli) })
}
