//! The command line.

use clap::{Parser, ValueHint};
use kagami_shell::Shell;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  kagamid
      Serve the embedded default on 127.0.0.1:3260: LUN 0, a sparse file of 1 GiB in ./kagami-data,
      and LUN 1, a command device. Prints how to attach a Linux host.
  kagamid --config /etc/kagami/tokyo.toml
      Serve a configuration. SIGHUP reloads it, SIGTERM stops in order.
  kagamid --config tokyo.toml --check
      Say whether the configuration fits this machine; change nothing.
  kagamid --config tokyo.toml --check --offline --json
      Check the file alone, for an editor or a pipeline.
  kagamid --config tokyo.toml --adopt db
      Accept that the device of volume db is another one than recorded.
  kagamid --completions bash > /usr/share/bash-completion/completions/kagamid
      Have the shell complete this command line. --man FOLDER writes the man page.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused in this state (in use).";

/// The Kagami storage array: serves volumes over iSCSI.
#[derive(Clone, Debug, Parser)]
#[command(name = "kagamid", version, after_help = EXAMPLES)]
pub struct Cli {
    /// The configuration (TOML). Without it, an embedded default is served.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration against this machine, and serve nothing.
    #[arg(long)]
    pub check: bool,

    /// With --check: look at the file only, not at the machine.
    #[arg(long, requires = "check")]
    pub offline: bool,

    /// With --check: report as JSON.
    #[arg(long, requires = "check")]
    pub json: bool,

    /// Accept that the device of this volume is not the recorded one; may be given several times.
    #[arg(long, value_name = "VOLUME", conflicts_with = "check")]
    pub adopt: Vec<String>,

    /// Print what completes this command line in a shell, and serve nothing.
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<Shell>,

    /// Write the man page into this folder, which must exist, and serve nothing.
    #[arg(long, value_name = "FOLDER", exclusive = true, value_hint = ValueHint::DirPath)]
    pub man: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["kagamid", "--offline"]).is_err());
        assert!(Cli::try_parse_from(["kagamid", "--check", "--json"]).is_ok());
        assert!(Cli::try_parse_from(["kagamid", "--completions", "fish"]).is_ok());
        assert!(Cli::try_parse_from(["kagamid", "--completions", "fish", "--check"]).is_err());
    }
}
