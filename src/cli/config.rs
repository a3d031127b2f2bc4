//! `vwatch config check`: whether a node would take a file of settings.

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use super::failure::{Failure, USAGE, complain};
use super::output::print;
use crate::config::raw::CONFIG;
use crate::config::{Config, Raw};

/// Check a file of settings, as a node reads it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch config check vwatch.toml && systemctl restart vwatch

It prints ok, or a line on standard error for each mistake. The variables of the environment count, as they do for a \
node: they take precedence over the file. Files that the settings name, such as certificates, are read too.

Exit codes: 0 a node would take it; 2 it would not.")]
struct Check {
    /// The file, as TOML
    #[arg(value_name = "FILE")]
    file: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(Check),
}

/// The command.
pub(super) fn command(with_values: fn(Command) -> Command) -> Command {
    let command = Command::new("config").about("Files of settings").subcommand_required(true);
    Action::augment_subcommands(command)
        .mut_subcommands(|command| with_values(command.args_override_self(true)))
}

/// Runs it.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match Action::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))? {
        Action::Check(check) => check.run(),
    }
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let named = [(CONFIG.name.to_owned(), self.file.clone())];
        let usage = |error: crate::config::ConfigError| Failure::Usage(error.to_string());
        let mut raw = Raw::collect(named, std::env::vars_os()).map_err(usage)?;
        if let Err(errors) = raw.read_file() {
            errors.iter().for_each(|error| complain(&error.to_string()));
            return Err(Failure::Told(USAGE));
        }
        match Config::from_raw(&raw) {
            Ok(_) => print(b"ok\n"),
            Err(error) => {
                let line = error.to_string();
                let is_named = line.contains(&self.file);
                Err(Failure::Usage(if is_named { line } else { format!("{}: {line}", self.file) }))
            }
        }
    }
}
