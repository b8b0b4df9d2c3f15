//! `kagami`: the operator's and the host's tool. Asks an array over its admin socket, or gives it orders
//! through a command device, and prints what it says.
//!
//! | module | what |
//! | --- | --- |
//! | `cli` | the command line |
//! | `ask` | from a command to a request |
//! | `via` | the way to the array: which socket, one request, one answer |
//! | `inband` | the way through a command device: a block device, or an initiator of its own |
//! | `pair` | groups of pairs: both arrays asked and ordered |
//! | `demo` | two arrays, a pair, load, a swap and back |
//! | `top` | the live view |
//! | `print` | answers as tables or JSON |
//!
//! It decides nothing: what is allowed, and why not, the array says. Errors are one line on
//! standard error; the exit codes are those of `docs/operations.md`.
#![forbid(unsafe_code)]

mod ask;
mod cli;
mod demo;
mod inband;
mod pair;
mod print;
mod top;
mod via;

use clap::{CommandFactory, Parser};
use kagami_admin::request::EventsAfter;
use kagami_admin::{Refusal, Reply, Request};
use std::io::Write;
use std::process::ExitCode;

/// How long the array is asked to wait for an event.
const FOLLOW_MS: u32 = 20_000;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            // A reader that went away cannot be told so.
            let _ = writeln!(std::io::stderr(), "kagami: {}", refusal.reason.replace('\n', "; "));
            ExitCode::from(refusal.code.max(1))
        }
    }
}

/// What a shell wants to know is written without an array.
fn written(result: Result<(), String>) -> Result<u8, Refusal> {
    result.map(|()| 0).map_err(Refusal::failed)
}

fn run(cli: &cli::Cli) -> Result<u8, Refusal> {
    match &cli.command {
        cli::Command::Completions { shell } => {
            return written(kagami_shell::completions(cli::Cli::command(), *shell));
        }
        cli::Command::Man { folder } => return written(kagami_shell::man(cli::Cli::command(), folder)),
        cli::Command::Demo { kagamid, keep, load } => return demo::run(kagamid.as_deref(), *keep, load),
        cli::Command::Top { every, once } => return top::run(cli, every, *once),
        _ => {}
    }
    if let Some(done) = pair::run(cli) {
        return done;
    }
    let path = match inband::way(cli.via.as_deref())? {
        inband::Way::Unix(path) => path,
        command_device => return print::reply(&inband::run(cli, command_device)?, cli.json).map(|()| 0),
    };
    if cli.inband.array.is_some() || cli.inband.generation.is_some() || cli.inband.record.is_some() {
        let words = "--array, --generation and --record are for orders; name a command device with --via";
        return Err(Refusal::usage(words));
    }
    let request = ask::request(&cli.command)?;
    let mut connection = via::connect(path.as_deref())?;
    if let (Request::Events(after), true) = (&request, ask::follows(&cli.command)) {
        return follow(&mut connection, after.after, cli.json).map(|()| 0);
    }
    let reply = connection.ask(request)?;
    print::reply(&reply, cli.json).map(|()| 0)
}

/// Prints events as they happen, until the array or the reader goes away.
fn follow(connection: &mut via::Connection, mut after: Option<u64>, json: bool) -> Result<(), Refusal> {
    let mut wait_ms = 0;
    loop {
        let reply = connection.ask(Request::Events(EventsAfter { after, wait_ms }))?;
        let Reply::Events(events) = &reply else { return print::reply(&reply, json) };
        after = Some(events.last);
        wait_ms = FOLLOW_MS;
        if !events.events.is_empty() && !print::events(events, json)? {
            return Ok(());
        }
    }
}
