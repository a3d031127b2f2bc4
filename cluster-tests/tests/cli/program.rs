//! `vwatch` as a user runs it, without the variables of this machine.

use std::process::{Command, Output};

use cluster_tests::node::binary;

/// The program with arguments.
pub(super) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VWATCH_")) {
        command.env_remove(name);
    }
    command
}

/// Its output, once it has ended.
pub(super) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary that was just built")
}

/// What it printed.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
