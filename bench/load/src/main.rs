//! The program: reads the command line, runs what it names, turns errors into one line and a code.
#![forbid(unsafe_code)]

use clap::{CommandFactory, Parser};
use kagami_bench::cli::{Cli, Command};
use kagami_bench::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Load(args) => kagami_bench::load::run(&args),
        Command::Verify(args) => kagami_bench::verify::run(&args).map(|()| true),
        Command::Replay(args) => kagami_bench::replay::run(&args).map(|()| true),
        Command::Sessions(args) => kagami_bench::sessions::run(&args).map(|()| true),
        Command::Relay(args) => kagami_bench::relay::run(&args).map(|()| true),
        Command::Completions { shell } => written(kagami_shell::completions(Cli::command(), shell)),
        Command::Man { folder } => written(kagami_shell::man(Cli::command(), &folder)),
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

fn written(result: Result<(), String>) -> Result<bool, Error> {
    result.map(|()| true).map_err(Error::Failed)
}
