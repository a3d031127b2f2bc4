//! `vwatch revert NAME REVISION`: writes an old version of a name again.

use std::io::IsTerminal;
use std::time::Instant;

use clap::Args;

use super::args::{self, quoted};
use super::client::{Answer, Client, OrFailure, Request};
use super::confirm::confirm;
use super::failure::Failure;
use super::get::{Past, read_past};
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on, check_name};
use super::output::{Output, Row, print, rfc3339};
use super::under_lease::UnderLease;
use crate::client::url::{parameter, with_query};
use crate::core::Stamp;

/// Write an old version of a name again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch history NAME                    lists revisions
  vwatch revert NAME 1741837692000000    asks, and prints the version
  vwatch revert -f NAME 1741837692000000

The command reads the version and the data of that revision, and writes them as a new write: readers wake, and the \
history has one entry more. If the revision is a delete, the command deletes the name. What was written between the read \
and the write is replaced too.

Without a terminal on standard input it needs -f. A revision that is not kept: exit code 4. The other exit codes are \
those of 'vwatch put'.")]
pub(super) struct Revert {
    /// The name, without any change
    name: String,
    /// The revision, as 'vwatch history' lists it
    #[arg(value_name = "REVISION", value_parser = args::stamp)]
    revision: Stamp,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
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

pub(super) fn run(args: &Revert) -> Result<(), Failure> {
    check_name(&args.name)?;
    if !args.force && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "revert asks before it writes, and standard input is no terminal: run vwatch revert -f {}{} {}",
            args.within.typed(),
            quoted(&args.name),
            args.revision
        )));
    }
    let readers = args.nodes.reader_urls()?;
    let writers = args.nodes.writer_urls(true)?;
    let began = Instant::now();
    let old = block_on(async {
        let mut client = Client::new(readers, "client-url").within(args.time.timeout);
        read(args, &mut client).await
    })?;
    // the time of the answer on the terminal does not count
    let left = args.time.timeout.saturating_sub(began.elapsed());
    if !args.force {
        confirm(&question(args, &old), "nothing was written")?;
    }
    let answer = block_on(async {
        let mut client = Client::new(writers, "server-url").within(left);
        client.send(&request(args, &old)?).await?.of_record(&args.name)
    })?;
    print(printed(args, &old, &answer).as_bytes())
}

/// What a revision is.
#[derive(Debug, PartialEq, Eq)]
enum Old {
    Value { version: String, data: Vec<u8> },
    Delete,
}

async fn read(args: &Revert, client: &mut Client) -> Result<Old, Failure> {
    let (path, past) = (args.within.place().path_of(&args.name), Past::Revision(args.revision));
    let found = read_past(&path, &args.name, past, client).await;
    let Some(answer) = found.map_err(|failure| args.within.advising(failure))? else {
        return Ok(Old::Delete);
    };
    match answer.version() {
        Some(version) => Ok(Old::Value { version: version.to_string(), data: answer.body.to_vec() }),
        None => Err(Failure::Failed(format!("{} answers without a version: name a node", answer.from))),
    }
}

fn question(args: &Revert, old: &Old) -> String {
    let what = match old {
        Old::Value { version, data } => format!("write version {version} ({} bytes) of", data.len()),
        Old::Delete => "delete the name, as at".to_owned(),
    };
    format!("{:?}: {what} {}? [y/N] ", args.name, rfc3339(args.revision.micros()))
}

fn request(args: &Revert, old: &Old) -> Result<Request, Failure> {
    let path = args.within.place().path_of(&args.name);
    let request = match old {
        Old::Value { version, data } => {
            Request::put(with_query(&path, &[parameter("version", version)]), data.clone())
        }
        Old::Delete => Request::delete(path),
    };
    args.under.of(request.stamped(args.modified), &args.name, &args.within)
}

fn printed(args: &Revert, old: &Old, answer: &Answer) -> String {
    Row::written(&args.name, answer, *old == Old::Delete).printed(args.output.format)
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;
    use crate::wire::headers::X_VWATCH_ERROR;

    fn args(line: &str) -> Revert {
        let typed = std::iter::once("revert").chain(line.split_whitespace());
        Revert::from_arg_matches(&Revert::augment_args(Command::new("revert")).get_matches_from(typed))
            .unwrap()
    }

    #[tokio::test]
    async fn a_value_is_written_again_with_its_version() {
        let old = answer("200 OK", &[("ETag", "\"a&b\""), ("X-Last-Sync", "7")], "old data");
        let fake = Fake::start(vec![
            old,
            answer("204 No Content", &[("ETag", "\"a&b\""), ("X-Last-Sync", "9")], ""),
        ]);
        let args = args("--modified 9 n 7");
        let old = read(&args, &mut fake.client()).await.unwrap();
        assert_eq!(
            question(&args, &old),
            "\"n\": write version a&b (8 bytes) of 1970-01-01T00:00:00.000007Z? [y/N] "
        );
        let written =
            fake.client().send(&request(&args, &old).unwrap()).await.unwrap().of_record("n").unwrap();
        assert_eq!(printed(&args, &old, &written), "a&b\n");
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/versions/n?revision=7 HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[1].starts_with("PUT /v1/versions/n?version=a%26b&modified=9 HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[1].ends_with("\r\n\r\nold data"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_delete_is_a_delete_again() {
        let gone = |stamp| {
            let headers = [("X-Last-Sync", stamp), (X_VWATCH_ERROR, "deleted")];
            answer("410 Gone", &headers, "deleted: n: it was\n")
        };
        let fake = Fake::start(vec![gone("7"), answer("204 No Content", &[("X-Last-Sync", "9")], "")]);
        let args = args("-f n 7");
        let old = read(&args, &mut fake.client()).await.unwrap();
        assert_eq!(old, Old::Delete);
        let written =
            fake.client().send(&request(&args, &old).unwrap()).await.unwrap().of_record("n").unwrap();
        assert_eq!(printed(&args, &old, &written), "(deleted)\n");
        assert!(fake.seen()[1].starts_with("DELETE /v1/versions/n HTTP/1.1\r\n"), "{:?}", fake.seen());
        // a node that does not know revisions says what is present
        let fake = Fake::start(vec![gone("8")]);
        assert!(matches!(read(&args, &mut fake.client()).await, Err(Failure::Failed(_))));
    }

    #[tokio::test]
    async fn a_revision_that_is_not_kept_is_missing() {
        for (status, code) in [("404 Not Found", "revision-unknown"), ("410 Gone", "compacted")] {
            let fake = Fake::start(vec![answer(status, &[(X_VWATCH_ERROR, code)], "x")]);
            let found = read(&args("n 7"), &mut fake.client()).await;
            assert!(matches!(found, Err(Failure::Missing(_))), "{found:?}");
        }
    }
}
