//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use kagami_shell::Shell;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  kagami volumes
      What the array of this machine serves.
  kagami volume create db --size 10GiB
      A sparse file in the array's data folder, at the lowest free LUN.
  kagami volume create logs --path /dev/nvme1n1 --lun 7 --initiator iqn.1993-08.org.debian:01:host1
  kagami volume grow db --size 20GiB
  kagami volume remove db
      Refused (exit code 3) while somebody uses it, with who; --force ends it for them.
  kagami initiator add iqn.1993-08.org.debian:01:host1 --luns 0,7 --chap-user host1 --chap-secret-file /etc/kagami/host1
  kagami --via unix:/run/kagami/tokyo.sock stats --json
  kagami config export > tokyo.toml
  kagami events --follow
  kagami --via /dev/sdb volumes
      The same through a command device that this host sees: an order, written into it.
  kagami --via iscsi://127.0.0.1:3260/iqn.2026-11.io.kagami:local/1 --array osaka volumes
      What another array serves, that the first one knows.

Volumes are named by name, by LUN, or as ARRAY:LUN.
Exit codes: 0 done, 1 failed, 2 usage, 3 refused in this state, 4 timed out, 5 not reached, 10 swap done,
11 taken over, 12 already so.";

/// Manages a Kagami storage array while hosts work.
#[derive(Clone, Debug, Parser)]
#[command(name = "kagami", version, after_help = EXAMPLES)]
pub struct Cli {
    /// The way in: unix:PATH of an admin socket; or a command device, as a block device (/dev/sdb) or at
    /// iscsi://host:port/iqn/lun, user@ before the host for CHAP. Without it, the only socket in /run/kagami.
    #[arg(long, global = true, value_name = "VIA", env = "KAGAMI_VIA", value_hint = ValueHint::AnyPath)]
    pub via: Option<String>,

    /// With iscsi://: our name. Stands before the command.
    #[arg(long, value_name = "IQN", env = "KAGAMI_INITIATOR", default_value = "iqn.2026-11.io.kagami:host")]
    pub initiator: String,

    #[command(flatten)]
    pub inband: InbandArgs,

    /// Print JSON with a schema version, units in the names of keys.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of orders, which go through a command device.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of orders through a command device")]
pub struct InbandArgs {
    /// The array that the order is for, by name or UUID; the first one without it.
    #[arg(long, global = true, value_name = "ARRAY")]
    pub array: Option<String>,
    /// Who signs the order.
    #[arg(long, global = true, value_name = "NAME", env = "KAGAMI_OPERATOR", requires = "key_file")]
    pub operator: Option<String>,
    /// The operator's key, a file of mode 0600.
    #[arg(long, global = true, value_name = "FILE", env = "KAGAMI_KEY_FILE", requires = "operator")]
    pub key_file: Option<PathBuf>,
    /// The CHAP secret of the address's user, a file of mode 0600; else in KAGAMI_SECRET.
    #[arg(long, global = true, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// How long an order may take.
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    pub timeout: String,
    /// The generation of the array's tables that a change acts on; the present one without it.
    #[arg(long, global = true, value_name = "NUMBER")]
    pub generation: Option<u64>,
    /// Keeps the record of a change until it has a result. Where FILE is there, that very record is given
    /// again: what was done is not done twice.
    #[arg(long, global = true, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The array itself, and the peers that it knows.
    Arrays,
    /// All volumes.
    Volumes,
    /// The LUN map, and who sees what.
    Luns,
    /// The command devices of this and other arrays.
    Tables,
    /// Counters and latencies since the start.
    Stats,
    /// Who is logged in.
    Sessions,
    /// Create, grow, rename, mask, unmask and remove volumes.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Add volumes of other arrays to the LUN map, and take them out.
    #[command(subcommand)]
    Lun(LunCommand),
    /// Add, change, remove and list initiators.
    #[command(subcommand)]
    Initiator(InitiatorCommand),
    /// Add, remove and list other arrays.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Replicate volumes to another array: create, look, split, resync, swap, take over, delete.
    #[command(subcommand)]
    Pair(PairCommand),
    /// Journals of groups: where they stand, and the cycle that a host may drive.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Put a name into a group's order of writes; with --wait, until the secondary has all before it.
    #[command(after_help = "Examples:\n  kagami marker erp before-upgrade\n  kagami marker nightly --wait")]
    Marker {
        /// The group, where there are several, and the name.
        #[arg(num_args = 1..=2, required = true, value_names = ["GROUP", "NAME"])]
        names: Vec<String>,
        /// Until it has arrived at the secondary: then a commit that was made before it is there too.
        #[arg(long)]
        wait: bool,
    },
    /// Two arrays on this machine, a pair, verified load, a swap and a swap back; leaves nothing behind.
    #[command(after_help = "Example:\n  kagami demo")]
    Demo {
        /// The array's program; beside this one, or in the PATH.
        #[arg(long, value_name = "PROGRAM", value_hint = ValueHint::FilePath)]
        kagamid: Option<PathBuf>,
        /// Leave the folder and its arrays running.
        #[arg(long)]
        keep: bool,
        /// How long the load goes on in each of the three parts.
        #[arg(long, value_name = "TIME", default_value = "10s")]
        load: String,
    },
    /// Volumes, links and groups, live.
    Top {
        /// How often it is drawn anew.
        #[arg(long, value_name = "TIME", default_value = "1s")]
        every: String,
        /// Draw once, and end.
        #[arg(long)]
        once: bool,
    },
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// What has happened: changes, refusals, refused logins.
    #[command(after_help = "Examples:\n  kagami events\n  kagami events --follow --json")]
    Events {
        /// Go on printing as it happens.
        #[arg(long)]
        follow: bool,
        /// Only events with a higher number.
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
    },
    /// Print what completes this tool's command line.
    #[command(
        after_help = "Examples:\n  kagami completions bash > /usr/share/bash-completion/completions/kagami\n  \
        kagami completions zsh > /usr/share/zsh/vendor-completions/_kagami\n  \
        kagami completions fish > /usr/share/fish/vendor_completions.d/kagami.fish"
    )]
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Write the man pages, one for each command, into a folder.
    #[command(after_help = "Example:\n  kagami man /usr/local/share/man/man1")]
    Man {
        /// An existing folder.
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Memory, gone when the daemon ends.
    Ram,
    /// Reads zeroes, drops writes.
    Null,
}

#[derive(Clone, Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume.
    #[command(after_help = "Examples:\n  kagami volume create db --size 10GiB\n  \
        kagami volume create db --path /dev/nvme1n1 --lun 7\n  kagami volume create scratch --backend ram --size 256MiB")]
    Create {
        /// Its name.
        name: String,
        /// Its LUN; the lowest free one without it.
        #[arg(long)]
        lun: Option<u16>,
        /// A block device or file; a file that is missing is made. Without it, a file in the data folder.
        #[arg(long, conflicts_with = "backend")]
        path: Option<PathBuf>,
        /// In place of a path.
        #[arg(long)]
        backend: Option<Backend>,
        /// Its size, such as 10GiB; the device's or file's without it.
        #[arg(long)]
        size: Option<String>,
        /// Bytes of a block, 512 or 4096.
        #[arg(long, value_name = "BYTES")]
        block_size: Option<u32>,
        /// writeback, writethrough or none.
        #[arg(long)]
        cache: Option<String>,
        /// Hosts may not write.
        #[arg(long)]
        read_only: bool,
        /// Report it as thinly provisioned, or not.
        #[arg(long)]
        thin: Option<bool>,
        /// Deal its extents of 4 MiB out over so many cores, for a volume that is too hot for one.
        #[arg(long, value_name = "CORES")]
        spread: Option<u16>,
        /// A listed initiator that sees it; may be given several times.
        #[arg(long, value_name = "IQN")]
        initiator: Vec<String>,
        /// Take a device that carries the mark of another volume.
        #[arg(long)]
        adopt: bool,
        /// A declared pool that it is made in; through a command device, the only one without it.
        #[arg(long, conflicts_with_all = ["path", "backend"])]
        pool: Option<String>,
    },
    /// Make a volume larger; hosts are told.
    #[command(
        visible_alias = "resize",
        after_help = "Examples:\n  kagami volume grow db --size 20GiB\n  kagami volume grow tokyo:7"
    )]
    Grow {
        /// Which.
        volume: String,
        /// To how much; to all of its device without it.
        #[arg(long)]
        size: Option<String>,
    },
    /// Give a volume another name.
    #[command(after_help = "Example:\n  kagami volume rename db olddb")]
    Rename {
        /// Which.
        volume: String,
        /// The new name.
        name: String,
    },
    /// Take a volume away from an initiator.
    #[command(after_help = "Example:\n  kagami volume mask db iqn.1993-08.org.debian:01:host1")]
    Mask {
        /// Which.
        volume: String,
        /// From whom.
        initiator: String,
        /// Although it is logged in.
        #[arg(long)]
        force: bool,
    },
    /// Show a volume to an initiator.
    #[command(after_help = "Example:\n  kagami volume unmask db iqn.1993-08.org.debian:01:host1")]
    Unmask {
        /// Which.
        volume: String,
        /// To whom.
        initiator: String,
    },
    /// End a volume; its data stay where they are.
    #[command(
        visible_alias = "delete",
        after_help = "Examples:\n  kagami volume remove db\n  kagami volume remove db --force"
    )]
    Remove {
        /// Which.
        volume: String,
        /// Although it is in use.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum LunCommand {
    /// The LUN map.
    #[command(subcommand)]
    Map(LunMapCommand),
}

#[derive(Clone, Debug, Subcommand)]
pub enum LunMapCommand {
    /// Add a virtual volume: a LUN here that is a LUN of another array.
    #[command(after_help = "Example:\n  kagami --via /dev/sdb lun map add far --peer osaka --mapped-lun 1")]
    Add {
        /// Its name.
        name: String,
        /// The other array.
        #[arg(long, value_name = "ARRAY")]
        peer: String,
        /// The LUN there.
        #[arg(long, value_name = "LUN")]
        mapped_lun: u16,
        /// The LUN here; the lowest free one without it.
        #[arg(long)]
        lun: Option<u16>,
        /// plain, or command where it is the other array's command device.
        #[arg(long)]
        role: Option<String>,
        /// A listed initiator that sees it; may be given several times.
        #[arg(long, value_name = "IQN")]
        initiator: Vec<String>,
    },
    /// Take a virtual volume out; nothing of the other array changes.
    #[command(after_help = "Example:\n  kagami --via /dev/sdb lun map remove far")]
    Remove {
        /// Which.
        volume: String,
        /// Although it is in use.
        #[arg(long)]
        force: bool,
    },
}

/// CHAP names, and the files on the array's machine that hold the secrets.
#[derive(Args, Clone, Debug)]
pub struct ChapArgs {
    /// CHAP name that the other side proves.
    #[arg(long, value_name = "NAME", requires = "chap_secret_file")]
    pub chap_user: Option<String>,
    /// File with its secret, mode 0600, at least 12 characters.
    #[arg(long, value_name = "FILE", requires = "chap_user")]
    pub chap_secret_file: Option<PathBuf>,
    /// CHAP name that the array proves in turn.
    #[arg(long, value_name = "NAME", requires = "mutual_secret_file", requires = "chap_user")]
    pub mutual_user: Option<String>,
    /// File with the secret of that.
    #[arg(long, value_name = "FILE", requires = "mutual_user")]
    pub mutual_secret_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum InitiatorCommand {
    /// List an initiator.
    #[command(after_help = "Example:\n  kagami initiator add iqn.1993-08.org.debian:01:host1 --luns 0,7")]
    Add {
        /// Its iSCSI name.
        iqn: String,
        /// The LUNs that it sees, such as 0,7.
        #[arg(long, value_delimiter = ',')]
        luns: Vec<u16>,
        /// read, operate or admin, on command devices.
        #[arg(long)]
        rights: Option<String>,
        #[command(flatten)]
        chap: ChapArgs,
        /// Although others lose what they see, where it is the first that is listed.
        #[arg(long)]
        force: bool,
    },
    /// Change a listed initiator; what is not given stays.
    #[command(after_help = "Example:\n  kagami initiator set iqn.1993-08.org.debian:01:host1 --luns 0,7,9")]
    Set {
        /// Its iSCSI name.
        iqn: String,
        /// All LUNs that it sees from now on.
        #[arg(long, value_delimiter = ',', num_args = 0..)]
        luns: Option<Vec<u16>>,
        /// read, operate or admin, on command devices.
        #[arg(long)]
        rights: Option<String>,
        #[command(flatten)]
        chap: ChapArgs,
        /// It need not prove who it is any more.
        #[arg(long, conflicts_with = "chap_user")]
        no_chap: bool,
        /// Although it is logged in and loses LUNs.
        #[arg(long)]
        force: bool,
    },
    /// Take an initiator off the list.
    #[command(after_help = "Example:\n  kagami initiator remove iqn.1993-08.org.debian:01:host1")]
    Remove {
        /// Its iSCSI name.
        iqn: String,
        /// Although it is logged in.
        #[arg(long)]
        force: bool,
    },
    /// Who is listed, and what each sees.
    List,
}

#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in the life of the program")]
pub enum PeerCommand {
    /// Make another array known.
    #[command(
        after_help = "Example:\n  kagami peer add osaka --iqn iqn.2026-11.io.kagami:osaka --portal 192.0.2.9:3260"
    )]
    Add {
        /// Its name.
        name: String,
        /// Its target's iSCSI name.
        #[arg(long)]
        iqn: String,
        /// Where it listens, address:port; may be given several times.
        #[arg(long, required = true)]
        portal: Vec<String>,
        /// How long a command to it may take, such as 10s.
        #[arg(long, value_name = "TIME")]
        io_timeout: Option<String>,
        /// Connections of each session with it, 1 to 16.
        #[arg(long, value_name = "N")]
        connections: Option<u16>,
        /// Which orders are taken from it: signed, forward or none.
        #[arg(long)]
        orders: Option<String>,
        /// LUNs of this array that it may map.
        #[arg(long, value_delimiter = ',')]
        luns: Vec<u16>,
        #[command(flatten)]
        chap: ChapArgs,
    },
    /// Forget another array.
    Remove {
        /// Its name.
        name: String,
    },
    /// The known arrays.
    List,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PairCommand {
    /// Pair volumes: both arrays get the order, the far one through the first.
    #[command(after_help = "Examples:\n  \
        kagami pair create --group erp --primary tokyo:0 --secondary osaka:0 --journal tokyo:20 --secondary-journal osaka:20\n  \
        kagami pair create --primary tokyo:0 --secondary osaka:0 --journal auto --secondary-journal auto --wait\n\
        Several pairs of one group: --primary and --secondary several times, in the same order.\n\
        To a group that is there, with --group, the volumes join: it is split for that, and resynchronised.")]
    Create {
        /// The group's name; the first primary volume's without it.
        #[arg(long)]
        group: Option<String>,
        /// A volume that hosts write, as ARRAY:LUN.
        #[arg(long, required = true, value_name = "ARRAY:LUN")]
        primary: Vec<String>,
        /// The volume that follows it.
        #[arg(long, required = true, value_name = "ARRAY:LUN")]
        secondary: Vec<String>,
        /// The primary's journal; auto picks one that is not used.
        #[arg(long, default_value = "auto", value_name = "ARRAY:LUN|auto")]
        journal: String,
        /// The secondary's journal.
        #[arg(long, default_value = "auto", value_name = "ARRAY:LUN|auto")]
        secondary_journal: String,
        /// Although a volume is in memory only.
        #[arg(long)]
        force: bool,
        /// Until everything is copied.
        #[arg(long)]
        wait: bool,
    },
    /// States, positions, lag.
    #[command(
        after_help = "Examples:\n  kagami pair status\n  kagami pair status erp --json\n  kagami pair status erp --watch"
    )]
    Status {
        /// Which; all without it.
        group: Option<String>,
        /// Again and again.
        #[arg(long)]
        watch: bool,
    },
    /// Stop at one moment; done when the secondary has all that was written before.
    Split {
        /// Which.
        group: Option<String>,
        /// Hosts may write the secondary.
        #[arg(long)]
        writable: bool,
    },
    /// Have a group at this array behave in another way, at once and from now on.
    #[command(after_help = "Examples:\n  \
        kagami pair set erp bandwidth=50MiB pace=gentle\n  \
        kagami pair set erp hold=10m secondary_access=read\n\
        The names and values are those of [[group]] in the configuration; a group that is in the file is changed there.")]
    Set {
        /// Which.
        group: String,
        /// One after the other.
        #[arg(required = true, value_name = "KEY=VALUE")]
        options: Vec<String>,
    },
    /// Go on: copy the difference.
    Resync {
        /// Which.
        group: Option<String>,
        /// The array that gives up what it alone has.
        #[arg(long, value_name = "ARRAY")]
        discard: Option<String>,
    },
    /// Exchange the sides, without losing a write.
    #[command(
        after_help = "Exit codes: 10 done, 12 already so, 3 refused, 4 it goes on, 5 peer unreachable."
    )]
    Swap {
        /// Which.
        group: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Give up a swap that is not done yet.
        #[arg(long, conflicts_with = "dry_run")]
        cancel: bool,
    },
    /// Make the secondary writable without its primary.
    #[command(after_help = "Give it at the secondary. Exit codes: 11 done, 12 already so, 3 refused.")]
    Takeover {
        /// Which.
        group: Option<String>,
        /// Only say what would be done and lost.
        #[arg(long)]
        dry_run: bool,
        /// Although it is not consistent.
        #[arg(long)]
        force: bool,
    },
    /// End a group at both arrays; data stay.
    Delete {
        /// Which.
        group: Option<String>,
        /// Although it cannot do so itself.
        #[arg(long)]
        force: bool,
        /// Only at the array that is asked.
        #[arg(long)]
        here: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// Positions and areas.
    Status {
        /// Which group; all without it.
        group: Option<String>,
    },
    /// Have the secondary read the primary's journal.
    Acquire {
        /// Which group.
        group: Option<String>,
        /// Up to that offset; all there is without it.
        #[arg(long, value_name = "OFFSET")]
        to_pos: Option<u64>,
    },
    /// Have the secondary apply its journal; all that it has read, or up to a place, a time or a marker.
    #[command(after_help = "Examples:\n  kagami journal restore erp --to-marker before-upgrade\n  \
        kagami journal restore erp --to-time 2026-11-23T04:00:00Z")]
    Restore {
        /// Which group.
        group: Option<String>,
        /// Up to that offset.
        #[arg(long, value_name = "OFFSET", conflicts_with_all = ["to_time", "to_marker"])]
        to_pos: Option<u64>,
        /// Up to that moment: UTC as RFC 3339, or seconds since 1970.
        #[arg(long, value_name = "TIME", conflicts_with = "to_marker")]
        to_time: Option<String>,
        /// Up to that marker.
        #[arg(long, value_name = "NAME")]
        to_marker: Option<String>,
    },
    /// Let the primary free its journal, as far as the secondary has it.
    Purge {
        /// Which group.
        group: Option<String>,
        /// Up to that offset; all that the secondary has without it.
        #[arg(long, value_name = "OFFSET")]
        to_pos: Option<u64>,
    },
    /// The whole cycle, driven from here: status, acquire, restore, purge.
    Cycle {
        /// Which group.
        group: Option<String>,
        /// Again until nothing is left.
        #[arg(long)]
        until_empty: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write everything, what was made at run time included, as one file that kagamid takes.
    #[command(
        after_help = "Example:\n  kagami config export > tokyo.toml && kagamid --config tokyo.toml --check"
    )]
    Export,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        for wrong in [
            &["kagami"][..],
            &["kagami", "volume", "create"],
            &["kagami", "volume", "create", "a", "--path", "/x", "--backend", "ram"],
            &["kagami", "initiator", "add", "iqn.x", "--chap-user", "u"],
            &["kagami", "peer", "add", "a", "--iqn", "iqn.x"],
            &["kagami", "volumes", "--operator", "ops"],
            &["kagami", "completions", "tcsh"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
        for right in [
            &["kagami", "stats", "--json", "--via", "unix:/x"][..],
            &[
                "kagami",
                "--initiator",
                "iqn.y",
                "volume",
                "create",
                "a",
                "--initiator",
                "iqn.x",
                "--array",
                "b",
            ],
            &["kagami", "volume", "resize", "a", "--size", "1GiB", "--operator", "o", "--key-file", "/k"],
            &["kagami", "lun", "map", "add", "a", "--peer", "b", "--mapped-lun", "1", "--timeout", "5s"],
            &["kagami", "volume", "delete", "a", "--generation", "4", "--record", "/r"],
        ] {
            assert!(Cli::try_parse_from(right).is_ok(), "{right:?}");
        }
    }
}
