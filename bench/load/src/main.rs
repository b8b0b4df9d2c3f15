//! The program: reads the command line, runs what it names, turns errors into one line and a code.
#![forbid(unsafe_code)]

use clap::Parser;
use kagami_bench::cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Load(args) => kagami_bench::load::run(&args),
        Command::Verify(args) => kagami_bench::verify::run(&args).map(|()| true),
        Command::Replay(args) => kagami_bench::replay::run(&args).map(|()| true),
        Command::Sessions(args) => kagami_bench::sessions::run(&args).map(|()| true),
        Command::Relay(args) => kagami_bench::relay::run(&args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("kagami-bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
