//! `vwatch completions`: what a shell completes behind `vwatch`.

use clap::{Args, Command, ValueEnum};

use super::failure::Failure;
use super::output::print;

/// Print what a shell needs to complete commands and options
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(vwatch completions bash)        in this shell
  vwatch completions bash > /usr/share/bash-completion/completions/vwatch
  vwatch completions zsh > \"${fpath[1]}/_vwatch\"
  vwatch completions fish > ~/.config/fish/completions/vwatch.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs it. `command` is the whole tree of commands.
pub(super) fn run(args: &Completions, mut command: Command) -> Result<(), Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "vwatch", &mut script);
    print(&script)
}
