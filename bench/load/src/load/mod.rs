//! `kagami-bench load`: as much load as asked, and what came of it.
//!
//! Sessions are opened and the units asked for their size; then each thread runs its connections
//! ([`worker`]) until the time is up; their numbers are added up into a [`report`].

mod picker;
mod report;
mod stats;
mod worker;

use crate::cli::{LoadArgs, Pattern};
use crate::error::Error;
use crate::initiator::{Connection, Established, RECEIVE_BUFFER, Seat, Unit, Window, isid, probe};
use crate::units::show_size;
use picker::Picker;
pub use stats::Stats;
use std::sync::{Arc, Barrier};
use worker::{Lane, Worker};

/// What all threads of a run share.
#[derive(Debug)]
struct Workload {
    units: Vec<Unit>,
    /// Bytes in a command.
    block: u32,
    read_percent: u32,
    sequential: bool,
    span: u64,
}

/// The connections of one session.
struct Session {
    window: Window,
    connections: Vec<Connection>,
}

/// Runs the load and prints the report. True when every command ended GOOD.
///
/// # Errors
/// Arguments that do not fit the units, a target that cannot be reached, a connection lost.
pub fn run(args: &LoadArgs) -> Result<bool, Error> {
    let block = u32::try_from(args.block).ok().filter(|block| (512..=16 << 20).contains(block));
    let block = block.ok_or_else(|| Error::Usage("--block must be from 512 bytes to 16 MiB".to_owned()))?;
    if args.verify && args.threads > 1 {
        return Err(Error::Usage("--verify works with one thread only".to_owned()));
    }
    crate::cpu::raise_file_limit();
    args.connect.pin(0)?;

    let (mut sessions, units) = open(args)?;
    let span = args.span.unwrap_or(u64::MAX);
    for unit in &units {
        if block % unit.block_size != 0 {
            let size = unit.block_size;
            return Err(Error::Usage(format!(
                "--block is not a multiple of LUN {}'s {size} bytes",
                unit.lun
            )));
        }
        if unit.bytes().min(span) < u64::from(block) {
            let room = show_size(unit.bytes().min(span));
            return Err(Error::Usage(format!("LUN {} has {room}, less than one --block", unit.lun)));
        }
    }
    let parameters =
        sessions.first().and_then(|session| session.connections.first()).map(|c| *c.parameters());
    let sequential = args.pattern == Pattern::Seq;
    let workload = Arc::new(Workload { units, block, read_percent: args.read, sequential, span });

    let threads = usize::from(args.threads).min(sessions.len()).max(1);
    let start = Arc::new(Barrier::new(threads));
    let mut handles = Vec::new();
    let mut first = None;
    for index in (0..threads).rev() {
        // Every thread takes its share of what is left.
        let share = sessions.split_off(sessions.len() - sessions.len() / (index + 1));
        let worker = build(args, &workload, share, index, threads)?;
        if index == 0 {
            first = Some(worker);
            continue;
        }
        let (args, start) = (args.clone(), Arc::clone(&start));
        let run = move || {
            args.connect.pin(index)?;
            start.wait();
            worker.run(&args)
        };
        let name = format!("load-{index}");
        let handle = std::thread::Builder::new().name(name).spawn(run);
        handles.push(handle.map_err(|error| Error::Failed(format!("cannot start a thread: {error}")))?);
    }
    start.wait();
    let mut result = match first {
        Some(worker) => worker.run(args),
        None => Ok(Stats::default()),
    };
    for handle in handles {
        let other = handle.join().unwrap_or_else(|_| Err(Error::Failed("a thread died".to_owned())));
        match (&mut result, other) {
            (Ok(stats), Ok(other)) => stats.add(&other),
            (Ok(_), Err(error)) => result = Err(error),
            (Err(_), _) => {}
        }
    }
    let stats = result?;
    report::print(args, &stats, parameters.as_ref());
    Ok(stats.errors == 0)
}

/// Opens the sessions and clears every unit's attentions on each.
fn open(args: &LoadArgs) -> Result<(Vec<Session>, Vec<Unit>), Error> {
    let (sessions, each) = if args.mcs {
        (u32::from(args.sessions), args.connections)
    } else {
        (u32::from(args.sessions) * u32::from(args.connections), 1)
    };
    if sessions > u32::from(u16::MAX) {
        return Err(Error::Usage("more than 65535 sessions".to_owned()));
    }
    let connector = args.connect.connector(each)?;
    let run = crate::run_id();
    let luns = args.connect.luns(args.lun.as_ref());
    let mut buffer = vec![0; RECEIVE_BUFFER];
    let mut opened = Vec::new();
    let mut units = Vec::new();
    for number in 0..u16::try_from(sessions).unwrap_or(u16::MAX) {
        let isid = isid(run, number);
        let leading = connector.connect(&Seat::leading(isid))?;
        let Established { parameters, tsih, cmd_sn, max_cmd_sn, .. } = leading;
        let mut window = Window { cmd_sn, max_cmd_sn };
        let broken = |error| Error::Failed(format!("cannot set up a socket: {error}"));
        let mut connections = vec![Connection::new(leading, args.depth).map_err(broken)?];
        units.clear();
        for lun in &luns {
            let lun =
                kagami_types::Lun::new(*lun).ok_or_else(|| Error::Usage(format!("{lun} is not a LUN")))?;
            units.push(probe(&mut connections[0], &mut window, &mut buffer, lun, args.connect.timeout)?);
        }
        for cid in 1..each {
            let seat = Seat { isid, joins: Some((tsih, parameters)), cid, cmd_sn: window.cmd_sn };
            let other = connector.connect(&seat)?;
            connections.push(Connection::new(other, args.depth).map_err(broken)?);
        }
        opened.push(Session { window, connections });
    }
    Ok((opened, units))
}

fn build(
    args: &LoadArgs,
    workload: &Arc<Workload>,
    sessions: Vec<Session>,
    index: usize,
    threads: usize,
) -> Result<Worker, Error> {
    let mut lanes = Vec::new();
    let mut windows = Vec::new();
    let total = u64::from(args.sessions) * u64::from(args.connections);
    for session in sessions {
        for connection in session.connections {
            // Connections differ in their seed, and in where they begin when they go in sequence.
            let number = (index as u64) << 32 | lanes.len() as u64;
            let place = (lanes.len() * threads + index) as u64;
            let picker = Picker::new(Arc::clone(workload), args.seed ^ crate::rng::mix(number), place, total);
            lanes.push(Lane { connection, session: windows.len(), picker, filling: true });
        }
        windows.push(session.window);
    }
    Worker::new(args, workload, lanes, windows, threads)
}
