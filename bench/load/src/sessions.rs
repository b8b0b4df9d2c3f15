//! `kagami-bench sessions`: many sessions at once, and a little I/O on each.
//!
//! All stay open to the end, so that what one command costs with many sessions around can be seen.

use crate::cli::SessionsArgs;
use crate::cpu::now_ns;
use crate::error::Error;
use crate::initiator::{
    Command, Connection, RECEIVE_BUFFER, Seat, Status, Unit, Window, isid, probe, simple,
};
use crate::rng::Rng;
use hdrhistogram::Histogram;
use serde_json::json;

/// Opens the sessions, reads on each in turn, and reports.
///
/// # Errors
/// A session that cannot be opened, a command that fails, a connection lost.
pub fn run(args: &SessionsArgs) -> Result<(), Error> {
    args.connect.pin(0)?;
    crate::cpu::raise_file_limit();
    let connector = args.connect.connector(1)?;
    let luns = args.connect.luns(args.lun.as_ref());
    let id = crate::run_id();
    let mut buffer = vec![0; RECEIVE_BUFFER];
    let broken = |error| Error::Failed(format!("cannot set up a socket: {error}"));
    let histogram = || {
        Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)
            .map_err(|error| Error::Failed(format!("histogram: {error}")))
    };
    let (mut logins, mut commands) = (histogram()?, histogram()?);

    let mut open: Vec<(Connection, Window, Unit)> = Vec::new();
    let began = now_ns();
    for number in 0..u16::try_from(args.count).unwrap_or(u16::MAX) {
        let before = now_ns();
        let established = connector
            .connect(&Seat::leading(isid(id, number)))
            .map_err(|error| Error::Unreachable(format!("session {}: {error}", number + 1)))?;
        logins.saturating_record(now_ns() - before);
        let mut window = Window { cmd_sn: established.cmd_sn, max_cmd_sn: established.max_cmd_sn };
        let mut connection = Connection::new(established, 1).map_err(broken)?;
        let lun = luns[usize::from(number) % luns.len()];
        let lun = kagami_types::Lun::new(lun).ok_or_else(|| Error::Usage(format!("{lun} is not a LUN")))?;
        let unit = probe(&mut connection, &mut window, &mut buffer, lun, args.connect.timeout)?;
        if args.block == 0
            || !args.block.is_multiple_of(u64::from(unit.block_size))
            || args.block > unit.bytes()
        {
            return Err(Error::Usage(format!("--block does not fit {lun}")));
        }
        open.push((connection, window, unit));
    }
    let opened_ns = now_ns() - began;

    let mut rng = Rng::new(1);
    let began = now_ns();
    for round in 1..=args.commands {
        for (number, (connection, window, unit)) in (1..).zip(&mut open) {
            let blocks = u32::try_from(args.block / u64::from(unit.block_size)).unwrap_or(1);
            let lba = rng.below(unit.blocks / u64::from(blocks)) * u64::from(blocks);
            let command = Command::read(unit.wire, lba, blocks, unit.block_size);
            let before = now_ns();
            let place = |why: String| format!("session {number} of {}, READ {round}: {why}", args.count);
            let result = simple(connection, window, &mut buffer, &command, args.connect.timeout);
            let (outcome, _) = result.map_err(|error| error.map(place))?;
            commands.saturating_record(now_ns() - before);
            if outcome.status != Status::Good {
                return Err(Error::Failed(place(outcome.status.to_string())));
            }
        }
    }
    let ran_ns = now_ns() - began;
    print(args, open.len(), &logins, &commands, opened_ns, ran_ns);
    Ok(())
}

fn print(
    args: &SessionsArgs,
    sessions: usize,
    logins: &Histogram<u64>,
    commands: &Histogram<u64>,
    opened_ns: u64,
    ran_ns: u64,
) {
    let at = |histogram: &Histogram<u64>, percent| histogram.value_at_percentile(percent) as f64 / 1e3;
    let (opened, ran) = (opened_ns as f64 / 1e9, ran_ns as f64 / 1e9);
    if args.connect.json {
        let report = json!({
            "schema": 1,
            "sessions": sessions,
            "open_seconds": opened,
            "login_p50_us": at(logins, 50.0),
            "login_p99_us": at(logins, 99.0),
            "login_max_us": logins.max() as f64 / 1e3,
            "commands": commands.len(),
            "command_seconds": ran,
            "command_p50_us": at(commands, 50.0),
            "command_p99_us": at(commands, 99.0),
            "command_max_us": commands.max() as f64 / 1e3,
        });
        println!("{report:#}");
        return;
    }
    println!(
        "{sessions} sessions in {opened:.2} s; login us: p50 {:.1}  p99 {:.1}  max {:.1}",
        at(logins, 50.0),
        at(logins, 99.0),
        logins.max() as f64 / 1e3
    );
    println!(
        "{} reads, one at a time over all sessions, in {ran:.2} s; us: p50 {:.1}  p99 {:.1}  max {:.1}",
        commands.len(),
        at(commands, 50.0),
        at(commands, 99.0),
        commands.max() as f64 / 1e3
    );
}
