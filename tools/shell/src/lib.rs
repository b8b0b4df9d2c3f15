//! Completions and man pages of all three programs, generated from their command lines' own descriptions. Called by
//! `kagami completions` and `kagami man`, `kagami-bench completions` and `kagami-bench man`, and by `kagamid
//! --completions` and `kagamid --man`. Decides nothing about when or where.
#![forbid(unsafe_code)]

use clap::{Command, ValueEnum};
use clap_complete::Shell as Kind;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// A shell that completes command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// To be read by `source`, or put where bash-completion looks.
    Bash,
    /// `_NAME` in a folder of `$fpath`.
    Zsh,
    /// `NAME.fish` in a folder of completions.
    Fish,
}

/// What the shell reads to complete the command line.
#[must_use]
pub fn script(mut command: Command, shell: Shell) -> Vec<u8> {
    let kind = match shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut command, name, &mut script);
    script
}

/// Prints [`script`] on standard output. A reader that went away is not an error.
///
/// # Errors
/// One line that says what went wrong.
pub fn completions(command: Command, shell: Shell) -> Result<(), String> {
    match io::stdout().write_all(&script(command, shell)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("the completions could not be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// Writes the man pages, one for each command, into an existing folder: `kagami.1`, `kagami-volume.1`,
/// `kagami-volume-create.1` and so on.
///
/// # Errors
/// One line that says what went wrong and how to mend it.
pub fn man(command: Command, folder: &Path) -> Result<(), String> {
    // Pages for `help` would say nothing.
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)
        .map_err(|error| format!("{}: {error}; the folder must exist", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let volume =
            Command::new("volume").subcommand(Command::new("create").arg(Arg::new("size").long("size")));
        Command::new("tool").version("1").arg(Arg::new("key").long("key-file")).subcommand(volume)
    }

    #[test]
    fn every_shell_has_its_script() {
        for (shell, sign) in
            [(Shell::Bash, "_tool()"), (Shell::Zsh, "#compdef tool"), (Shell::Fish, "complete -c tool")]
        {
            let text = String::from_utf8(script(command(), shell)).unwrap();
            assert!(text.contains(sign) && text.contains("key-file") && text.contains("create"), "{shell:?}");
        }
    }

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        man(command(), folder.path()).unwrap();
        for name in ["tool.1", "tool-volume.1", "tool-volume-create.1"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.contains(".TH") && text.contains(".SH"), "{name}");
        }
        let error = man(command(), &folder.path().join("none")).unwrap_err();
        assert!(error.ends_with("the folder must exist"), "{error}");
    }
}
