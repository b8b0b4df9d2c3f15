//! Completions and man pages, generated from the command line's own description.

use crate::cli::{Cli, Shell};
use clap::CommandFactory;
use clap_complete::Shell as Kind;
use kagami_admin::Refusal;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Prints what a shell reads to complete this tool's command line.
pub fn completions(shell: Shell) -> Result<(), Refusal> {
    match std::io::stdout().write_all(&script(shell)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Refusal::failed(format!("the completions could not be written: {error}")))
        }
        _ => Ok(()),
    }
}

fn script(shell: Shell) -> Vec<u8> {
    let kind = match shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut Cli::command(), "kagami", &mut script);
    script
}

/// Writes `kagami.1`, `kagami-volume.1`, `kagami-volume-create.1` and so on.
pub fn man(folder: &Path) -> Result<(), Refusal> {
    // Pages for `help` would say nothing.
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder)
        .map_err(|error| Refusal::failed(format!("{}: {error}; the folder must exist", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_its_script() {
        for (shell, sign) in
            [(Shell::Bash, "_kagami()"), (Shell::Zsh, "#compdef kagami"), (Shell::Fish, "complete -c kagami")]
        {
            let text = String::from_utf8(script(shell)).unwrap();
            assert!(text.contains(sign) && text.contains("key-file") && text.contains("resize"), "{shell:?}");
        }
    }

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        for name in ["kagami.1", "kagami-volume.1", "kagami-volume-create.1", "kagami-lun-map-add.1"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.contains(".TH") && text.contains(".SH"), "{name}");
        }
        assert_eq!(man(&folder.path().join("none")).unwrap_err().code, 1);
    }
}
