//! The program: start a node, and say in one line why it did not start.

use std::process::ExitCode;

use vwatch::{api, config::Config, node};

fn main() -> ExitCode {
    match node::run(Config::default(), api::paths, api::service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vwatch: {error}");
            ExitCode::from(2)
        }
    }
}
