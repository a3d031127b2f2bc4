//! `vwatch version`: which program this is.

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output::{Format, Output, print, table};
use crate::core::protocol::ProtocolRange;

/// Print the version of this program
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch version
  vwatch version -w json | jq -r .commit

It asks no node: 'vwatch members -w json' has the versions of nodes.")]
pub(super) struct Version {
    #[command(flatten)]
    output: Output,
}

/// What a program is built from, and what it speaks.
#[derive(Debug, Serialize)]
struct Build {
    version: &'static str,
    commit: &'static str,
    protocol: Protocol,
    target: String,
}

/// The versions of the peer protocol.
#[derive(Debug, Serialize)]
struct Protocol {
    oldest: u8,
    newest: u8,
}

/// Runs it. `commit` is that of the source, if it was known when the program was built.
pub(super) fn run(args: &Version, commit: Option<&'static str>) -> Result<(), Failure> {
    let speaks = ProtocolRange::IMPLEMENTED;
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown"),
        protocol: Protocol { oldest: speaks.oldest(), newest: speaks.newest() },
        target: target(),
    };
    let text = match args.output.format {
        Format::Simple => format!("{}\n", build.version),
        Format::Json => {
            format!("{}\n", serde_json::to_string(&build).expect("texts and numbers"))
        }
        Format::Table => {
            let protocol = speaks.to_string();
            let row = vec![build.version.to_owned(), build.commit.to_owned(), protocol, build.target];
            table(&["VERSION", "COMMIT", "PROTOCOL", "TARGET"], &[row])
        }
    };
    print(text.as_bytes())
}

/// The platform, as Rust names it.
fn target() -> String {
    let environment = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-unknown-{}-{environment}", std::env::consts::ARCH, std::env::consts::OS)
}
