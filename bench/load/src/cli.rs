//! The command line.

use crate::error::Error;
use crate::initiator::Connector;
use crate::units;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use kagami_initiator::Url;
use kagami_shell::Shell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A lean iSCSI load generator and data checker.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    args_override_self = true,
    after_help = "\
Exit codes: 0 done, 1 failed (or wrong data), 2 usage, 4 timed out, 5 target not reached.

Examples:
  kagami-bench load iscsi://127.0.0.1:3260/iqn.2026-11.io.kagami:local/0
  kagami-bench load URL --read 70 --block 4KiB --connections 4 --depth 32 --core 1 --json
  kagami-bench verify URL --time 30s --cut-every 2s --state /tmp/state.json
  kagami-bench verify URL --check-only --state /tmp/state.json
  kagami-bench sessions URL --count 1000
  kagami-bench relay 127.0.0.1:3270 127.0.0.1:3261 --delay 25ms --bandwidth 250MiB"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a target and report rates, latencies and the generator's own CPU time.
    Load(Box<LoadArgs>),
    /// Check data under random load, with cut connections and crashes of the target.
    Verify(Box<VerifyArgs>),
    /// Replay a dm-log-writes log, and check at every flush what a run of `verify --snapshots` was promised.
    Replay(Box<ReplayArgs>),
    /// Open many sessions and do a little I/O on each.
    Sessions(Box<SessionsArgs>),
    /// Carry connections over a line of a given delay and bandwidth, which can be cut.
    Relay(RelayArgs),
    /// Print what completes this tool's command line in a shell.
    #[command(
        after_help = "Example:\n  kagami-bench completions zsh > /usr/share/zsh/vendor-completions/_kagami-bench"
    )]
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Write the man pages, one for each command, into a folder.
    #[command(after_help = "Example:\n  kagami-bench man /usr/local/share/man/man1")]
    Man {
        /// An existing folder.
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

/// Where to connect and how.
#[derive(Clone, Debug, Args)]
pub struct ConnectArgs {
    /// The logical unit's address.
    #[arg(help = "The logical unit: iscsi://[user%secret@]host:port/iqn/lun")]
    pub url: Url,
    /// Our initiator name.
    #[arg(long, default_value = "iqn.2026-11.io.kagami:bench", value_name = "IQN")]
    pub initiator: String,
    /// User and secret that the target must prove in return (mutual CHAP).
    #[arg(long, value_parser = user_and_secret, value_name = "USER%SECRET")]
    pub mutual: Option<(String, String)>,
    /// CRC32C digests to insist on.
    #[arg(long, value_enum, default_value_t = Digests::None)]
    pub digests: Digests,
    /// Send write data with the command.
    #[arg(long, value_enum, default_value_t = YesNo::Yes)]
    pub immediate: YesNo,
    /// Wait for the target to ask for what is not immediate data.
    #[arg(long, value_enum, default_value_t = YesNo::No)]
    pub initial_r2t: YesNo,
    /// FirstBurstLength to ask for.
    #[arg(long, value_parser = units::size, default_value = "256KiB", value_name = "SIZE")]
    pub first_burst: u64,
    /// MaxBurstLength to ask for.
    #[arg(long, value_parser = units::size, default_value = "1MiB", value_name = "SIZE")]
    pub max_burst: u64,
    /// Our MaxRecvDataSegmentLength.
    #[arg(long, value_parser = units::size, default_value = "256KiB", value_name = "SIZE")]
    pub segment: u64,
    /// TCP congestion control of our sockets; "system" leaves it alone.
    #[arg(long, default_value = "cubic", value_name = "NAME")]
    pub congestion: String,
    /// How long an answer may take.
    #[arg(long, value_parser = units::time, default_value = "10s", value_name = "TIME")]
    pub timeout: Duration,
    /// Core for the thread, or a list with one core for each thread.
    #[arg(long, value_parser = core_list, value_name = "LIST")]
    pub core: Option<Cores>,
    /// How to wait for answers: spin (polls, burns its core) or sleep (epoll).
    #[arg(long, value_enum, default_value_t = Poll::Spin)]
    pub poll: Poll,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `load`.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub struct LoadArgs {
    /// Where and how.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// LUNs to load, such as 0,3-5, in place of the address's.
    #[arg(long, value_parser = lun_list, value_name = "LIST")]
    pub lun: Option<Luns>,
    /// Connections; each is a session of its own unless --mcs is given.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// Multiplies the connections: with --mcs, that many sessions of --connections each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub sessions: u16,
    /// All --connections in one session.
    #[arg(long)]
    pub mcs: bool,
    /// Commands under way on each connection.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub depth: u16,
    /// Once a connection is full, send nothing before only that many commands are left under way, then fill it
    /// again (fio's iodepth_low). The usual is one below --depth: a new command for every answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=4096))]
    pub depth_low: Option<u16>,
    /// Bytes in a command.
    #[arg(long, value_parser = units::size, default_value = "4KiB", value_name = "SIZE")]
    pub block: u64,
    /// Addresses.
    #[arg(long, value_enum, default_value_t = Pattern::Rand)]
    pub pattern: Pattern,
    /// Share of reads in percent; the rest are writes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100), value_name = "PERCENT")]
    pub read: u32,
    /// How long to measure.
    #[arg(long, value_parser = units::time, default_value = "5s", value_name = "TIME")]
    pub time: Duration,
    /// How long to run before measuring.
    #[arg(long, value_parser = units::time, default_value = "1s", value_name = "TIME")]
    pub warmup: Duration,
    /// Commands per second in all, at even distances; latency then counts from when each was due.
    #[arg(long, value_name = "IOPS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Use only the first bytes of each unit.
    #[arg(long, value_parser = units::size, value_name = "SIZE")]
    pub span: Option<u64>,
    /// Stamp what is written and check what is read (one thread only).
    #[arg(long)]
    pub verify: bool,
    /// Threads; the sessions are spread over them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Repeats the addresses of an earlier run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Report the CPU time per command of this process, too (the target's).
    #[arg(long, value_name = "PID")]
    pub target_pid: Option<u32>,
}

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub struct VerifyArgs {
    /// Where and how.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// LUNs to check, such as 0,3-5, in place of the address's.
    #[arg(long, value_parser = lun_list, value_name = "LIST")]
    pub lun: Option<Luns>,
    /// Connections, each a session of its own.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Commands under way on each connection.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub depth: u16,
    /// The largest command.
    #[arg(long, value_parser = units::size, default_value = "256KiB", value_name = "SIZE")]
    pub largest: u64,
    /// Share of reads in percent.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100), value_name = "PERCENT")]
    pub read: u32,
    /// Share of writes with Force Unit Access in percent.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100), value_name = "PERCENT")]
    pub fua: u32,
    /// One command in that many is a SYNCHRONIZE CACHE; 0 for none.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub flush_every: u32,
    /// How long to run.
    #[arg(long, value_parser = units::time, default_value = "10s", value_name = "TIME")]
    pub time: Duration,
    /// Check only the first bytes of each unit.
    #[arg(long, value_parser = units::size, default_value = "64MiB", value_name = "SIZE")]
    pub span: u64,
    /// Do not write the whole span first; until written, a block may hold anything.
    #[arg(long)]
    pub no_fill: bool,
    /// Cut a connection about that often.
    #[arg(long, value_parser = units::time, value_name = "TIME")]
    pub cut_every: Option<Duration>,
    /// How long the target may be away before the run fails.
    #[arg(long, value_parser = units::time, default_value = "30s", value_name = "TIME")]
    pub reconnect: Duration,
    /// Repeats the commands of an earlier run (not their timing).
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Commands per second in all, about.
    #[arg(long, value_name = "IOPS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Keep what must be on the target in this file, for a later run.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Read everything and compare with the state file; write nothing.
    #[arg(long, requires = "state")]
    pub check_only: bool,
    /// Go on from the state file: check everything, then run.
    #[arg(long, requires = "state", conflicts_with = "check_only")]
    pub resume: bool,
    /// With --check-only or --resume: the target crashed since; what was not flushed may be lost.
    #[arg(long)]
    pub crash: bool,
    /// Do not read events from standard input.
    #[arg(long)]
    pub no_stdin: bool,
    /// Keep what must be on the target in this folder again and again, in files named 1, 2, 3 ...
    #[arg(long, value_name = "FOLDER", requires = "mark")]
    pub snapshots: Option<PathBuf>,
    /// How often.
    #[arg(long, value_parser = units::time, default_value = "300ms", value_name = "TIME")]
    pub snapshot_every: Duration,
    /// Go on beyond --time, up to ten times as long, until there are so many: what a machine that stood still for a
    /// while has proved is not less then.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "snapshots")]
    pub snapshots_least: u64,
    /// A program and its arguments, run with `snapshot-1`, `snapshot-2` ... as one more, after each file; no
    /// command is sent meanwhile.
    #[arg(long, value_name = "COMMAND")]
    pub mark: Option<String>,
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The log: a dm-log-writes log device, or a copy of one.
    pub log: PathBuf,
    /// The folder that `verify --snapshots` wrote.
    #[arg(long, value_name = "FOLDER")]
    pub snapshots: PathBuf,
    /// Which unit the log's device was behind.
    #[arg(long, default_value_t = 0)]
    pub lun: u16,
    /// How the marks in the log are named, before the snapshot's number.
    #[arg(long, default_value = "snapshot-")]
    pub prefix: String,
    /// How many snapshots there must be at least.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub least: u64,
    /// Leave out one write in that many: a control, which must be found.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub lose: Option<u64>,
}

/// Arguments of `sessions`.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub struct SessionsArgs {
    /// Where and how.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// LUNs to use in turn, in place of the address's.
    #[arg(long, value_parser = lun_list, value_name = "LIST")]
    pub lun: Option<Luns>,
    /// Sessions to open.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub count: u32,
    /// Commands on each session.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub commands: u32,
    /// Bytes in a command.
    #[arg(long, value_parser = units::size, default_value = "4KiB", value_name = "SIZE")]
    pub block: u64,
}

/// Arguments of `relay`. Orders on standard input: cut, down, up, hang, pass, stats.
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// Where to take connections.
    pub listen: SocketAddr,
    /// Where they lead.
    pub target: SocketAddr,
    /// How long a byte is on its way, in each direction: half of the round trip.
    #[arg(long, value_parser = units::time, default_value = "0ms", value_name = "TIME")]
    pub delay: Duration,
    /// Bytes a second in each direction, for all connections together; 0: no limit.
    #[arg(long, value_parser = units::size, default_value = "0", value_name = "SIZE")]
    pub bandwidth: u64,
}

/// Which digests to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Digests {
    None,
    Header,
    Data,
    Both,
}

/// A choice of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum YesNo {
    Yes,
    No,
}

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Poll {
    Spin,
    Sleep,
}

/// How addresses follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Pattern {
    Rand,
    Seq,
}

/// A list of LUNs. (A type of its own, as clap takes a plain vector for a repeated argument.)
#[derive(Clone, Debug)]
pub struct Luns(pub Vec<u16>);

/// A list of cores.
#[derive(Clone, Debug)]
pub struct Cores(pub Vec<u16>);

fn user_and_secret(text: &str) -> Result<(String, String), String> {
    let (user, secret) = text.split_once('%').ok_or("it looks like user%secret")?;
    Ok((user.to_owned(), secret.to_owned()))
}

fn lun_list(text: &str) -> Result<Luns, String> {
    units::luns(text).map(Luns)
}

fn core_list(text: &str) -> Result<Cores, String> {
    units::luns(text).map(Cores).map_err(|_| format!("'{text}' is not a core or a list such as 0,2-3"))
}

impl ConnectArgs {
    /// The connector that these arguments describe.
    ///
    /// # Errors
    /// [`Error::Usage`]: a length outside of what iSCSI allows.
    pub fn connector(&self, max_connections: u16) -> Result<Connector, Error> {
        // RFC 7143 13.12 to 13.14: 512 to 2^24 - 1.
        let length = |name: &str, bytes: u64| {
            let fits = u32::try_from(bytes).ok().filter(|bytes| (512..1 << 24).contains(bytes));
            fits.ok_or_else(|| Error::Usage(format!("--{name} must be from 512 bytes to 16 MiB less one")))
        };
        let max_burst = length("max-burst", self.max_burst)?;
        if self.url.login.as_ref().is_some_and(|login| login.secret.is_none()) {
            return Err(Error::Usage("the part before @ in the address is user%secret".to_owned()));
        }
        Ok(Connector {
            url: self.url.clone(),
            secret: None,
            mutual: self.mutual.clone(),
            initiator: self.initiator.clone(),
            header_digest: matches!(self.digests, Digests::Header | Digests::Both),
            data_digest: matches!(self.digests, Digests::Data | Digests::Both),
            immediate_data: self.immediate == YesNo::Yes,
            initial_r2t: self.initial_r2t == YesNo::Yes,
            // FirstBurstLength may not be above MaxBurstLength (RFC 7143 13.14).
            first_burst: length("first-burst", self.first_burst)?.min(max_burst),
            max_burst,
            receive_segment: length("segment", self.segment)?,
            max_connections,
            congestion: (self.congestion != "system").then(|| self.congestion.clone()),
            timeout: self.timeout,
        })
    }

    /// The logical units to use.
    #[must_use]
    pub fn luns(&self, listed: Option<&Luns>) -> Vec<u16> {
        listed.map_or_else(|| vec![self.url.lun], |luns| luns.0.clone())
    }

    /// Ties the calling thread, the `index`th, to its core where one was named.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no such core.
    pub fn pin(&self, index: usize) -> Result<(), Error> {
        let Some(Cores(cores)) = &self.core else { return Ok(()) };
        match cores.get(index % cores.len().max(1)) {
            Some(core) => crate::cpu::pin(usize::from(*core)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lengths_are_checked() {
        let parse = |extra: &str| {
            let line = format!("kagami-bench load iscsi://h/iqn.x/0 {extra}");
            let Command::Load(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
                panic!("not load");
            };
            args.connect.connector(1)
        };
        assert!(parse("").is_ok());
        assert!(parse("--segment 100").is_err());
        assert_eq!(parse("--max-burst 64KiB").unwrap().first_burst, 65_536);
    }
}
