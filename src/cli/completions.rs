//! `vwatch completions`: what a shell completes behind `vwatch`.

use clap::{Args, Command, ValueEnum};
use clap_complete::{generate, shells};

use super::failure::Failure;
use super::output::print;

/// The program that is completed.
const NAME: &str = "vwatch";

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
    let mut script = Vec::new();
    // not by the type of the crate for all shells, which would bring the code of those that are not offered
    let (command, script_to) = (&mut command, &mut script);
    match args.shell {
        Shell::Bash => generate(shells::Bash, command, NAME, script_to),
        Shell::Zsh => generate(shells::Zsh, command, NAME, script_to),
        Shell::Fish => generate(shells::Fish, command, NAME, script_to),
    }
    print(&script)
}
