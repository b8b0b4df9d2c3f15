//! `kagamid`: the array daemon. Everything is in the library.
#![forbid(unsafe_code)]

use clap::{CommandFactory, Parser};
use kagamid::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(shell) = cli.completions {
        return written(kagami_shell::completions(Cli::command(), shell));
    }
    if let Some(folder) = &cli.man {
        return written(kagami_shell::man(Cli::command(), folder));
    }
    ExitCode::from(if cli.check { kagamid::check::run(&cli) } else { kagamid::run::run(&cli) })
}

fn written(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kagamid: {error}");
            ExitCode::FAILURE
        }
    }
}
