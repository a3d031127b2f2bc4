//! `vwatch put NAME [VALUE|-]`: writes a name.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Args;

use super::args;
use super::client::{Answer, OrFailure, Request};
use super::failure::{Failure, complain};
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on, check_name};
use super::output::{Output, Row, print};
use super::under_lease::UnderLease;
use crate::client::url::{parameter, with_query};
use crate::core::Stamp;
use crate::wire::duration::{self, GoDuration};

/// Most bytes that are read from standard input: far more than a node accepts, so that the node rejects the value.
pub(super) const MAX_INPUT_BYTES: u64 = 64 << 20;

/// Write a name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch put repo/artifact:latest 3456   the version is a hash of the data,
                                         and is printed
  vwatch put --version v42 NAME 3456
  vwatch put --namespace team-a NAME 3456
  vwatch put --expires 10s hosts/a up    deleted 10 s later, unless it is
                                         written again
  date | vwatch put clock                the value is standard input, unchanged
  vwatch put -- -name -value             a name and a value that begin with a dash

A write that lost to a newer one: exit code 5. One that a lease of others stands in the way of: 76; one under a lease \
that is over: 75. A write that was sent and not answered may have been done, or be done \
later: exit code 6. With several nodes the command then repeats the write at the next one with the same stamp, so that \
it stays one write.")]
pub(super) struct Put {
    /// The name to write, without any change
    name: String,
    /// The data; '-' or nothing reads standard input
    value: Option<OsString>,
    /// The version; without one it is a hash of the data
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Delete the name so long after this write, unless it is written again: 1s to a quarter of the nodes'
    /// --tombstone-grace
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// Time of the write, in microseconds since 1970 [default: the node's time]
    #[arg(long, value_name = "MICROS", value_parser = args::stamp)]
    modified: Option<Stamp>,
    #[command(flatten)]
    under: UnderLease,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Put) -> Result<(), Failure> {
    check_name(&args.name)?;
    let client = args.nodes.writers()?;
    let data = match &args.value {
        Some(value) if value != "-" => value.clone().into_vec(),
        _ => read_input()?,
    };
    let request = request(args, data)?;
    let mut client = client.within(args.time.timeout);
    let answer = block_on(async { client.send(&request).await })?.of_record(&args.name)?;
    print(printed(args, &answer).as_bytes())
}

/// Reads the data of a write from standard input.
pub(super) fn read_input() -> Result<Vec<u8>, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        complain("reading the value from standard input: end it with Ctrl-D");
    }
    let mut data = Vec::new();
    let read = input.lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut data);
    read.map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
    if data.len() as u64 > MAX_INPUT_BYTES {
        return Err(too_large());
    }
    Ok(data)
}

/// The failure for data that no node accepts.
pub(super) fn too_large() -> Failure {
    Failure::Usage(format!("value too large: more than {MAX_INPUT_BYTES} bytes: write its address instead"))
}

fn request(args: &Put, data: Vec<u8>) -> Result<Request, Failure> {
    let version = args.version.as_ref().map(|version| parameter("version", version));
    let expires = args.expires.map(|lasts| parameter("expires", &GoDuration(lasts).to_string()));
    let parameters: Vec<_> = version.into_iter().chain(expires).collect();
    let request = Request::put(with_query(&args.within.place().path_of(&args.name), &parameters), data);
    args.under.of(request.stamped(args.modified), &args.name, &args.within)
}

fn printed(args: &Put, answer: &Answer) -> String {
    Row::written(&args.name, answer, false).printed(args.output.format)
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    fn args(line: &str) -> Put {
        let typed = std::iter::once("put").chain(line.split_whitespace());
        Put::from_arg_matches(&Put::augment_args(Command::new("put")).get_matches_from(typed)).unwrap()
    }

    #[tokio::test]
    async fn writes_with_the_given_version_and_stamp() {
        for (line, target) in [
            ("n", "/v1/versions/n"),
            ("--namespace a n", "/v1/ns/a/versions/n"),
            ("--version a&b n", "/v1/versions/n?version=a%26b"),
            ("--expires 90s n", "/v1/versions/n?expires=1m30s"),
            ("--modified 7 --version v n", "/v1/versions/n?version=v&modified=7"),
        ] {
            let fake =
                Fake::start(vec![answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "1")], "")]);
            let args = args(line);
            let answer = fake.client().send(&request(&args, b"data".to_vec()).unwrap()).await.unwrap();
            assert_eq!(printed(&args, &answer.of_record("n").unwrap()), "v\n");
            let seen = &fake.seen()[0];
            assert!(seen.starts_with(&format!("PUT {target} HTTP/1.1\r\n")), "{seen}");
            assert!(seen.ends_with("\r\n\r\ndata"), "{seen}");
        }
    }

    #[tokio::test]
    async fn a_write_under_a_lease_has_its_token() {
        let written = answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "1")], "");
        let locked = [("X-Vwatch-Error", "locked"), ("Content-Type", "text/plain")];
        let lost = [("X-Vwatch-Error", "lease-not-held"), ("Content-Type", "text/plain")];
        let fake = Fake::start(vec![
            written,
            answer("423 Locked", &locked, "locked: by b\n"),
            answer("412 Precondition Failed", &lost, "no lease\n"),
        ]);
        let mut client = fake.client();
        let mut sent = async |line: &str| {
            client.send(&request(&args(line), Vec::new()).unwrap()).await.unwrap().of_record("n").map(drop)
        };
        assert_eq!(sent("--lease 7 n").await, Ok(()));
        assert_eq!(sent("n").await, Err(Failure::Held("locked: by b".to_owned())));
        assert_eq!(sent("--lease 7 n").await, Err(Failure::LeaseLost("no lease".to_owned())));
        let seen = fake.seen();
        assert!(seen[0].contains("\r\nx-vwatch-lease: 7\r\n"), "{seen:?}");
        assert!(!seen[1].contains("x-vwatch-lease"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_lost_write_has_the_winning_version() {
        let fake = Fake::start(vec![answer("409 Conflict", &[("ETag", "\"w\"")], "")]);
        let answer = fake.client().send(&request(&args("n"), Vec::new()).unwrap()).await.unwrap();
        let failure = answer.or_refusal("n").unwrap_err();
        assert_eq!(failure, Failure::Lost("n: lost: a newer write stands: version w".to_owned()));
    }
}
